/** Learning-rate schedules (FORMAT.md section 8). */

/** `linear` falls to 0 after `totalSteps`; both kinds rise from 0 over `warmupSteps`. */
export interface Schedule {
  kind: "linear" | "constant";
  learningRate: number;
  totalSteps: number;
  warmupSteps?: number | undefined;
}

/** The rate used in step s, counted from 0. */
export function learningRateAt(schedule: Schedule, s: number): number {
  const { kind, learningRate, totalSteps: S, warmupSteps: w = 0 } = schedule;
  if (s < w) return learningRate * s / w;
  return kind === "constant" ? learningRate : learningRate * (S - s) / (S - w);
}
