import fillSource from "../../shaders/fill.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import type { Recorder } from "../gpu/recorder.ts";
import { elementGroups } from "./launch.ts";

const includes = { "elements.wgsl": elementsSource };
const fillKernel = defineKernel({ name: "fill", file: "fill.wgsl", source: fillSource, includes });

/** x[0 … count − 1] = value, in runs where `when` holds. */
export function fill<S>(
  recorder: Recorder<S>,
  count: number,
  x: Slot,
  value: number,
  when: (sizes: S) => boolean = () => true,
): void {
  recorder.dispatch(
    fillKernel.variant(),
    { x },
    (sizes) => when(sizes) ? { params: { count, value }, groups: elementGroups(count) } : null,
  );
}
