/** What the decoder needs to know about a model: data, made by a family file from Hugging Face's config.json. */
export interface ModelSpec {
  /** `model_type` of the config. */
  readonly family: string;
  /** V, C, number of blocks, H, K, D, F. */
  readonly vocabulary: number;
  /** C, numbers that a token is between blocks (`hidden_size`). */
  readonly width: number;
  /** Blocks (`num_hidden_layers`). */
  readonly layers: number;
  /** H, heads of queries (`num_attention_heads`). */
  readonly heads: number;
  /** K, heads of keys and values, a divisor of H (`num_key_value_heads`). */
  readonly kvHeads: number;
  /** D, numbers of a head. */
  readonly headDim: number;
  /** F, width inside the MLP (`intermediate_size`). */
  readonly feedForward: number;
  /** Settings of every norm of the model. */
  readonly norm: NormSettings;
  /** What the MLP applies to its first projection (to the gate, where `gated`). */
  readonly activation: Activation;
  /** y = activation(gate) · up, or activation(up) alone. */
  readonly gated: boolean;
  /** x + attention(norm(x)) + mlp(norm(x)); otherwise the MLP works on x + attention(norm(x)). */
  readonly parallel: boolean;
  /** Scores are multiplied by this before the softmax. */
  readonly attentionScale: number;
  /** Scaled scores s become c·tanh(s / c) before the mask; 0 is off. */
  readonly attentionCap: number;
  /** Logits z become c·tanh(z / c); 0 is off. */
  readonly logitCap: number;
  /** The embedding's output is multiplied by this. */
  readonly embeddingScale: number;
  /** Keys that a query of each block sees, itself included; null for all. */
  readonly windows: readonly (number | null)[];
  /** Rotary embeddings that the blocks use, and which one each block uses (an index of `ropes`). */
  readonly ropes: readonly RopeSpec[];
  /** Index of `ropes`, by block. */
  readonly ropeOfBlock: readonly number[];
  /** The head is the embedding matrix. */
  readonly tied: boolean;
  /** Most tokens of a sequence that the model was made for (`max_position_embeddings`). */
  readonly maxPositions: number;
  /** What the parameters are called in the checkpoint. */
  readonly tensors: ModelTensors;
}

/** RMSNorm: y = n·(offset + weight), n = x / √(mean(x²) + ε). LayerNorm: n = (x − mean) / √(var + ε), plus a bias. */
export interface NormSettings {
  /** Which of the two. */
  readonly kind: "rms" | "layer";
  /** ε. */
  readonly epsilon: number;
  /** 1 where the stored weight is the distance from 1 (Gemma), else 0. */
  readonly offset: 0 | 1;
}

/** silu; gelu with erf; gelu's tanh approximation (gelu_new, gelu_pytorch_tanh). */
export type Activation = "silu" | "gelu" | "gelu_tanh";

/** A rotary embedding: the first 2 · frequencies.length dimensions of a head, i paired with i + frequencies.length. */
export interface RopeSpec {
  /** Radians a position after scaling, in float64, one a pair of rotated dimensions. */
  readonly frequencies: readonly number[];
  /** Multiplies cos and sin. */
  readonly scale: number;
  /** Frequencies of batches with a sequence of more than `after` tokens (longrope). */
  readonly long?: { readonly frequencies: readonly number[]; readonly after: number };
  /** The longest sequence that these frequencies are right for, and the kind of scaling that has others beyond. */
  readonly most?: { readonly tokens: number; readonly kind: string };
}

/** A linear layer of the checkpoint, y = x·Wᵀ + b with W [out, in]; `{}` in a name stands for the block. */
export interface LinearNames {
  /** W, [out, in]. */
  readonly weight: string;
  /** b, [out]; absent without one. */
  readonly bias?: string | undefined;
}

/** A norm of the checkpoint. */
export interface NormNames {
  /** The scale, [size]. */
  readonly weight: string;
  /** The bias, [size]; only LayerNorm has one. */
  readonly bias?: string;
}

/** Hugging Face names of the parameters; `{}` stands for the block. */
export interface ModelTensors {
  /** Embedding matrix, [V, C]. */
  readonly embedding: string;
  /** Before the attention; in parallel blocks without `mlpNorm` before the MLP as well. */
  readonly inputNorm: NormNames;
  /**
   * Three layers, or one whose rows are all q, all k, all v ("stacked") or q, k, v of one head after the other
   * ("interleaved", which needs kvHeads = heads).
   */
  readonly qkv:
    | { readonly kind: "split"; readonly q: LinearNames; readonly k: LinearNames; readonly v: LinearNames }
    | { readonly kind: "stacked" | "interleaved"; readonly all: LinearNames };
  /** Norms over each head of q and k before the rotation. Only with split q, k, v. */
  readonly headNorms?: { readonly q: NormNames; readonly k: NormNames };
  /** From the heads' outputs, [H·D], to [C]. */
  readonly o: LinearNames;
  /** Norm of the attention's output before it is added (Gemma 2 and 3). */
  readonly attentionOutputNorm?: NormNames;
  /** Before the MLP. Absent in parallel blocks with one norm (Phi). */
  readonly mlpNorm?: NormNames;
  /** Gate and up as two layers, as one with the gate's rows first, or up alone where the MLP isn't gated. */
  readonly mlpIn:
    | { readonly kind: "split"; readonly gate: LinearNames; readonly up: LinearNames }
    | { readonly kind: "stacked"; readonly all: LinearNames }
    | { readonly kind: "single"; readonly up: LinearNames };
  /** From inside the MLP, [F], to [C]. */
  readonly down: LinearNames;
  /** Norm of the MLP's output before it is added (Gemma 2 and 3). */
  readonly mlpOutputNorm?: NormNames;
  /** Norm before the head. */
  readonly finalNorm: NormNames;
  /** The weight is absent from checkpoints of tied models, or a copy there. */
  readonly head: LinearNames;
}

/** A parameter that a checkpoint of this model must have. */
export interface ParameterSpec {
  /** Hugging Face's name of it. */
  readonly name: string;
  /** Extents, outermost first: [rows, columns], or [size] of a vector. */
  readonly shape: readonly number[];
  /** Biases and norm weights are not decayed. */
  readonly decays: boolean;
}

/** A parameter's name in one block. */
export function blockName(pattern: string, layer: number): string {
  return pattern.replace("{}", String(layer));
}

/** Collects parameters as they are named, with their shapes. */
class ParameterList {
  readonly all: ParameterSpec[] = [];

  norm({ weight, bias }: NormNames, size: number, layer = 0): void {
    this.all.push({ name: blockName(weight, layer), shape: [size], decays: false });
    if (bias) this.all.push({ name: blockName(bias, layer), shape: [size], decays: false });
  }

  linear({ weight, bias }: LinearNames, outputs: number, inputs: number, layer = 0): void {
    this.all.push({ name: blockName(weight, layer), shape: [outputs, inputs], decays: true });
    if (bias) this.all.push({ name: blockName(bias, layer), shape: [outputs], decays: false });
  }
}

/** The parameters of one block, in the order of the forward pass. */
export function blockParameters(spec: ModelSpec, layer: number): ParameterSpec[] {
  const { width: C, heads, kvHeads, headDim: D, feedForward: F, tensors } = spec;
  const [qWidth, kvWidth] = [heads * D, kvHeads * D];
  const { qkv, headNorms, mlpIn, mlpNorm, attentionOutputNorm, mlpOutputNorm } = tensors;
  const list = new ParameterList();
  list.norm(tensors.inputNorm, C, layer);
  if (qkv.kind === "split") {
    list.linear(qkv.q, qWidth, C, layer);
    list.linear(qkv.k, kvWidth, C, layer);
    list.linear(qkv.v, kvWidth, C, layer);
  } else list.linear(qkv.all, qWidth + 2 * kvWidth, C, layer);
  if (headNorms) {
    list.norm(headNorms.q, D, layer);
    list.norm(headNorms.k, D, layer);
  }
  list.linear(tensors.o, C, qWidth, layer);
  if (attentionOutputNorm) list.norm(attentionOutputNorm, C, layer);
  if (mlpNorm) list.norm(mlpNorm, C, layer);
  if (mlpIn.kind === "split") list.linear(mlpIn.gate, F, C, layer);
  if (mlpIn.kind === "stacked") list.linear(mlpIn.all, 2 * F, C, layer);
  else list.linear(mlpIn.up, F, C, layer);
  list.linear(tensors.down, C, F, layer);
  if (mlpOutputNorm) list.norm(mlpOutputNorm, C, layer);
  return list.all;
}

/** All parameters in the order of the forward pass; a tied matrix once, under the embedding's name. */
export function parameterSpecs(spec: ModelSpec): ParameterSpec[] {
  const { vocabulary: V, width: C, tensors } = spec;
  const list = new ParameterList();
  list.norm(tensors.finalNorm, C);
  if (!spec.tied) list.linear(tensors.head, V, C);
  else if (tensors.head.bias) list.all.push({ name: tensors.head.bias, shape: [V], decays: false });
  return [
    { name: tensors.embedding, shape: [V, C], decays: true },
    ...Array.from({ length: spec.layers }, (_, layer) => blockParameters(spec, layer)).flat(),
    ...list.all,
  ];
}
