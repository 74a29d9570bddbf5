/** Absent and null fields, and what is refused. */
import assert from "node:assert/strict";
import { modelSpec } from "../../engine/models/families.ts";
import type { ModelSpec } from "../../engine/models/spec.ts";

type Fields = Record<string, unknown>;

/** Sizes that suit every family: class defaults of 32, 16, 8 and 4 key and value heads divide the heads. */
const BARE: Fields = {
  hidden_size: 512,
  intermediate_size: 38,
  num_hidden_layers: 2,
  num_attention_heads: 32,
  vocab_size: 53,
};

function of(family: string, fields: Fields = {}): ModelSpec {
  return modelSpec({ ...BARE, model_type: family, ...fields });
}

Deno.test("modelSpec: each family's defaults of absent fields", () => {
  const defaults: [string, ...unknown[]][] = [
    ["llama", 32, 16, "rms", 1e-6, false, 2048, "silu"],
    ["mistral", 8, 16, "rms", 1e-6, false, 131072, "silu"],
    ["qwen2", 32, 16, "rms", 1e-6, false, 32768, "silu"],
    ["qwen3", 32, 128, "rms", 1e-6, false, 32768, "silu"],
    ["gemma", 16, 256, "rms", 1e-6, true, 8192, "gelu_tanh"],
    ["gemma2", 4, 256, "rms", 1e-6, true, 8192, "gelu_tanh"],
    ["gemma3_text", 4, 256, "rms", 1e-6, true, 131072, "gelu_tanh"],
    ["gpt_neox", 32, 16, "layer", 1e-5, false, 2048, "gelu"],
    ["phi", 32, 16, "layer", 1e-5, false, 2048, "gelu_tanh"],
    ["phi3", 32, 16, "rms", 1e-5, false, 4096, "silu"],
  ];
  for (const [family, ...expected] of defaults) {
    const spec = of(family);
    const { kvHeads, headDim, norm, tied, maxPositions, activation } = spec;
    const found = [kvHeads, headDim, norm.kind, norm.epsilon, tied, maxPositions, activation];
    assert.deepEqual(found, expected, family);
    assert.equal(spec.family, family);
    const nulls = of(family, {
      rope_scaling: null,
      rope_parameters: null,
      quantization_config: null,
      tie_word_embeddings: null,
      layer_types: null,
      max_position_embeddings: null,
      hidden_act: null,
    });
    assert.deepEqual(nulls, spec, family);
  }
});

Deno.test("modelSpec: null key and value heads are as many as query heads, absent ones a default", () => {
  for (const family of ["llama", "mistral", "qwen2", "qwen3", "phi", "phi3"]) {
    assert.equal(of(family, { num_key_value_heads: null }).kvHeads, 32, family);
    assert.equal(of(family, { num_key_value_heads: 2 }).kvHeads, 2, family);
  }
});

Deno.test("modelSpec: mistral's window is 4096 where the field is absent, phi3 has none", () => {
  const windows = (family: string, fields: Fields = {}) => of(family, fields).windows;
  assert.deepEqual(windows("mistral"), [4096, 4096]);
  assert.deepEqual(windows("mistral", { sliding_window: null }), [null, null]);
  assert.deepEqual(windows("mistral", { sliding_window: 5 }), [5, 5]);
  assert.deepEqual(windows("phi3"), [null, null]);
  assert.deepEqual(windows("phi3", { sliding_window: null }), [null, null]);
  assert.deepEqual(windows("phi3", { sliding_window: 5 }), [5, 5]);
  // Llama has no window, whatever its config says.
  assert.deepEqual(windows("llama", { sliding_window: 5 }), [null, null]);
});

Deno.test("modelSpec: qwen's window counts only with use_sliding_window, from max_window_layers on", () => {
  for (const family of ["qwen2", "qwen3"]) {
    const windows = (fields: Fields) => of(family, fields).windows;
    assert.deepEqual(windows({ sliding_window: 5, max_window_layers: 0 }), [null, null]);
    const used = { use_sliding_window: true };
    assert.deepEqual(windows({ ...used, sliding_window: 5 }), [null, null]);
    assert.deepEqual(windows({ ...used, sliding_window: 5, max_window_layers: 1 }), [null, 5]);
    assert.deepEqual(windows({ ...used, max_window_layers: 1 }), [null, 4096]);
    assert.deepEqual(windows({ ...used, sliding_window: null, max_window_layers: 0 }), [null, null]);
    const layer_types = ["sliding_attention", "full_attention"];
    assert.deepEqual(windows({ ...used, sliding_window: 5, layer_types }), [5, null]);
    assert.throws(() => windows({ sliding_window: 5, layer_types }), { field: "layer_types" });
  }
});

Deno.test("modelSpec: gemma's windows, caps and query scale, absent and null", () => {
  const five = { num_hidden_layers: 5 };
  assert.deepEqual(of("gemma", five).windows, [null, null, null, null, null]);
  assert.deepEqual(of("gemma2", five).windows, [4096, null, 4096, null, 4096]);
  const some = { ...five, sliding_window: 7, sliding_window_pattern: 3 };
  assert.deepEqual(of("gemma3_text", some).windows, [7, 7, null, 7, 7]);
  assert.deepEqual(of("gemma3_text", five).ropeOfBlock, [1, 1, 1, 1, 1]);
  const layer_types = ["full_attention", "sliding_attention"];
  assert.deepEqual(of("gemma2", { layer_types }).windows, [null, 4096]);
  const both = of("gemma3_text", { layer_types, sliding_window: 7 });
  assert.deepEqual([both.windows, both.ropeOfBlock], [[null, 7], [0, 1]]);
  const full = { layer_types: ["full_attention", "full_attention"], sliding_window: null };
  assert.deepEqual(of("gemma2", full).windows, [null, null]);

  const caps = ({ attentionCap, logitCap }: ModelSpec) => [attentionCap, logitCap];
  assert.deepEqual(caps(of("gemma2")), [50, 30]);
  const none = { attn_logit_softcapping: null, final_logit_softcapping: null };
  assert.deepEqual(caps(of("gemma2", none)), [0, 0]);
  assert.deepEqual(caps(of("gemma3_text")), [0, 0]);
  assert.deepEqual(caps(of("gemma3_text", { final_logit_softcapping: 3 })), [0, 3]);
  assert.equal(of("gemma2").attentionScale, 1 / 16);
  assert.equal(of("gemma3_text", { query_pre_attn_scalar: 64 }).attentionScale, 1 / 8);
  assert.equal(of("gemma", { query_pre_attn_scalar: 64 }).attentionScale, 1 / 16);
});

Deno.test("modelSpec: a family that is not supported is refused with the list of those that are", () => {
  assert.throws(() => of("gpt_bigcode"), {
    name: "ConfigError",
    message: 'config.json: "model_type" is "gpt_bigcode", which is not supported (only "llama", "mistral", ' +
      '"qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "gpt_neox", "phi", "phi3")',
  });
  assert.throws(() => of("gemma3"), { field: "model_type", message: /only the text model, "gemma3_text"/ });
  assert.throws(() => of(3 as unknown as string), { field: "model_type", message: /expected a string/ });
  // A name that every object has.
  assert.throws(() => of("constructor"), { field: "model_type" });
});

Deno.test("modelSpec: every field that is missing, wrong or not supported is named", () => {
  const needed = ["model_type", ...Object.keys(BARE)];
  for (const field of needed) {
    const { [field]: _, ...rest }: Fields = { ...BARE, model_type: "llama" };
    assert.throws(() => modelSpec(rest), { name: "ConfigError", field, message: /is missing/ });
  }
  const wrong: [string, Fields, RegExp][] = [
    ["llama", { hidden_size: "24" }, /expected a number/],
    ["llama", { hidden_size: 0 }, /more than 0/],
    ["llama", { hidden_size: NaN }, /is NaN, expected a number/],
    ["llama", { num_hidden_layers: -Infinity }, /is -Infinity, expected a number/],
    ["llama", { attention_bias: NaN }, /is NaN, expected true or false/],
    ["llama", { hidden_size: 24.5 }, /whole number/],
    ["llama", { num_hidden_layers: -1 }, /more than 0/],
    ["llama", { num_key_value_heads: 3 }, /3, which does not divide 32 attention heads/],
    ["llama", { head_dim: 5 }, /even/],
    ["llama", { rms_norm_eps: 0 }, /more than 0/],
    [
      "llama",
      { hidden_act: "relu" },
      /"relu", which is not supported \(only "silu" or .*"gelu_pytorch_tanh"\)/,
    ],
    ["llama", { hidden_act: 3 }, /expected a string/],
    ["llama", { attention_bias: "yes" }, /true or false/],
    ["llama", { mlp_bias: 1 }, /true or false/],
    ["llama", { tie_word_embeddings: "yes" }, /true or false/],
    ["llama", { partial_rotary_factor: 0.5 }, /not supported/],
    ["llama", { quantization_config: { quant_method: "fp8" } }, /which is not supported$/],
    ["llama", { layer_types: "full_attention" }, /expected a list/],
    ["llama", { layer_types: ["full_attention"] }, /has 1 entries, expected 2/],
    ["mistral", { sliding_window: 0 }, /more than 0/],
    ["mistral", { sliding_window: "5" }, /expected a number/],
    ["mistral", { attention_bias: true }, /true, which is not supported \(only false\)/],
    ["qwen2", { use_mrope: true }, /not supported/],
    ["qwen2", { mlp_bias: true }, /not supported/],
    ["gemma", { hidden_act: "silu" }, /not supported \(only "gelu" or "gelu_pytorch_tanh"\)/],
    ["gemma", { hidden_activation: "gelu" }, /not supported \(only "gelu_pytorch_tanh"\)/],
    ["gemma2", { use_bidirectional_attention: true }, /not supported/],
    ["gemma2", { sliding_window: null }, /is null, expected a number/],
    ["gemma2", { attn_logit_softcapping: 0 }, /more than 0/],
    ["gemma2", { query_pre_attn_scalar: -1 }, /more than 0/],
    ["gemma3_text", { attn_logit_softcapping: 5 }, /not supported$/],
    ["gemma3_text", { sliding_window_pattern: 0 }, /more than 0/],
    ["gemma3_text", { hidden_activation: "relu" }, /not supported/],
    ["gpt_neox", { head_dim: 8 }, /not supported \(only 16\)/],
    ["gpt_neox", { num_key_value_heads: 2 }, /not supported \(only 32\)/],
    ["gpt_neox", { rope_theta: 500 }, /not supported \(only 10000\)/],
    ["gpt_neox", { partial_rotary_factor: 1 }, /not supported \(only 0.25\)/],
    ["gpt_neox", { use_parallel_residual: 1 }, /true or false/],
    ["phi", { qk_layernorm: true }, /not supported \(only false\)/],
    ["phi3", { attention_bias: true }, /not supported/],
    ["phi3", { lm_head_bias: true }, /not supported/],
    ["phi3", { full_attn_mod: 2 }, /not supported/],
  ];
  for (const [family, fields, message] of wrong) {
    const [field] = Object.keys(fields);
    of(family);
    assert.throws(() => of(family, fields), { name: "ConfigError", field, message }, `${family} ${field}`);
  }
  const undivided = { hidden_size: 26, num_attention_heads: 4 };
  assert.throws(() => of("llama", undivided), { name: "ConfigError", field: "head_dim", message: /6.5/ });
});

Deno.test("modelSpec: layer types that contradict the other fields, or are of a kind of their own", () => {
  const layer_types = ["full_attention", "sliding_attention"];
  for (const family of ["llama", "mistral", "phi", "phi3", "gpt_neox"]) {
    const config = { layer_types, sliding_window: 5 };
    assert.throws(() => of(family, config), { name: "ConfigError", message: /layer_types.*contradicts/ });
  }
  assert.throws(() => of("gemma2", { layer_types: ["full_attention", "chunked_attention"] }), {
    field: "layer_types[1]",
    message: /"chunked_attention", expected "full_attention" or "sliding_attention"/,
  });
});

Deno.test("modelSpec: sizes that no model has are refused by name, at once", () => {
  const sizes: [string, number][] = [
    ["hidden_size", 2 ** 17],
    ["num_hidden_layers", 512],
    ["num_attention_heads", 2048],
    ["head_dim", 4096],
    ["vocab_size", 2 ** 22],
    ["intermediate_size", 2 ** 20],
    ["max_position_embeddings", 2 ** 31 - 1],
  ];
  for (const [field, most] of sizes) {
    // Of a width and heads alone the other would have to follow.
    const others = { head_dim: 16, num_key_value_heads: 1 };
    of("llama", { ...others, [field]: most });
    for (const value of [2 * most + 2, 1e15, 1e308]) {
      const wanted = new RegExp(`"${field}" is .*, expected at most ${most}$`);
      assert.throws(() => of("llama", { ...others, [field]: value }), wanted);
    }
  }
  assert.throws(() => of("gpt_neox", { num_attention_heads: 1e15, hidden_size: 1e15 }), /expected at most/);
  assert.throws(() => of("mistral", { sliding_window: 1e15 }), /"sliding_window" is .*, expected at most/);
  const message = /config\.json: "layer_types" is "x{56}\.\.\., expected a list$/;
  assert.throws(() => of("qwen3", { layer_types: "x".repeat(1e6) }), message);
});

Deno.test("modelSpec: fields that change nothing may say anything", () => {
  // Of config.json of Llama 3.2, Qwen 2.5 and 3, Gemma 2 and 3, Pythia, Phi 2 to 4, and of tools that save folders.
  const harmless: Fields = {
    _name_or_path: "x",
    _sliding_window_pattern: 6,
    architectures: null,
    attention_dropout: NaN,
    auto_map: { AutoConfig: "configuration.Config" },
    bos_token_id: null,
    cache_implementation: "hybrid",
    classifier_dropout: 0.1,
    dtype: "bfloat16",
    embd_pdrop: 0.5,
    eos_token_id: [1, 106],
    hidden_dropout: 0.5,
    initializer_range: Infinity,
    max_window_layers: 28,
    pretraining_tp: 2,
    resid_pdrop: 0.5,
    sliding_window_size: 4096,
    torch_dtype: "float32",
    transformers_version: "5.18.0",
    unsloth_fixed: true,
    use_cache: false,
    use_sliding_window: false,
  };
  for (
    const family of [
      "llama",
      "mistral",
      "qwen2",
      "qwen3",
      "gemma",
      "gemma2",
      "gemma3_text",
      "gpt_neox",
      "phi",
      "phi3",
    ]
  ) assert.deepEqual(of(family, harmless), of(family), family);
});

Deno.test("modelSpec: Pythia as Transformers 5 saves it, with other families' names beside", () => {
  const rope_parameters = { rope_type: "default", rope_theta: 77, partial_rotary_factor: 0.5 };
  const expected = of("gpt_neox", { rotary_emb_base: 77, rotary_pct: 0.5 });
  const older = { rotary_emb_base: 77, rotary_pct: 0.5, rope_theta: 77, partial_rotary_factor: 0.5 };
  for (const beside of [{}, older, { rope_theta: 77 }]) {
    assert.deepEqual(of("gpt_neox", { rope_parameters, ...beside }), expected);
  }
  for (const [field, value] of [["rotary_emb_base", 78], ["rope_theta", 78], ["rotary_pct", 0.25]] as const) {
    assert.throws(() => of("gpt_neox", { rope_parameters, [field]: value }), { name: "ConfigError", field });
  }
});
