/**
 * One decoder layer: x + attention(norm(x)), then + mlp(norm(·)) of that sum, or of x where the layer is
 * parallel. Gemma 2 and 3 norm the outputs of attention and MLP too before they are added.
 */
import { activationBackward, activationForward } from "./activation.ts";
import { attentionBackward, attentionForward } from "./attention.ts";
import type { DecoderShape, Weights } from "./decoder_shape.ts";
import type { Module } from "./families.ts";
import { add } from "./linear_algebra.ts";
import {
  gateUpColumns,
  linear,
  linearGradients,
  norm,
  normGradients,
  type Parameters,
  pickColumns,
  placeColumns,
  qkvColumns,
} from "./modules.ts";
import { ropeBackward, ropeForward } from "./rope.ts";
import type { Rope } from "./rope_config.ts";

/** Packed sequences. */
export interface Packed {
  /** Token ids [N]. */
  ids: number[];
  /** First packed index of each sequence, and N at the end [B + 1]. */
  offsets: number[];
  /** Index of each token inside its sequence [N]. */
  positions: number[];
  /** Tokens of the longest sequence. */
  longest: number;
}

/** Every intermediate of a layer that its backward reads. */
export interface BlockTrace {
  x: Float64Array;
  attentionInput: Float64Array;
  /** q and k as projected, before their norms. */
  projectedQ: Float64Array;
  projectedK: Float64Array;
  /** q and k normed and rotated. */
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
  attention: Float64Array;
  /** What o and down project, before the norms of outputs. */
  attentionOutput: Float64Array;
  mlpOutput: Float64Array;
  middle: Float64Array;
  mlpInput: Float64Array;
  /** The gate, or the only projection of an MLP without gate. */
  gate: Float64Array;
  up?: Float64Array;
  activated: Float64Array;
  y: Float64Array;
}

/** Packs sequences one after the other. */
export function pack(sequences: readonly (readonly number[])[]): Packed {
  const offsets = [0];
  for (const sequence of sequences) offsets.push(offsets[offsets.length - 1] + sequence.length);
  return {
    ids: sequences.flat(),
    offsets,
    positions: sequences.flatMap((s) => s.map((_, t) => t)),
    longest: Math.max(0, ...sequences.map((s) => s.length)),
  };
}

/** Layer `layer` on x [N, C]. */
export function blockForward(
  shape: DecoderShape,
  weights: Weights,
  layer: number,
  packed: Packed,
  x: Float64Array,
): BlockTrace {
  const { modules, window, rope } = shape.layers[layer];
  const N = packed.ids.length;
  const project = (input: Float64Array, module: Module) => linear(weights, module, input, N);
  const normed = (input: Float64Array, module: Module | undefined) =>
    module ? norm(weights, module, input, shape.norm) : input;
  const rotated = (input: Float64Array) =>
    ropeForward(input, packed.positions, frequenciesFor(rope, packed), {
      headDim: shape.D,
      scale: rope.scale,
    });

  const attentionInput = normed(x, modules.inputNorm);
  const [projectedQ, projectedK, v] = modules.qkv
    ? split(project(attentionInput, modules.qkv), N, qkvColumns(shape.fused, shape))
    : [modules.q!, modules.k!, modules.v!].map((module) => project(attentionInput, module));
  const q = rotated(normed(projectedQ, modules.qNorm));
  const k = rotated(normed(projectedK, modules.kNorm));
  const attention = attentionForward(q, k, v, attentionShape(shape, window, packed)).o;
  const attentionOutput = project(attention, modules.o!);
  const middle = add(x, normed(attentionOutput, modules.attentionOutputNorm));

  const source = shape.parallel ? x : middle;
  const mlpInput = modules.mlpNorm ? normed(source, modules.mlpNorm) : attentionInput;
  const [gate, up] = modules.gateUp
    ? split(project(mlpInput, modules.gateUp), N, gateUpColumns(shape.F))
    : [modules.gate, modules.up].filter((module) => !!module).map((module) => project(mlpInput, module));
  const activated = activationForward(shape.activation, gate, up);
  const mlpOutput = project(activated, modules.down!);
  const y = add(middle, normed(mlpOutput, modules.mlpOutputNorm));
  return {
    x,
    attentionInput,
    projectedQ,
    projectedK,
    q,
    k,
    v,
    attention,
    attentionOutput,
    middle,
    mlpInput,
    gate,
    up,
    activated,
    mlpOutput,
    y,
  };
}

/** Gradient dx for dy [N, C]; puts the layer's parameter gradients into `parameters.gradients`. */
export function blockBackward(
  shape: DecoderShape,
  parameters: Parameters,
  layer: number,
  packed: Packed,
  trace: BlockTrace,
  dy: Float64Array,
): Float64Array {
  const { modules, window, rope } = shape.layers[layer];
  const N = packed.ids.length;
  const project = (dOut: Float64Array, input: Float64Array, module: Module) =>
    linearGradients(parameters, module, dOut, input, N);
  const normed = (dOut: Float64Array, input: Float64Array, module: Module | undefined) =>
    module ? normGradients(parameters, module, dOut, input, shape.norm) : dOut;
  const unrotated = (dOut: Float64Array) =>
    ropeBackward(dOut, packed.positions, frequenciesFor(rope, packed), {
      headDim: shape.D,
      scale: rope.scale,
    });

  const dMlpOutput = normed(dy, trace.mlpOutput, modules.mlpOutputNorm);
  const dActivated = project(dMlpOutput, trace.activated, modules.down!);
  const { dGate, dUp } = activationBackward(shape.activation, dActivated, trace.gate, trace.up);
  const dMlpInput = modules.gateUp
    ? project(join([dGate, dUp!], N, gateUpColumns(shape.F)), trace.mlpInput, modules.gateUp)
    : modules.gate
    ? add(project(dGate, trace.mlpInput, modules.gate), project(dUp!, trace.mlpInput, modules.up!))
    : project(dGate, trace.mlpInput, modules.up!);

  // what flows into x past the attention, into the sum of both, and into the attention's input
  let [dPast, dMiddle, dAttentionInput] = [new Float64Array(dy.length), dy, new Float64Array(dy.length)];
  if (!modules.mlpNorm) dAttentionInput = add(dAttentionInput, dMlpInput);
  else if (shape.parallel) dPast = add(dPast, normed(dMlpInput, trace.x, modules.mlpNorm));
  else dMiddle = add(dMiddle, normed(dMlpInput, trace.middle, modules.mlpNorm));

  const dAttentionOutput = normed(dMiddle, trace.attentionOutput, modules.attentionOutputNorm);
  const dAttention = project(dAttentionOutput, trace.attention, modules.o!);
  const { dq, dk, dv } = attentionBackward(
    dAttention,
    trace.q,
    trace.k,
    trace.v,
    attentionShape(shape, window, packed),
  );
  const parts = [
    normed(unrotated(dq), trace.projectedQ, modules.qNorm),
    normed(unrotated(dk), trace.projectedK, modules.kNorm),
    dv,
  ];
  if (modules.qkv) {
    const dQkv = join(parts, N, qkvColumns(shape.fused, shape));
    dAttentionInput = add(dAttentionInput, project(dQkv, trace.attentionInput, modules.qkv));
  } else {
    [modules.q!, modules.k!, modules.v!].forEach((module, i) => {
      dAttentionInput = add(dAttentionInput, project(parts[i], trace.attentionInput, module));
    });
  }
  return add(add(dPast, dMiddle), normed(dAttentionInput, trace.x, modules.inputNorm));
}

/** One choice for the whole batch, by its longest sequence. */
function frequenciesFor({ frequencies, long }: Rope, { longest }: Packed): Float64Array {
  return long && longest > long.after ? long.frequencies : frequencies;
}

function attentionShape(shape: DecoderShape, window: number | null, { offsets }: Packed) {
  const { H, K, D, scale, attentionCap } = shape;
  return { H, K, D, scale, cap: attentionCap, window, offsets };
}

function split(x: Float64Array, rows: number, columns: readonly (readonly number[])[]): Float64Array[] {
  return columns.map((of) => pickColumns(x, rows, of));
}

function join(
  parts: readonly Float64Array[],
  rows: number,
  columns: readonly (readonly number[])[],
): Float64Array {
  return placeColumns(parts.map((part, i) => [part, columns[i]] as const), rows);
}
