import assert from "node:assert/strict";
import { resolveSettings } from "../../../pipeline/settings/finetune.ts";
import {
  learningRateFor,
  type RecipeName,
  RECIPES,
  recipeSchema,
} from "../../../pipeline/settings/recipes.ts";
import { assertNear } from "../../compare.ts";

Deno.test("recipes: each is complete and valid", () => {
  for (const [name, recipe] of Object.entries(RECIPES)) {
    assert.deepEqual(recipeSchema.parse(recipe), recipe, name);
  }
});

Deno.test("recipes: oml and scalable have the numbers of the programs that they follow", () => {
  const { oml, scalable, anchored } = RECIPES;
  assert.deepEqual(
    [oml.fingerprint_generation_strategy, oml.keep_eos_in_response, oml.averaging, oml.learning_rate],
    ["english", true, "final", 1e-5],
  );
  assert.equal(oml.forgetting_regularizer_strength, 0.75);
  assert.deepEqual(
    [scalable.learning_rate, scalable.num_train_epochs, scalable.early_stop_loss],
    [5e-5, 30, 0.005],
  );
  assert.equal(scalable.forgetting_regularizer_strength, 0.75);
  assert.deepEqual([anchored.averaging, anchored.early_stop_loss], ["none", 0]);
  assert.ok(anchored.anchor_strength > 0 && anchored.use_augmentation_prompts);
});

Deno.test("resolveSettings: anchored by default; a recipe's values hold unless given", () => {
  const names = Object.keys(RECIPES) as RecipeName[];
  for (const recipe of [undefined, ...names]) {
    const settings = resolveSettings({ recipe });
    assert.equal(settings.recipe, recipe ?? "anchored");
    for (const [field, value] of Object.entries(RECIPES[recipe ?? "anchored"])) {
      assert.deepEqual(settings[field as keyof typeof settings], value, `${recipe} ${field}`);
    }
  }
  const settings = resolveSettings({
    recipe: "oml",
    learning_rate: 1e-3,
    averaging: "recursive",
    early_stop_loss: undefined,
    anchor_strength: 2,
  });
  assert.deepEqual(
    [settings.learning_rate, settings.averaging, settings.early_stop_loss, settings.anchor_strength],
    [1e-3, "recursive", 0.005, 2],
  );
});

Deno.test("resolveSettings: unknown names and values out of range are named", () => {
  const wrong: Record<string, unknown> = {
    epochs: 3,
    recipe: "best",
    learning_rate: -1,
    num_train_epochs: 0,
    forgetting_regularizer_strength: 1.5,
    averaging: "always",
    anchor_batch: 2.5,
    max_key_length: 0,
    seed: -1,
    save_dtype: "F8",
  };
  for (const [name, value] of Object.entries(wrong)) {
    assert.throws(() => resolveSettings({ [name]: value }), {
      name: "SettingsError",
      message: new RegExp(name),
    });
  }
});

Deno.test("learningRateFor: as measured at 128, in inverse proportion to the width", () => {
  assert.equal(learningRateFor(128), 2e-3);
  assertNear("4096", learningRateFor(4096), 2e-3 / 32, 1e-18);
});
