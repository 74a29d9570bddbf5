/**
 * The parameters of each family's decoder by Hugging Face name, in the order in which its modules list them.
 */

/** What a module of a layer is for. */
export type Role =
  | "inputNorm"
  | "q"
  | "k"
  | "v"
  | "qkv"
  | "qNorm"
  | "kNorm"
  | "o"
  | "attentionOutputNorm"
  | "mlpNorm"
  | "gate"
  | "up"
  | "gateUp"
  | "down"
  | "mlpOutputNorm";

/**
 * A linear layer [outputs, inputs] or a norm [size], with the bias of as many elements as its first extent,
 * or without.
 */
export interface Module {
  name: string;
  shape: number[];
  biased: boolean;
}

/** The modules of one layer, in the family's order. */
export type Layer = Partial<Record<Role, Module>>;

/** Sizes that the modules follow from. */
export interface Sizes {
  C: number;
  F: number;
  H: number;
  K: number;
  D: number;
}

/** Which optional parts a Llama-like layer has. */
export interface LlamaParts {
  qkvBias: boolean;
  oBias: boolean;
  mlpBias: boolean;
  headNorms: boolean;
  /** Norms before and after attention and MLP (Gemma 2 and 3). */
  sandwich: boolean;
}

/** Layer `index` of Llama, Mistral, Qwen and Gemma. */
export function llamaLayer({ C, F, H, K, D }: Sizes, parts: LlamaParts, index: number): Layer {
  const module = moduleOf(`model.layers.${index}`);
  return {
    q: module("self_attn.q_proj", [H * D, C], parts.qkvBias),
    k: module("self_attn.k_proj", [K * D, C], parts.qkvBias),
    v: module("self_attn.v_proj", [K * D, C], parts.qkvBias),
    o: module("self_attn.o_proj", [C, H * D], parts.oBias),
    ...(parts.headNorms && {
      qNorm: module("self_attn.q_norm", [D]),
      kNorm: module("self_attn.k_norm", [D]),
    }),
    gate: module("mlp.gate_proj", [F, C], parts.mlpBias),
    up: module("mlp.up_proj", [F, C], parts.mlpBias),
    down: module("mlp.down_proj", [C, F], parts.mlpBias),
    inputNorm: module("input_layernorm", [C]),
    ...(parts.sandwich
      ? {
        attentionOutputNorm: module("post_attention_layernorm", [C]),
        mlpNorm: module("pre_feedforward_layernorm", [C]),
        mlpOutputNorm: module("post_feedforward_layernorm", [C]),
      }
      : { mlpNorm: module("post_attention_layernorm", [C]) }),
  };
}

/** Layer `index` of Phi 3. */
export function phi3Layer({ C, F, H, K, D }: Sizes, index: number): Layer {
  const module = moduleOf(`model.layers.${index}`);
  return {
    o: module("self_attn.o_proj", [C, H * D]),
    qkv: module("self_attn.qkv_proj", [(H + 2 * K) * D, C]),
    gateUp: module("mlp.gate_up_proj", [2 * F, C]),
    down: module("mlp.down_proj", [C, F]),
    inputNorm: module("input_layernorm", [C]),
    mlpNorm: module("post_attention_layernorm", [C]),
  };
}

/** Layer `index` of Phi 1 and 2. */
export function phiLayer({ C, F, H, K, D }: Sizes, index: number): Layer {
  const module = moduleOf(`model.layers.${index}`);
  return {
    q: module("self_attn.q_proj", [H * D, C], true),
    k: module("self_attn.k_proj", [K * D, C], true),
    v: module("self_attn.v_proj", [K * D, C], true),
    o: module("self_attn.dense", [C, H * D], true),
    up: module("mlp.fc1", [F, C], true),
    down: module("mlp.fc2", [C, F], true),
    inputNorm: module("input_layernorm", [C], true),
  };
}

/** Layer `index` of GPT-NeoX. */
export function neoxLayer({ C, F }: Sizes, attentionBias: boolean, index: number): Layer {
  const module = moduleOf(`gpt_neox.layers.${index}`);
  return {
    inputNorm: module("input_layernorm", [C], true),
    mlpNorm: module("post_attention_layernorm", [C], true),
    qkv: module("attention.query_key_value", [3 * C, C], attentionBias),
    o: module("attention.dense", [C, C], attentionBias),
    up: module("mlp.dense_h_to_4h", [F, C], true),
    down: module("mlp.dense_4h_to_h", [C, F], true),
  };
}

function moduleOf(prefix: string) {
  return (name: string, shape: number[], biased = false): Module => ({
    name: `${prefix}.${name}`,
    shape,
    biased,
  });
}
