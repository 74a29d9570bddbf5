import { ConfigError, type ConfigReader } from "./config.ts";
import type { Activation, LinearNames, ModelSpec, ModelTensors } from "./spec.ts";

/** What every family reads in one way. */
export type Sizes = Pick<
  ModelSpec,
  | "family"
  | "vocabulary"
  | "width"
  | "layers"
  | "heads"
  | "kvHeads"
  | "headDim"
  | "feedForward"
  | "attentionScale"
  | "tied"
  | "maxPositions"
>;

/** A family's values of absent fields. */
export interface SizeDefaults {
  /**
   * `num_key_value_heads` where the field is absent; null always means as many as query heads, and so does no
   * default.
   */
  readonly kvHeads?: number;
  /** `head_dim` where the field is absent or null; width / heads by default. */
  readonly headDim?: number | undefined;
  readonly tied?: boolean;
  readonly maxPositions: number;
}

/** Several times what the largest models have: what is more is a damaged file, and would be allocated for. */
const MOST = {
  vocabulary: 2 ** 22,
  width: 2 ** 17,
  layers: 512,
  heads: 2048,
  headDim: 4096,
  feedForward: 2 ** 20,
} as const;

/** Reads the sizes, the tying and the usual factor of the scores, 1 / √D. */
export function readSizes(config: ConfigReader, defaults: SizeDefaults): Sizes {
  const width = config.count("hidden_size", undefined, MOST.width);
  const layers = config.count("num_hidden_layers", undefined, MOST.layers);
  const heads = config.count("num_attention_heads", undefined, MOST.heads);
  const asHeads = config.fields.num_key_value_heads === null || defaults.kvHeads === undefined;
  const kvHeads = config.count("num_key_value_heads", asHeads ? heads : defaults.kvHeads);
  if (heads % kvHeads) {
    throw new ConfigError(
      "num_key_value_heads",
      `is ${kvHeads}, which does not divide ${heads} attention heads`,
    );
  }
  const headDim = config.count("head_dim", defaults.headDim ?? width / heads, MOST.headDim);
  if (headDim % 2) throw new ConfigError("head_dim", `is ${headDim}, expected an even number`);
  return {
    family: config.string("model_type"),
    vocabulary: config.count("vocab_size", undefined, MOST.vocabulary),
    width,
    layers,
    heads,
    kvHeads,
    headDim,
    feedForward: config.count("intermediate_size", undefined, MOST.feedForward),
    attentionScale: 1 / Math.sqrt(headDim),
    tied: config.boolean("tie_word_embeddings", defaults.tied ?? false),
    maxPositions: config.count("max_position_embeddings", defaults.maxPositions),
  };
}

/** A decoder whose blocks add attention and MLP one after the other, with nothing capped or scaled. */
export const PLAIN = {
  gated: true,
  parallel: false,
  attentionCap: 0,
  logitCap: 0,
  embeddingScale: 1,
} as const;

const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
};

/** The activation that `field` names. */
export function activation(config: ConfigReader, field: string, fallback: string): Activation {
  const name = config.string(field, fallback);
  if (!Object.hasOwn(ACTIVATIONS, name)) config.only(field, ...Object.keys(ACTIVATIONS));
  return ACTIVATIONS[name]!;
}

/** The same window in every block. `layer_types` may be given, but has to say the same. */
export function sameWindow(config: ConfigReader, layers: number, window: number | null): (number | null)[] {
  const expected = window === null ? "full_attention" : "sliding_attention";
  const layer = layerTypes(config, layers)?.findIndex((type) => type !== expected) ?? -1;
  if (layer >= 0) {
    throw new ConfigError(`layer_types[${layer}]`, `contradicts the other fields, expected "${expected}"`);
  }
  return Array.from({ length: layers }, () => window);
}

/** `layer_types`, one kind of attention a block, or undefined where the field is absent or null. */
export function layerTypes(config: ConfigReader, layers: number): string[] | undefined {
  const types = config.list("layer_types");
  if (!types) return undefined;
  if (types.length !== layers) {
    throw new ConfigError("layer_types", `has ${types.length} entries, expected ${layers}`);
  }
  return types.map((type, layer) => {
    if (type === "full_attention" || type === "sliding_attention") return type;
    throw new ConfigError(
      `layer_types[${layer}]`,
      `is ${JSON.stringify(type)}, expected "full_attention" or "sliding_attention"`,
    );
  });
}

/** A linear layer's parameters by the name of their module. */
export function linear(module: string, biased: boolean): LinearNames {
  return biased ? { weight: `${module}.weight`, bias: `${module}.bias` } : { weight: `${module}.weight` };
}

/** An RMSNorm's parameter by the name of its module. */
export function rmsNorm(module: string): { readonly weight: string } {
  return { weight: `${module}.weight` };
}

/** Which linear layers of a Llama-like block have biases. */
export interface Biases {
  readonly qkv: boolean;
  readonly o: boolean;
  readonly mlp: boolean;
}

/** Parameters of Llama and of the families that share its names. */
export function llamaTensors(biases: Biases) {
  const block = "model.layers.{}";
  return {
    embedding: "model.embed_tokens.weight",
    inputNorm: rmsNorm(`${block}.input_layernorm`),
    qkv: {
      kind: "split",
      q: linear(`${block}.self_attn.q_proj`, biases.qkv),
      k: linear(`${block}.self_attn.k_proj`, biases.qkv),
      v: linear(`${block}.self_attn.v_proj`, biases.qkv),
    },
    o: linear(`${block}.self_attn.o_proj`, biases.o),
    mlpNorm: rmsNorm(`${block}.post_attention_layernorm`),
    mlpIn: {
      kind: "split",
      gate: linear(`${block}.mlp.gate_proj`, biases.mlp),
      up: linear(`${block}.mlp.up_proj`, biases.mlp),
    },
    down: linear(`${block}.mlp.down_proj`, biases.mlp),
    finalNorm: rmsNorm("model.norm"),
    head: linear("lm_head", false),
  } as const satisfies ModelTensors;
}

/** Norms over each head of q and k (Qwen 3, Gemma 3). */
export const HEAD_NORMS = {
  q: rmsNorm("model.layers.{}.self_attn.q_norm"),
  k: rmsNorm("model.layers.{}.self_attn.k_norm"),
} as const;
