import activationSource from "../../shaders/activation.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import { elementGroups } from "./launch.ts";

const define = (name: string) =>
  defineKernel({
    name,
    file: "activation.wgsl",
    source: activationSource,
    includes: { "elements.wgsl": elementsSource },
  });
const forwardKernel = define("swiglu_forward");
const backwardKernel = define("swiglu_backward");

/** y[rows, columns] = silu(gate) · up, with gateUp [rows, 2·columns] holding gate, then up. */
export function swigluForward<S>(
  recorder: Recorder<S>,
  rows: Dim<S>,
  columns: number,
  slots: { gateUp: Slot; y: Slot },
): void {
  recorder.dispatch(
    forwardKernel.variant({ BACKWARD: false }),
    { gate_up: slots.gateUp, y: slots.y },
    (sizes) => launch(dim(rows, sizes), columns),
  );
}

/** Overwrites gateUp with its gradient. */
export function swigluBackward<S>(
  recorder: Recorder<S>,
  rows: Dim<S>,
  columns: number,
  slots: { dy: Slot; gateUp: Slot },
): void {
  recorder.dispatch(
    backwardKernel.variant({ BACKWARD: true }),
    { gate_up: slots.gateUp, dy: slots.dy },
    (sizes) => launch(dim(rows, sizes), columns),
  );
}

function launch(rows: number, columns: number) {
  return { params: { rows, columns }, groups: elementGroups(rows * columns) };
}
