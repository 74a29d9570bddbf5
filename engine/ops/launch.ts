import type { KernelTarget } from "../gpu/recorder.ts";
import type { HeadMatrix } from "../tensor/matrix.ts";
import { kernelSettings } from "./target.ts";

/** Constants of kernels that reduce rows (shaders/rows.wgsl): one 8-wide vector of rows, or a workgroup a row. */
export function rowConstants(target: KernelTarget): { THREADS: number; ROWS: number } {
  const { force } = kernelSettings(target);
  const lanes = force?.rows ? force.rows === "lanes" : target.isSoftware;
  return lanes ? { THREADS: 1, ROWS: 8 } : { THREADS: 64, ROWS: 1 };
}

/** Workgroups of 64 for one invocation an element. */
export function elementGroups(count: number): number {
  return Math.ceil(count / 64);
}

/** The vector width of kernels that include shaders/vectors.wgsl: 4 if all these element counts allow it, else 1. */
export function vectorConstants(target: KernelTarget, ...counts: readonly number[]): { VEC: boolean } {
  return { VEC: kernelSettings(target).force?.vectorWidth !== 1 && counts.every((count) => count % 4 === 0) };
}

/** Where vectors of a head matrix may begin, for {@link vectorConstants}. */
export function headCounts(...places: readonly HeadMatrix[]): number[] {
  return places.flatMap(({ ld, offset, headStride }) => [ld, offset, headStride]);
}
