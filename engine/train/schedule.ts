/** How the learning rate moves over `totalSteps` optimizer steps. */
export interface Schedule {
  /** Peak learning rate, at least 0. */
  learningRate: number;
  /** Steps after which a linear schedule would be at 0; more can't be done. */
  totalSteps: number;
  /** Linear decay (default), or none. */
  schedule?: "linear" | "constant" | undefined;
  /** Steps in which the rate rises linearly from 0. Default 0. */
  warmupSteps?: number | undefined;
}

/**
 * Learning rate of step s = 0, 1, …: lr · s / w in the warm-up of w steps, then constant, or falling linearly so that it
 * would reach 0 at step `totalSteps` (get_linear_schedule_with_warmup of Hugging Face Transformers).
 */
export function learningRateAt(options: Schedule, step: number): number {
  const { learningRate, totalSteps, schedule = "linear", warmupSteps = 0 } = options;
  if (step < warmupSteps) return learningRate * step / warmupSteps;
  if (schedule === "constant") return learningRate;
  return learningRate * Math.max(0, totalSteps - step) / Math.max(1, totalSteps - warmupSteps);
}
