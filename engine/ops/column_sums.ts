import columnSumsSource from "../../shaders/column_sums.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import type { HeadMatrix } from "../tensor/matrix.ts";

const define = (name: string) =>
  defineKernel({
    name,
    file: "column_sums.wgsl",
    source: columnSumsSource,
    includes: { "elements.wgsl": elementsSource },
  });
const slabsKernel = define("column_slabs");
const sumsKernel = define("column_sums");

/** Rows of `heads` vectors of `columns` that are summed to one vector in two stages, in a fixed order. */
export interface ColumnSums<S> {
  rows: Dim<S>;
  heads: number;
  columns: number;
  /** The largest `rows` of any run. */
  capacityRows: number;
  result: Slot;
  /** Elements of `result` before the first sum. */
  resultOffset?: number | undefined;
  /** Whether a run adds to what `result` holds, or writes it. */
  accumulate: (sizes: S) => boolean;
}

/**
 * Vectors that one invocation adds in the first stage. Rows of many heads have larger slabs: the second stage walks over
 * all of them, and with them over few columns.
 */
export function slabVectors(heads: number): number {
  return 64 * Math.min(heads, 8);
}

/** Slabs of a run. */
export function slabCount<S>({ rows, heads }: Pick<ColumnSums<S>, "rows" | "heads">, sizes: S): number {
  return Math.ceil(dim(rows, sizes) * heads / slabVectors(heads));
}

/** A slot for the first stage's sums, [slabs, columns]; the caller releases it. */
export function acquirePartials<S>(recorder: Recorder<S>, sums: ColumnSums<S>): Slot {
  const { heads, columns, capacityRows } = sums;
  const slabs = Math.ceil(capacityRows * heads / slabVectors(heads));
  return recorder.pool.acquire(slabs * columns * 4, "partial sums");
}

/** Both stages over the vectors of x. */
export function columnSums<S>(
  recorder: Recorder<S>,
  sums: ColumnSums<S>,
  { x, partial }: { x: HeadMatrix; partial: Slot },
): void {
  const { rows, heads, columns } = sums;
  recorder.dispatch(slabsKernel.variant({ PARTIAL: true }), { x: x.slot, partial }, (sizes) => ({
    params: {
      rows: dim(rows, sizes),
      heads,
      columns,
      slab: slabVectors(heads),
      ld: x.ld,
      offset: x.offset,
      stride: x.headStride,
    },
    groups: [Math.ceil(columns / 64), slabCount(sums, sizes), 1],
  }));
  addSlabs(recorder, sums, partial);
}

/** The second stage: result (+)= the partial sums in slab order. */
export function addSlabs<S>(recorder: Recorder<S>, sums: ColumnSums<S>, partial: Slot): void {
  const { columns, result, resultOffset = 0, accumulate } = sums;
  recorder.dispatch(sumsKernel.variant({ PARTIAL: false }), { partial, result }, (sizes) => ({
    params: {
      slabs: slabCount(sums, sizes),
      columns,
      offset: resultOffset,
      accumulate: Number(accumulate(sizes)),
    },
    groups: Math.ceil(columns / 64),
  }));
}
