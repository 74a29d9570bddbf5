import assert from "node:assert/strict";
import { type FinetuneConfig, resolveSettings } from "../../../pipeline/settings/finetune.ts";
import { SettingsError } from "../../../pipeline/settings/parse.ts";
import { learningRateFor, RECIPES, recipeSchema } from "../../../pipeline/settings/recipes.ts";

Deno.test("recipes are complete, and their settings are those of the papers", () => {
  for (const recipe of Object.values(RECIPES)) assert.deepEqual(recipeSchema.parse(recipe), recipe);
  const { oml, scalable, anchored } = RECIPES;
  assert.deepEqual(
    [oml.fingerprint_generation_strategy, oml.keep_eos_in_response, oml.averaging, oml.learning_rate],
    ["english", true, "final", 1e-5],
  );
  assert.deepEqual(
    [scalable.averaging, scalable.learning_rate, scalable.num_train_epochs, scalable.early_stop_loss],
    ["final", 5e-5, 30, 0.005],
  );
  assert.deepEqual([oml, scalable].map((recipe) => recipe.forgetting_regularizer_strength), [0.75, 0.75]);
  assert.deepEqual([oml, scalable].map((recipe) => recipe.anchor_strength), [0, 0]);
  assert.deepEqual([oml, scalable, anchored].map((recipe) => recipe.benign_proportion), [0, 0.25, 0]);
  assert.deepEqual([anchored.averaging, anchored.early_stop_loss], ["none", 0]);
  assert.ok(anchored.use_augmentation_prompts && anchored.anchor_strength > 0);
});

Deno.test("nothing given is the recipe anchored with the defaults", () => {
  assert.deepEqual(resolveSettings({}), {
    ...RECIPES.anchored,
    recipe: "anchored",
    model_path: null,
    fingerprints_file_path: null,
    num_fingerprints: null,
    max_key_length: 16,
    max_response_length: 1,
    batch_size: 0,
    fingerprints_per_step: 0,
    seed: 42,
    model_family: null,
    model_size: null,
    use_chat_template: false,
    profile: false,
    dtype: "auto",
    master: "f32",
    recompute: "auto",
    rescue_dir: null,
    webgpu: "deno",
    matrix: "f32",
    benign_data_file_path: null,
    benign_samples: 512,
    benign_length: 48,
    save_dtype: null,
    output_dir: "results",
    strict: false,
    max_memory: null,
    force: false,
  });
});

Deno.test("a given value overrides its recipe's; undefined is not given", () => {
  const settings = resolveSettings({
    recipe: "oml",
    learning_rate: 2e-4,
    averaging: undefined,
    early_stop_loss: 0,
  });
  assert.deepEqual({ ...settings, ...RECIPES.oml, learning_rate: 2e-4, early_stop_loss: 0 }, settings);
  assert.equal(
    resolveSettings({ recipe: "scalable", keep_eos_in_response: true }).keep_eos_in_response,
    true,
  );
  assert.equal(resolveSettings({ learning_rate: null }).learning_rate, null);
});

Deno.test("benign texts of a file are used with a proportion; a strategy has its other name", () => {
  const settings = resolveSettings({ recipe: "scalable", benign_data_file_path: "texts.json" });
  assert.deepEqual([settings.benign_data_file_path, settings.benign_proportion], ["texts.json", 0.25]);
  for (const name of ["english_random_response", "english_random_responses"] as const) {
    const { fingerprint_generation_strategy } = resolveSettings({ fingerprint_generation_strategy: name });
    assert.equal(fingerprint_generation_strategy, "english_random_response");
  }
});

Deno.test("unknown settings and wrong values are named, all at once", () => {
  const refused = (config: unknown, ...expected: RegExp[]) =>
    assert.throws(() => resolveSettings(config as FinetuneConfig), (error) => {
      assert.ok(error instanceof SettingsError);
      for (const each of expected) assert.match(error.message, each);
      return true;
    });
  refused({ learningRate: 1, epochs: 2 }, /^unknown setting: learningRate, epochs$/m);
  refused({ learning_rate: "1e-5", seed: 1.5 }, /^learning_rate: /m, /^seed: /m);
  for (const learning_rate of [0, -1, NaN, Infinity]) refused({ learning_rate }, /^learning_rate: /);
  for (const seed of [-1, 2 ** 32, 0.5]) refused({ seed }, /^seed: /);
  for (const name of ["max_key_length", "max_response_length", "num_train_epochs", "anchor_batch"]) {
    refused({ [name]: 0 }, new RegExp(`^${name}: `));
  }
  for (
    const name of ["num_fingerprints", "batch_size", "fingerprints_per_step", "warmup_steps", "max_grad_norm"]
  ) {
    refused({ [name]: -1 }, new RegExp(`^${name}: `));
    assert.equal((resolveSettings({ [name]: 0 }) as unknown as Record<string, number>)[name], 0);
  }
  refused({ forgetting_regularizer_strength: 1.01 }, /^forgetting_regularizer_strength: /);
  refused({ recipe: "best" }, /^recipe: .*anchored/);
  refused({ averaging: "mean" }, /^averaging: /);
  refused({ benign_proportion: 1 }, /^benign_proportion: .*<1$/);
  refused({ benign_proportion: -0.1, benign_length: 0 }, /^benign_length: /m, /^benign_proportion: /m);
  refused({ benign_data_file_path: "texts.json" }, /^benign_data_file_path: nothing of it would be used/);
  refused({ fingerprint_generation_strategy: "french" }, /^fingerprint_generation_strategy: .*english/);
  refused({ save_dtype: "F8" }, /^save_dtype: /);
  refused({ model_path: "" }, /^model_path: /);
  refused({ max_memory: 0 }, /^max_memory: /);
});

Deno.test("the learning rate falls with the width", () => {
  assert.equal(learningRateFor(128), 2e-3);
  assert.equal(learningRateFor(4096), 2e-3 / 32);
});

Deno.test("more anchor texts a step than there are is an error where both are chosen", () => {
  assert.throws(() => resolveSettings({ anchor_samples: 16, anchor_batch: 17 }), {
    name: "SettingsError",
    message: "anchor_batch: expected at most the 16 of anchor_samples, found 17",
  });
  assert.throws(() => resolveSettings({ anchor_batch: 129 }), { message: /at most the 128 .* found 129$/ });
  assert.equal(resolveSettings({ anchor_samples: 16 }).anchor_samples, 16);
  assert.equal(resolveSettings({ anchor_batch: 129, anchor_strength: 0 }).anchor_batch, 129);
});
