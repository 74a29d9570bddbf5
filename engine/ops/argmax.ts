import source from "../../shaders/argmax.wgsl" with { type: "text" };
import vectorsSource from "../../shaders/vectors.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import { rowConstants, vectorConstants } from "./launch.ts";

const kernel = defineKernel({
  name: "argmax",
  file: "argmax.wgsl",
  source,
  includes: { "vectors.wgsl": vectorsSource },
});

/** Token that {@link argmax} gives for a row with a NaN. */
export const NAN_TOKEN = 0xffffffff;

/** best[row] = (bits of the largest logit, its token) over the chunks so far; the lowest token wins ties. */
export function argmax<S>(
  recorder: Recorder<S>,
  chunk: { rows: Dim<S>; columns: number; firstColumn: number; logits: Slot; best: Slot },
): void {
  const { columns, firstColumn, logits, best } = chunk;
  const constants = { ...rowConstants(recorder.target), ...vectorConstants(recorder.target, columns) };
  recorder.dispatch(kernel.variant(constants), { logits, best }, (sizes) => {
    const rows = dim(chunk.rows, sizes);
    return { params: { rows, columns, first_column: firstColumn }, groups: Math.ceil(rows / constants.ROWS) };
  });
}
