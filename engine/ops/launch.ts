import type { KernelTarget } from "../gpu/recorder.ts";

/** Constants of kernels that reduce rows (shaders/rows.wgsl): one 8-wide vector of rows, or a workgroup a row. */
export function rowConstants(target: KernelTarget): { THREADS: number; ROWS: number } {
  return target.isSoftware ? { THREADS: 1, ROWS: 8 } : { THREADS: 64, ROWS: 1 };
}

/** Workgroups of 64 for one invocation an element. */
export function elementGroups(count: number): number {
  return Math.ceil(count / 64);
}
