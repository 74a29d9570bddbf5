import assert from "node:assert/strict";
import { modelSpec } from "../../engine/models/families.ts";
import { parameterSpecs } from "../../engine/models/spec.ts";
import { GOLDEN_MODELS, loadGolden } from "../golden.ts";
import { decoderShape, parameterShapes } from "../reference/decoder_shape.ts";
import { TINY } from "../train/support.ts";

Deno.test("modelSpec: the goldens' configs, as the reference reads them", () => {
  for (const name of GOLDEN_MODELS) {
    const { config, golden } = loadGolden(name);
    const spec = modelSpec(config);
    const { C, F, V, H, K, D, layers, epsilon, window, tied } = decoderShape(config);
    assert.deepEqual(
      {
        ...{ C: spec.width, F: spec.feedForward, V: spec.vocabulary, H: spec.heads, K: spec.kvHeads },
        ...{ D: spec.headDim, layers: spec.layers, epsilon: spec.normEpsilon, tied: spec.tied },
      },
      { C, F, V, H, K, D, layers, epsilon, tied },
    );
    assert.deepEqual(spec.windows, Array.from({ length: layers }, () => window));
    assert.equal(spec.attentionScale, 1 / Math.sqrt(D));
    const parameters = parameterSpecs(spec);
    assert.deepEqual(
      Object.fromEntries(parameters.map(({ name, shape }) => [name, shape])),
      Object.fromEntries(parameterShapes(config)),
    );
    assert.deepEqual(
      parameters.filter(({ decays }) => !decays).map(({ name }) => name).sort(),
      golden.train.no_weight_decay.toSorted(),
    );
  }
});

Deno.test("modelSpec: defaults of absent and null fields", () => {
  const { head_dim: _, num_key_value_heads: __, rms_norm_eps: ___, tie_word_embeddings: ____, ...bare } =
    TINY;
  const spec = modelSpec(bare);
  assert.equal(spec.headDim, 6);
  assert.equal(spec.kvHeads, 4);
  assert.equal(spec.normEpsilon, 1e-6);
  assert.equal(spec.tied, false);
  const nulls = { head_dim: null, num_key_value_heads: null, rope_scaling: null, quantization_config: null };
  assert.deepEqual(modelSpec({ ...bare, ...nulls }), spec);
  assert.equal(modelSpec({ ...bare, head_dim: 8 }).headDim, 8);
});

Deno.test("modelSpec: mistral's window is 4096 where the field is absent, none where it is null", () => {
  const mistral = { ...TINY, model_type: "mistral" };
  const windows = (fields: Record<string, unknown>) => modelSpec({ ...mistral, ...fields }).windows;
  assert.deepEqual(windows({}), [4096, 4096]);
  assert.deepEqual(windows({ sliding_window: null }), [null, null]);
  assert.deepEqual(windows({ sliding_window: 5 }), [5, 5]);
  // Llama has no window, whatever its config says.
  assert.deepEqual(modelSpec({ ...TINY, sliding_window: 5 }).windows, [null, null]);
});

Deno.test("modelSpec: mistral has 8 key and value heads where the field is absent, the query's where it is null", () => {
  const { num_key_value_heads: _, ...rest } = TINY;
  const wide = { ...rest, model_type: "mistral", num_attention_heads: 16, hidden_size: 32 };
  assert.equal(modelSpec(wide).kvHeads, 8);
  assert.equal(modelSpec({ ...wide, num_key_value_heads: null }).kvHeads, 16);
  assert.equal(modelSpec({ ...wide, model_type: "llama" }).kvHeads, 16);
});

Deno.test("modelSpec: every field that is missing, wrong or not supported is named", () => {
  const without = (field: string) => {
    const { [field]: _, ...rest } = TINY;
    return rest;
  };
  const needed = [
    ...["model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"],
    "vocab_size",
  ];
  for (const field of needed) {
    assert.throws(() => modelSpec(without(field)), { name: "ConfigError", field, message: /is missing/ });
  }
  const wrong: Record<string, [unknown, RegExp][]> = {
    model_type: [["gpt_bigcode", /"gpt_bigcode", which is not supported \(only "llama", "mistral"\)/], [
      3,
      /a string/,
    ]],
    hidden_size: [["24", /expected a number/], [0, /more than 0/], [24.5, /whole number/]],
    num_hidden_layers: [[-1, /more than 0/]],
    num_key_value_heads: [[3, /3, which does not divide 4 attention heads/]],
    head_dim: [[5, /even/]],
    rms_norm_eps: [[0, /more than 0/]],
    hidden_act: [["gelu", /"gelu", which is not supported \(only "silu" or "swish"\)/]],
    attention_bias: [[true, /true, which is not supported \(only false\)/]],
    mlp_bias: [[true, /not supported/]],
    tie_word_embeddings: [["yes", /true or false/]],
    partial_rotary_factor: [[0.5, /not supported/]],
    quantization_config: [[{ quant_method: "fp8" }, /which is not supported$/]],
  };
  for (const [field, cases] of Object.entries(wrong)) {
    for (const [value, message] of cases) {
      assert.throws(() => modelSpec({ ...TINY, [field]: value }), { name: "ConfigError", field, message });
    }
  }
  assert.throws(() => modelSpec({ ...TINY, rope_scaling: { type: "yarn", factor: 2 } }), {
    name: "ConfigError",
    message: 'config.json: "rope_scaling.type" is "yarn", which is not supported ' +
      '(only "default", "linear" or "llama3")',
  });
  const undivided = { ...without("head_dim"), hidden_size: 26 };
  assert.throws(() => modelSpec(undivided), { name: "ConfigError", field: "head_dim", message: /6.5/ });
  for (const sliding_window of [0, -4, "5"]) {
    assert.throws(() => modelSpec({ ...TINY, model_type: "mistral", sliding_window }), {
      name: "ConfigError",
      field: "sliding_window",
    });
  }
  // A name that every object has.
  assert.throws(() => modelSpec({ ...TINY, model_type: "constructor" }), { field: "model_type" });
});
