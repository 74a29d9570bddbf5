import ioSource from "../../shaders/gemm_io.wgsl" with { type: "text" };
import largestSource from "../../shaders/largest_magnitude.wgsl" with { type: "text" };
import matrixSource from "../../shaders/gemm_subgroup_matrix.wgsl" with { type: "text" };
import { defineKernel, type KernelVariant } from "../gpu/kernel.ts";
import type { MatrixUnit } from "./matrix_unit.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import type { Matrix } from "../tensor/matrix.ts";
import { type Gemm, gemmBindings, type GemmForm, gemmForm, gemmParams } from "./gemm_product.ts";

const product = defineKernel({
  name: "gemm_subgroup_matrix",
  file: "gemm_subgroup_matrix.wgsl",
  source: matrixSource,
  includes: { "gemm_io.wgsl": ioSource },
});

const largest = defineKernel({
  name: "largest_magnitude",
  file: "largest_magnitude.wgsl",
  source: largestSource,
});

/** Parts that a matrix's largest magnitude is taken over: enough workgroups to read it at full bandwidth. */
export const SLABS = 256;

/** What a subgroup keeps along one side: outputs, in so many units at most. 128×128 and 64×64 outputs a workgroup. */
const SUBGROUP_SIDES = { large: { outputs: 64, units: 4 }, small: { outputs: 32, units: 2 } };

/** Size of the tiles that matrix units take. */
export type MatrixTile = keyof typeof SUBGROUP_SIDES;

/** Below 32 rows or columns most of a tile would be padding, and the f32 kernels wait for memory anyway. */
export function matrixTakes<S>({ capacityM, n }: Gemm<S>): boolean {
  return capacityM >= 32 && n >= 32;
}

/** The kernel of a unit and tile size, and the [rows, columns] of C that one workgroup computes. */
export function matrixVariant(
  { M, N, K, subgroupSize }: MatrixUnit,
  tile: MatrixTile,
  { layout, vec, bf16 = false, bias = false }: GemmForm,
): { variant: KernelVariant; outputs: [number, number] } {
  const { outputs, units } = SUBGROUP_SIDES[tile];
  const fragments = (side: number) => Math.min(units, outputs / side);
  const constants = {
    UNIT_M: M,
    UNIT_N: N,
    UNIT_K: K,
    SUBGROUP: subgroupSize,
    SLABS,
    FRAGMENTS_M: fragments(M),
    FRAGMENTS_N: fragments(N),
    A_T: layout === "TN",
    B_T: layout === "NT",
    VEC: vec,
    B_BF16: bf16,
    BIAS: bias,
  };
  return {
    variant: product.variant(constants),
    outputs: [2 * M * constants.FRAGMENTS_M, 2 * N * constants.FRAGMENTS_N],
  };
}

/**
 * Records a product on matrix units: both operands rounded to f16 after scaling by a power of two of their own, so that
 * nothing overflows and what is lost lies 2^38 below a matrix's largest magnitude; sums in f32. The last bits depend on how
 * the sum over k is split over calls. `tile` overrides the choice.
 */
export function matrixGemm<S>(
  recorder: Recorder<S>,
  gemm: Gemm<S>,
  unit: MatrixUnit,
  tile?: MatrixTile,
): void {
  const { layout, a, b, m, n, k, capacityM } = gemm;
  const form = gemmForm(gemm, recorder.target);
  const byTile = (name: MatrixTile) => matrixVariant(unit, name, form);
  const [large, small] = [byTile("large"), byTile("small")];
  // As with f32 tiles: the larger one where it still gives some 200 workgroups.
  const { outputs: [rows, columns] } = large;
  const isLarge = tile ? tile === "large" : Math.ceil(capacityM / rows) * Math.ceil(n / columns) >= 200;
  const { variant, outputs } = isLarge ? large : small;

  const [rowsA, columnsA] = layout === "TN" ? [k, m] : [m, k];
  const [rowsB, columnsB] = layout === "NT" ? [n, k] : [k, n];
  const largestA = recorder.pool.acquire(SLABS * 4, "largest of A");
  const largestB = recorder.pool.acquire(SLABS * 4, "largest of B");
  largestMagnitude(recorder, a, rowsA, columnsA, largestA);
  largestMagnitude(recorder, b, rowsB, columnsB, largestB);
  recorder.dispatch(
    variant,
    { ...gemmBindings(recorder, gemm), largest_a: largestA, largest_b: largestB },
    (sizes) => ({
      params: gemmParams(gemm, sizes),
      groups: [Math.ceil(n / outputs[1]), Math.ceil(dim(m, sizes) / outputs[0]), 1],
    }),
    (sizes) => 2 * dim(m, sizes) * n * dim(k, sizes),
  );
  recorder.pool.release(largestA);
  recorder.pool.release(largestB);
}

/** Records the maxima of |x| over {@link SLABS} parts of rows × columns, as bits: NaN counts as larger than infinity. */
export function largestMagnitude<S>(
  recorder: Recorder<S>,
  { slot, ld, offset, bf16 = false }: Matrix & { bf16?: boolean | undefined },
  rows: Dim<S>,
  columns: Dim<S>,
  maxima: Slot,
): void {
  recorder.dispatch(
    largest.variant({ SLABS, BF16: bf16 }),
    { x: slot, largest: maxima },
    (sizes) => ({
      params: { rows: dim(rows, sizes), columns: dim(columns, sizes), ld, offset },
      groups: [SLABS, 1, 1],
    }),
    (sizes) => dim(rows, sizes) * dim(columns, sizes),
  );
}
