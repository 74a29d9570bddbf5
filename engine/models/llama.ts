import { ConfigError, type ConfigReader } from "./config.ts";
import { ropeFrequencies } from "./rope_scaling.ts";
import type { ModelSpec, TensorNames } from "./spec.ts";

const NAMES: TensorNames = {
  embedding: "model.embed_tokens.weight",
  inputNorm: "model.layers.{}.input_layernorm.weight",
  q: "model.layers.{}.self_attn.q_proj.weight",
  k: "model.layers.{}.self_attn.k_proj.weight",
  v: "model.layers.{}.self_attn.v_proj.weight",
  o: "model.layers.{}.self_attn.o_proj.weight",
  postNorm: "model.layers.{}.post_attention_layernorm.weight",
  gate: "model.layers.{}.mlp.gate_proj.weight",
  up: "model.layers.{}.mlp.up_proj.weight",
  down: "model.layers.{}.mlp.down_proj.weight",
  finalNorm: "model.norm.weight",
  head: "lm_head.weight",
};

/** Llama 1 to 3.x. */
export function llama(config: ConfigReader): ModelSpec {
  return decoder(config, () => null, config.count("num_attention_heads"));
}

/**
 * Mistral: Llama with a sliding window in every block. The class defaults are a window of 4096 (null means none) and 8 key
 * and value heads (null means as many as query heads).
 */
export function mistral(config: ConfigReader): ModelSpec {
  const window = config.fields.sliding_window === null ? null : config.count("sliding_window", 4096);
  const heads = config.count("num_attention_heads");
  return decoder(config, () => window, config.fields.num_key_value_heads === null ? heads : 8);
}

function decoder(
  config: ConfigReader,
  window: (layer: number) => number | null,
  defaultKvHeads: number,
): ModelSpec {
  config.only("hidden_act", "silu", "swish");
  config.only("attention_bias", false);
  config.only("mlp_bias", false);
  config.only("partial_rotary_factor", 1);
  // Dropout, pretraining_tp and the like change training or the order of sums, not the function.
  const width = config.count("hidden_size");
  const layers = config.count("num_hidden_layers");
  const heads = config.count("num_attention_heads");
  const kvHeads = config.count("num_key_value_heads", defaultKvHeads);
  if (heads % kvHeads) {
    throw new ConfigError(
      "num_key_value_heads",
      `is ${kvHeads}, which does not divide ${heads} attention heads`,
    );
  }
  const headDim = config.count("head_dim", width / heads);
  if (headDim % 2) throw new ConfigError("head_dim", `is ${headDim}, expected an even number`);
  return {
    family: config.string("model_type"),
    vocabulary: config.count("vocab_size"),
    width,
    layers,
    heads,
    kvHeads,
    headDim,
    feedForward: config.count("intermediate_size"),
    normEpsilon: config.positive("rms_norm_eps", 1e-6),
    attentionScale: 1 / Math.sqrt(headDim),
    windows: Array.from({ length: layers }, (_, layer) => window(layer)),
    ropeFrequencies: ropeFrequencies(config, headDim),
    tied: config.boolean("tie_word_embeddings", false),
    maxPositions: config.count("max_position_embeddings", 2048),
    names: NAMES,
  };
}
