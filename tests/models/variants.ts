/**
 * Small configs of what families can be beside the goldens: every field that changes the numbers, in both
 * ways of writing.
 */

const SIZES = {
  hidden_size: 6,
  intermediate_size: 7,
  num_hidden_layers: 3,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 4,
  vocab_size: 11,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 50,
};

const GEMMA3 = { ...SIZES, model_type: "gemma3_text", sliding_window: 3, query_pre_attn_scalar: 5 };

const NEOX = {
  model_type: "gpt_neox",
  hidden_size: 8,
  intermediate_size: 7,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  vocab_size: 11,
  max_position_embeddings: 64,
  layer_norm_eps: 1e-5,
};

const YARN = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 16 };

/** By what is special about them. */
export const VARIANTS: Record<string, Record<string, unknown>> = {
  "llama with biases and erf gelu": {
    ...SIZES,
    model_type: "llama",
    attention_bias: true,
    mlp_bias: true,
    hidden_act: "gelu",
  },
  "llama with newer rope fields": {
    ...SIZES,
    model_type: "llama",
    rope_theta: undefined,
    rope_parameters: { rope_type: "linear", factor: 2, rope_theta: 77 },
  },
  "llama with both kinds of rope fields": {
    ...SIZES,
    model_type: "llama",
    rope_scaling: { type: "linear", factor: 2 },
    rope_parameters: { rope_type: "linear", factor: 2, rope_theta: 50 },
  },
  "llama with dynamic rope": {
    ...SIZES,
    model_type: "llama",
    rope_scaling: { type: "dynamic", factor: 4 },
  },
  "llama with yarn": { ...SIZES, model_type: "llama", head_dim: 32, rope_scaling: YARN },
  "mistral with a window": { ...SIZES, model_type: "mistral", sliding_window: 3, tie_word_embeddings: true },
  "qwen2 with windows from a block on": {
    ...SIZES,
    model_type: "qwen2",
    use_sliding_window: true,
    sliding_window: 3,
    max_window_layers: 1,
    rope_scaling: { type: "linear", factor: 2 },
  },
  "qwen3 with biases and layer types": {
    ...SIZES,
    model_type: "qwen3",
    attention_bias: true,
    use_sliding_window: true,
    sliding_window: 2,
    layer_types: ["sliding_attention", "full_attention", "sliding_attention"],
  },
  "gemma with biases": { ...SIZES, model_type: "gemma", attention_bias: true, hidden_act: "gelu" },
  "gemma2 with layer types, erf gelu and no logit cap": {
    ...SIZES,
    model_type: "gemma2",
    sliding_window: 2,
    query_pre_attn_scalar: 7,
    layer_types: ["full_attention", "sliding_attention", "sliding_attention"],
    attn_logit_softcapping: 0.7,
    final_logit_softcapping: null,
    hidden_activation: "gelu",
  },
  "gemma3 with older rope fields": {
    ...GEMMA3,
    rope_local_base_freq: 30,
    sliding_window_pattern: 2,
    rope_scaling: { rope_type: "linear", factor: 3 },
  },
  "gemma3 with newer rope fields, layer types and a logit cap": {
    ...GEMMA3,
    layer_types: ["full_attention", "sliding_attention", "full_attention"],
    final_logit_softcapping: 2.5,
    rope_theta: undefined,
    rope_parameters: {
      full_attention: { rope_type: "default", rope_theta: 500 },
      sliding_attention: { rope_type: "default", rope_theta: 20 },
    },
  },
  "gpt_neox one after the other": { ...NEOX, use_parallel_residual: false, rotary_pct: 0.5 },
  "gpt_neox tied, without attention biases, with newer rope fields": {
    ...NEOX,
    tie_word_embeddings: true,
    attention_bias: false,
    hidden_act: "gelu_new",
    rope_parameters: { rope_type: "default", rope_theta: 33, partial_rotary_factor: 0.5 },
  },
  "phi tied, with grouped queries": {
    ...SIZES,
    model_type: "phi",
    layer_norm_eps: 1e-5,
    tie_word_embeddings: true,
  },
  "phi3 with a partial longrope": {
    ...SIZES,
    model_type: "phi3",
    head_dim: 8,
    partial_rotary_factor: 0.75,
    tie_word_embeddings: true,
    original_max_position_embeddings: 4,
    rope_scaling: { type: "longrope", short_factor: [1, 1.1, 1.2], long_factor: [2, 3, 4] },
  },
};
