import type { Slot } from "../gpu/pool.ts";
import type { Dim, Recorder } from "../gpu/recorder.ts";
import type { Matrix } from "../tensor/matrix.ts";
import { acquirePartials, columnSums } from "./column_sums.ts";

/** The gradient of a bias that was added to every row of a matrix. */
export interface BiasBackward<S> {
  rows: Dim<S>;
  columns: number;
  dy: Matrix;
  dbias: Slot;
  /** Elements of `dbias` before the first one. */
  dbiasOffset?: number;
  /** Whether a run adds to what `dbias` holds, or writes it. */
  accumulate: (sizes: S) => boolean;
  /** The largest `rows` of any run. */
  capacityRows: number;
}

/** dbias[j] (+)= Σ_rows dy[row, j], in a fixed order. */
export function biasBackward<S>(recorder: Recorder<S>, shape: BiasBackward<S>): void {
  const { rows, columns, dy, dbias, dbiasOffset, accumulate, capacityRows } = shape;
  const sums = {
    rows,
    heads: 1,
    columns,
    capacityRows,
    accumulate,
    result: dbias,
    resultOffset: dbiasOffset,
  };
  const partial = acquirePartials(recorder, sums);
  columnSums(recorder, sums, { x: { ...dy, headStride: 0 }, partial });
  recorder.pool.release(partial);
}
