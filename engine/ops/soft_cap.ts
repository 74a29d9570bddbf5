import softCapSource from "../../shaders/soft_cap.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import mathSource from "../../shaders/math.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import { elementGroups } from "./launch.ts";

const kernel = defineKernel({
  name: "soft_cap",
  file: "soft_cap.wgsl",
  source: softCapSource,
  includes: { "elements.wgsl": elementsSource, "math.wgsl": mathSource },
});

/** The cap of x [rows, columns] in place. */
export interface SoftCap<S> {
  rows: Dim<S>;
  columns: number;
  cap: number;
  x: Slot;
}

/**
 * x = cap·tanh(x / cap), in place. The loss's gradient pass undoes it: see `cap` of cross_entropy.ts.
 * @throws RangeError when the cap isn't positive.
 */
export function softCap<S>(recorder: Recorder<S>, { rows, columns, cap, x }: SoftCap<S>): void {
  if (!(cap > 0)) throw new RangeError(`soft cap: expected a positive cap, found ${cap}`);
  recorder.dispatch(kernel.variant(), { x }, (sizes) => {
    const count = dim(rows, sizes) * columns;
    return { params: { count, cap }, groups: elementGroups(count) };
  });
}
