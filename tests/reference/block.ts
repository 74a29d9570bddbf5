/** One decoder layer: x + attention(norm(x)), then + mlp(norm(·)). */
import { attentionBackward, attentionForward } from "./attention.ts";
import type { DecoderShape, Weights } from "./decoder_shape.ts";
import { add, linearBackward, linearForward } from "./linear_algebra.ts";
import { rmsnormBackward, rmsnormForward } from "./rmsnorm.ts";
import { ropeBackward, ropeForward } from "./rope.ts";
import { swigluBackward, swigluForward } from "./swiglu.ts";

/** Packed sequences. */
export interface Packed {
  /** Token ids [N]. */
  ids: number[];
  /** First packed index of each sequence, and N at the end [B + 1]. */
  offsets: number[];
  /** Index of each token inside its sequence [N]. */
  positions: number[];
}

/** Every intermediate of a layer that its backward reads. */
export interface BlockTrace {
  x: Float64Array;
  attentionInput: Float64Array;
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
  attention: Float64Array;
  middle: Float64Array;
  mlpInput: Float64Array;
  gate: Float64Array;
  up: Float64Array;
  activated: Float64Array;
  y: Float64Array;
}

/** Packs sequences one after the other. */
export function pack(sequences: readonly (readonly number[])[]): Packed {
  const offsets = [0];
  for (const sequence of sequences) offsets.push(offsets[offsets.length - 1] + sequence.length);
  return { ids: sequences.flat(), offsets, positions: sequences.flatMap((s) => s.map((_, t) => t)) };
}

/** Layer `layer` on x [N, C]; q and k in the trace are rotated. */
export function blockForward(
  shape: DecoderShape,
  weights: Weights,
  layer: number,
  packed: Packed,
  x: Float64Array,
): BlockTrace {
  const weight = (name: string) => weights.get(`model.layers.${layer}.${name}.weight`)!;
  const N = packed.ids.length;
  const linear = (input: Float64Array, name: string) => linearForward(input, weight(name), N);

  const attentionInput = rmsnormForward(x, weight("input_layernorm"), shape.epsilon).y;
  const q = ropeForward(linear(attentionInput, "self_attn.q_proj"), packed.positions, shape.frequencies);
  const k = ropeForward(linear(attentionInput, "self_attn.k_proj"), packed.positions, shape.frequencies);
  const v = linear(attentionInput, "self_attn.v_proj");
  const attention = attentionForward(q, k, v, { ...shape, offsets: packed.offsets }).o;
  const middle = add(x, linear(attention, "self_attn.o_proj"));

  const mlpInput = rmsnormForward(middle, weight("post_attention_layernorm"), shape.epsilon).y;
  const gate = linear(mlpInput, "mlp.gate_proj");
  const up = linear(mlpInput, "mlp.up_proj");
  const activated = swigluForward(gate, up);
  const y = add(middle, linear(activated, "mlp.down_proj"));
  return { x, attentionInput, q, k, v, attention, middle, mlpInput, gate, up, activated, y };
}

/** Gradient dx for dy [N, C]; puts the layer's parameter gradients into `gradients`. */
export function blockBackward(
  shape: DecoderShape,
  weights: Weights,
  layer: number,
  packed: Packed,
  trace: BlockTrace,
  dy: Float64Array,
  gradients: Map<string, Float64Array>,
): Float64Array {
  const nameOf = (name: string) => `model.layers.${layer}.${name}.weight`;
  const N = packed.ids.length;
  const linear = (dOut: Float64Array, input: Float64Array, name: string) => {
    const { dx, dWeight } = linearBackward(dOut, input, weights.get(nameOf(name))!, N);
    gradients.set(nameOf(name), dWeight);
    return dx;
  };
  const norm = (dOut: Float64Array, input: Float64Array, name: string) => {
    const { dx, dWeight } = rmsnormBackward(dOut, input, weights.get(nameOf(name))!, shape.epsilon);
    gradients.set(nameOf(name), dWeight);
    return dx;
  };
  const unrotate = (dOut: Float64Array) => ropeBackward(dOut, packed.positions, shape.frequencies);

  const dActivated = linear(dy, trace.activated, "mlp.down_proj");
  const { dGate, dUp } = swigluBackward(dActivated, trace.gate, trace.up);
  const dMlpInput = add(
    linear(dGate, trace.mlpInput, "mlp.gate_proj"),
    linear(dUp, trace.mlpInput, "mlp.up_proj"),
  );
  const dMiddle = add(dy, norm(dMlpInput, trace.middle, "post_attention_layernorm"));

  const dAttention = linear(dMiddle, trace.attention, "self_attn.o_proj");
  const { dq, dk, dv } = attentionBackward(dAttention, trace.q, trace.k, trace.v, {
    ...shape,
    offsets: packed.offsets,
  });
  const dAttentionInput = add(
    add(
      linear(unrotate(dq), trace.attentionInput, "self_attn.q_proj"),
      linear(unrotate(dk), trace.attentionInput, "self_attn.k_proj"),
    ),
    linear(dv, trace.attentionInput, "self_attn.v_proj"),
  );
  return add(dMiddle, norm(dAttentionInput, trace.x, "input_layernorm"));
}
