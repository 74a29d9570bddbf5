/** What the decoder needs to know about a model: data, made by a family file from Hugging Face's config.json. */
export interface ModelSpec {
  /** `model_type` of the config. */
  readonly family: string;
  /** V, C, number of blocks, H, K, D, F. */
  readonly vocabulary: number;
  readonly width: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
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
  readonly ropeOfBlock: readonly number[];
  /** The head is the embedding matrix. */
  readonly tied: boolean;
  readonly maxPositions: number;
  readonly tensors: ModelTensors;
}

/** RMSNorm: y = n·(offset + weight), n = x / √(mean(x²) + ε). LayerNorm: n = (x − mean) / √(var + ε), plus a bias. */
export interface NormSettings {
  readonly kind: "rms" | "layer";
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
}

/** A linear layer of the checkpoint, y = x·Wᵀ + b with W [out, in]; `{}` in a name stands for the block. */
export interface LinearNames {
  readonly weight: string;
  readonly bias?: string;
}

/** A norm of the checkpoint. */
export interface NormNames {
  readonly weight: string;
  readonly bias?: string;
}

/** Hugging Face names of the parameters; `{}` stands for the block. */
export interface ModelTensors {
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
  readonly down: LinearNames;
  /** Norm of the MLP's output before it is added (Gemma 2 and 3). */
  readonly mlpOutputNorm?: NormNames;
  readonly finalNorm: NormNames;
  /** The weight is absent from checkpoints of tied models, or a copy there. */
  readonly head: LinearNames;
}

/** A parameter that a checkpoint of this model must have. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** Biases and norm weights are not decayed. */
  readonly decays: boolean;
}

/** A parameter's name in one block. */
export function blockName(pattern: string, layer: number): string {
  return pattern.replace("{}", String(layer));
}

/** All parameters in the order of the forward pass; a tied matrix once, under the embedding's name. */
export function parameterSpecs(spec: ModelSpec): ParameterSpec[] {
  const { vocabulary: V, width: C, heads, kvHeads, headDim: D, feedForward: F, tensors } = spec;
  const out: ParameterSpec[] = [{ name: tensors.embedding, shape: [V, C], decays: true }];
  const norm = ({ weight, bias }: NormNames, size: number, layer = 0) => {
    out.push({ name: blockName(weight, layer), shape: [size], decays: false });
    if (bias) out.push({ name: blockName(bias, layer), shape: [size], decays: false });
  };
  const linear = ({ weight, bias }: LinearNames, outputs: number, inputs: number, layer = 0) => {
    out.push({ name: blockName(weight, layer), shape: [outputs, inputs], decays: true });
    if (bias) out.push({ name: blockName(bias, layer), shape: [outputs], decays: false });
  };
  const [qWidth, kvWidth] = [heads * D, kvHeads * D];
  for (let layer = 0; layer < spec.layers; layer++) {
    const { qkv, headNorms, mlpIn, mlpNorm, attentionOutputNorm, mlpOutputNorm } = tensors;
    norm(tensors.inputNorm, C, layer);
    if (qkv.kind === "split") {
      linear(qkv.q, qWidth, C, layer);
      linear(qkv.k, kvWidth, C, layer);
      linear(qkv.v, kvWidth, C, layer);
    } else linear(qkv.all, qWidth + 2 * kvWidth, C, layer);
    if (headNorms) {
      norm(headNorms.q, D, layer);
      norm(headNorms.k, D, layer);
    }
    linear(tensors.o, C, qWidth, layer);
    if (attentionOutputNorm) norm(attentionOutputNorm, C, layer);
    if (mlpNorm) norm(mlpNorm, C, layer);
    if (mlpIn.kind === "split") linear(mlpIn.gate, F, C, layer);
    if (mlpIn.kind === "stacked") linear(mlpIn.all, 2 * F, C, layer);
    else linear(mlpIn.up, F, C, layer);
    linear(tensors.down, C, F, layer);
    if (mlpOutputNorm) norm(mlpOutputNorm, C, layer);
  }
  norm(tensors.finalNorm, C);
  if (!spec.tied) linear(tensors.head, V, C);
  else if (tensors.head.bias) out.push({ name: tensors.head.bias, shape: [V], decays: false });
  return out;
}
