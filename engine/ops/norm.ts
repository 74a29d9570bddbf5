import normSource from "../../shaders/norm.wgsl" with { type: "text" };
import vectorsSource from "../../shaders/vectors.wgsl" with { type: "text" };
import rowsSource from "../../shaders/rows.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import type { HeadMatrix } from "../tensor/matrix.ts";
import {
  acquirePartials,
  addSlabs,
  type ColumnSums,
  columnSums,
  slabCount,
  slabVectors,
} from "./column_sums.ts";
import { headCounts, rowConstants, vectorConstants } from "./launch.ts";

const includes = { "vectors.wgsl": vectorsSource, "rows.wgsl": rowsSource };
const define = (name: string) => defineKernel({ name, file: "norm.wgsl", source: normSource, includes });
const forwardKernel = define("norm_forward");
const inputKernel = define("norm_backward_input");
const weightKernel = define("norm_backward_weight");

const none = { FORWARD: false, INPUT_GRADIENT: false, WEIGHT_GRADIENT: false };

/**
 * A norm of vectors of `columns`: y = n·(offset + weight) + bias with n = x / √(mean(x²) + ε) ("rms") or
 * n = (x − mean) / √(mean((x − mean)²) + ε) ("layer").
 */
export interface Norm<S> {
  kind: "rms" | "layer";
  /** Added to the stored weight. */
  offset: number;
  epsilon: number;
  rows: Dim<S>;
  /** Vectors of a row that are normalised one by one: 1, or the heads of q or k. */
  heads: number;
  columns: number;
}

/**
 * y = norm(x), or residual + norm(x) with `residual` laid out as y; saves what backward needs in `stats` [rows · heads]:
 * the reciprocal root of a vector, and its mean before it for "layer".
 */
export function normForward<S>(
  recorder: Recorder<S>,
  { kind, offset, epsilon, rows, heads, columns }: Norm<S>,
  slots: {
    x: HeadMatrix;
    weight: Slot;
    bias?: Slot | undefined;
    y: HeadMatrix;
    residual?: Slot | undefined;
    stats: Slot;
  },
): void {
  const { x, weight, bias, y, residual, stats } = slots;
  const constants = {
    ...none,
    FORWARD: true,
    LAYER: kind === "layer",
    BIAS: bias !== undefined,
    RESIDUAL: residual !== undefined,
    ...rowConstants(recorder.target),
    ...vectorConstants(recorder.target, columns, ...headCounts(x, y)),
  };
  recorder.dispatch(
    forwardKernel.variant(constants),
    {
      x: x.slot,
      weight,
      y: y.slot,
      stats,
      ...(bias ? { bias } : {}),
      ...(residual ? { residual } : {}),
    },
    (sizes) => {
      const count = dim(rows, sizes);
      return {
        params: { rows: count, heads, columns, epsilon, shift: offset, ...place("x", x), ...place("y", y) },
        groups: Math.ceil(count * heads / constants.ROWS),
      };
    },
  );
}

/** How {@linkcode normBackward} adds up. */
export interface NormBackwardOptions<S> {
  /** dx += the input's gradient; otherwise dx = it. */
  addToInput: boolean;
  /** Whether a run adds to what dweight and dbias hold, or writes them. */
  accumulate: (sizes: S) => boolean;
  /** The largest `rows` of any run. */
  capacityRows: number;
}

/**
 * dx = or += the input's gradient; dweight and dbias, where they are wanted, (+)= their sums over all vectors, in a fixed
 * order.
 */
export function normBackward<S>(
  recorder: Recorder<S>,
  shape: Norm<S>,
  slots: {
    x: HeadMatrix;
    weight: Slot;
    stats: Slot;
    dy: HeadMatrix;
    dx: HeadMatrix;
    dweight?: Slot | undefined;
    dbias?: Slot | undefined;
  },
  { addToInput, accumulate, capacityRows }: NormBackwardOptions<S>,
): void {
  const { kind, offset, rows, heads, columns } = shape;
  const { x, weight, stats, dy, dx, dweight, dbias } = slots;
  const LAYER = kind === "layer";
  const params = (sizes: S) => ({
    rows: dim(rows, sizes),
    heads,
    columns,
    shift: offset,
    slab: slabVectors(heads),
    accumulate: Number(addToInput),
    ...place("x", x),
    ...place("dy", dy),
    ...place("dx", dx),
  });
  const sumsInto = (result: Slot): ColumnSums<S> => ({
    rows,
    heads,
    columns,
    capacityRows,
    accumulate,
    result,
  });
  if (dweight) {
    const sums = sumsInto(dweight);
    const partial = acquirePartials(recorder, sums);
    const vectorWidth = vectorConstants(recorder.target, columns, ...headCounts(x, dy));
    recorder.dispatch(
      weightKernel.variant({ ...none, ...vectorWidth, LAYER, THREADS: 1, ROWS: 1, WEIGHT_GRADIENT: true }),
      { x: x.slot, stats, dy: dy.slot, partial },
      (sizes) => ({
        params: params(sizes),
        groups: [Math.ceil(columns / (vectorWidth.VEC ? 4 : 1) / 64), slabCount(sums, sizes), 1],
      }),
    );
    addSlabs(recorder, sums, partial);
    recorder.pool.release(partial);
  }
  if (dbias) {
    const sums = sumsInto(dbias);
    const partial = acquirePartials(recorder, sums);
    columnSums(recorder, sums, { x: dy, partial });
    recorder.pool.release(partial);
  }
  const constants = {
    ...rowConstants(recorder.target),
    ...vectorConstants(recorder.target, columns, ...headCounts(x, dy, dx)),
  };
  recorder.dispatch(
    inputKernel.variant({ ...none, ...constants, LAYER, INPUT_GRADIENT: true }),
    { x: x.slot, weight, stats, dy: dy.slot, dx: dx.slot },
    (sizes) => ({
      params: params(sizes),
      groups: Math.ceil(dim(rows, sizes) * heads / constants.ROWS),
    }),
  );
}

/** Where the vectors of a matrix lie, as the kernels' params. */
function place(name: string, { ld, offset, headStride }: HeadMatrix): Record<string, number> {
  return { [`ld_${name}`]: ld, [`${name}_offset`]: offset, [`${name}_stride`]: headStride };
}
