import normSource from "../../shaders/norm.wgsl" with { type: "text" };
import rowsSource from "../../shaders/rows.wgsl" with { type: "text" };
import columnSumsSource from "../../shaders/column_sums.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import { rowConstants } from "./launch.ts";

const define = (name: string) =>
  defineKernel({ name, file: "norm.wgsl", source: normSource, includes: { "rows.wgsl": rowsSource } });
const forwardKernel = define("rms_norm_forward");
const inputKernel = define("rms_norm_backward_input");
const weightKernel = define("rms_norm_backward_weight");
const sumsKernel = defineKernel({
  name: "column_sums",
  file: "column_sums.wgsl",
  source: columnSumsSource,
  includes: { "elements.wgsl": elementsSource },
});

const none = { FORWARD: false, INPUT_GRADIENT: false, WEIGHT_GRADIENT: false };

/** Rows that one invocation adds for the weight's gradient before the second stage. */
const SLAB = 64;

/** Shape of an RMSNorm over rows of `columns`. */
export interface RmsNorm<S> {
  rows: Dim<S>;
  columns: number;
  epsilon: number;
}

/** y = x / sqrt(mean(x²) + ε) · weight; saves the reciprocal root of each row in `rstd` [rows]. */
export function rmsNormForward<S>(
  recorder: Recorder<S>,
  { rows, columns, epsilon }: RmsNorm<S>,
  slots: { x: Slot; weight: Slot; y: Slot; rstd: Slot },
): void {
  const constants = rowConstants(recorder.target);
  recorder.dispatch(
    forwardKernel.variant({ ...none, ...constants, FORWARD: true }),
    { ...slots },
    (sizes) => {
      const count = dim(rows, sizes);
      return { params: { rows: count, columns, epsilon }, groups: Math.ceil(count / constants.ROWS) };
    },
  );
}

/**
 * dx = or += the input's gradient; dweight accumulates where `accumulate` is true, else it is written.
 * `capacityRows` is the largest number of rows of any run.
 */
export function rmsNormBackward<S>(
  recorder: Recorder<S>,
  { rows, columns }: Omit<RmsNorm<S>, "epsilon">,
  slots: { x: Slot; weight: Slot; rstd: Slot; dy: Slot; dx: Slot; dweight: Slot },
  options: { addToInput: boolean; accumulate: (sizes: S) => boolean; capacityRows: number },
): void {
  const { x, weight, rstd, dy, dx, dweight } = slots;
  const partial = recorder.pool.acquire(
    Math.ceil(options.capacityRows / SLAB) * columns * 4,
    "norm partials",
  );
  recorder.dispatch(
    weightKernel.variant({ ...none, THREADS: 1, ROWS: 1, WEIGHT_GRADIENT: true }),
    { x, rstd, dy, partial },
    (sizes) => {
      const count = dim(rows, sizes);
      return {
        params: { rows: count, columns, slab: SLAB },
        groups: [Math.ceil(columns / 64), Math.ceil(count / SLAB), 1],
      };
    },
  );
  recorder.dispatch(sumsKernel.variant(), { partial, result: dweight }, (sizes) => ({
    params: {
      slabs: Math.ceil(dim(rows, sizes) / SLAB),
      columns,
      accumulate: Number(options.accumulate(sizes)),
    },
    groups: Math.ceil(columns / 64),
  }));
  recorder.pool.release(partial);
  const constants = rowConstants(recorder.target);
  recorder.dispatch(
    inputKernel.variant({ ...none, ...constants, INPUT_GRADIENT: true }),
    { x, weight, rstd, dy, dx },
    (sizes) => {
      const count = dim(rows, sizes);
      return {
        params: { rows: count, columns, accumulate: Number(options.addToInput) },
        groups: Math.ceil(count / constants.ROWS),
      };
    },
  );
}
