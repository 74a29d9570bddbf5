import activationSource from "../../shaders/activation.wgsl" with { type: "text" };
import vectorsSource from "../../shaders/vectors.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import mathSource from "../../shaders/math.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import type { Activation } from "../models/spec.ts";
import { elementGroups, vectorConstants } from "./launch.ts";

const define = (name: string) =>
  defineKernel({
    name,
    file: "activation.wgsl",
    source: activationSource,
    includes: { "vectors.wgsl": vectorsSource, "elements.wgsl": elementsSource, "math.wgsl": mathSource },
  });
const forwardKernel = define("activation_forward");
const backwardKernel = define("activation_backward");

/** Which function, and whether it gates a second operand. */
export interface ActivationKind {
  kind: Activation;
  gated: boolean;
}

/** y[rows, columns] = act(gate) · up with x [rows, 2·columns] holding gate, then up; act(x) where not gated. */
export function activationForward<S>(
  recorder: Recorder<S>,
  rows: Dim<S>,
  columns: number,
  kind: ActivationKind,
  { x, y }: { x: Slot; y: Slot },
): void {
  const constants = { ...kindConstants(kind), ...vectorConstants(recorder.target, columns) };
  recorder.dispatch(
    forwardKernel.variant({ ...constants, BACKWARD: false }),
    { x, y },
    (sizes) => launch(dim(rows, sizes), columns, constants),
  );
}

/** Overwrites x with its gradient. */
export function activationBackward<S>(
  recorder: Recorder<S>,
  rows: Dim<S>,
  columns: number,
  kind: ActivationKind,
  { dy, x }: { dy: Slot; x: Slot },
): void {
  const constants = { ...kindConstants(kind), ...vectorConstants(recorder.target, columns) };
  recorder.dispatch(
    backwardKernel.variant({ ...constants, BACKWARD: true }),
    { dy, x },
    (sizes) => launch(dim(rows, sizes), columns, constants),
  );
}

function kindConstants({ kind, gated }: ActivationKind) {
  return { SILU: kind === "silu", GELU: kind === "gelu", GELU_TANH: kind === "gelu_tanh", GATED: gated };
}

function launch(rows: number, columns: number, { VEC }: { VEC: boolean }) {
  return { params: { rows, columns }, groups: elementGroups(rows * columns / (VEC ? 4 : 1)) };
}
