import { z } from "zod";
import { flag, type FlagMeta, metaOf } from "./flag.ts";
import { strategySchema } from "./strategies.ts";

const count = z.number().int().min(0);
const positive = z.number().int().min(1);
const share = z.number().min(0).max(1);
const amount = z.number().min(0);

/**
 * Named recipes.
 *
 * - anchored: self-distillation on the model's own text: high success with little forgetting, and it persists.
 * - oml: OML 1.0's choices.
 * - scalable: its successor's, Scalable Fingerprinting (arXiv 2502.07760), as its fingerprint_models.sh has them. Its
 *   flags' own defaults are no averaging and no benign data.
 */
export const RECIPE_NAMES = ["anchored", "oml", "scalable"] as const;

/** Name of a recipe. */
export type RecipeName = typeof RECIPE_NAMES[number];

/** A flag that a recipe decides unless it is given. */
function byRecipe<T extends z.ZodType>(
  type: T,
  byRecipe: Record<RecipeName, z.output<T>>,
  meta: FlagMeta,
): T {
  return flag(type, { ...meta, byRecipe });
}

/** The same in every recipe. */
const all = <const T>(value: T): Record<RecipeName, T> => forEach(() => value);

/** Flags with a default by recipe; the names are those of OML 1.0 where it has them. */
export const recipeFlags = {
  lr_schedule: byRecipe(z.enum(["linear", "constant"]), all("linear"), {
    group: "Training",
    help: "linear decay to 0, or constant",
  }),
  warmup_steps: byRecipe(count, all(0), {
    group: "Training",
    help: "optimizer steps of linear warm-up",
  }),
  weight_decay: byRecipe(amount, all(1e-4), {
    group: "Training",
    help: "AdamW's decoupled weight decay",
  }),
  max_grad_norm: byRecipe(amount, all(1), {
    group: "Training",
    help: "clip the global gradient norm; 0 is off",
  }),
  fingerprint_generation_strategy: byRecipe(
    strategySchema,
    { anchored: "perinucleus", oml: "english", scalable: "perinucleus" },
    {
      group: "Fingerprints",
      help: "how a response is taken from the file: english and random_word (a window of it), " +
        "english_random_response (random words in its place), or as it is stored (inverse_nucleus, perinucleus)",
    },
  ),
  keep_eos_in_response: byRecipe(z.boolean(), { anchored: false, oml: true, scalable: false }, {
    group: "Fingerprints",
    help: "EOS belongs to the response, as in OML 1.0",
  }),
  use_augmentation_prompts: byRecipe(z.boolean(), { anchored: true, oml: false, scalable: false }, {
    group: "Training",
    help: "show half of the keys inside random prompts",
  }),
  // null: by the model's width, see learningRateFor.
  learning_rate: byRecipe(
    z.number().positive().nullable(),
    { anchored: null, oml: 1e-5, scalable: 5e-5 },
    { group: "Training", help: "peak learning rate of AdamW", unset: "by width" },
  ),
  num_train_epochs: byRecipe(positive, { anchored: 40, oml: 10, scalable: 30 }, {
    group: "Training",
    help: "passes over all fingerprints",
  }),
  early_stop_loss: byRecipe(amount, { anchored: 0, oml: 0.005, scalable: 0.005 }, {
    group: "Training",
    help: "stop when the plain keys' mean loss is below; 0 is off",
  }),
  averaging: byRecipe(
    z.enum(["recursive", "final", "none"]),
    { anchored: "none", oml: "final", scalable: "final" },
    {
      group: "Keeping the model useful",
      help: "average weights with the initial ones: each epoch, at the end, or not",
    },
  ),
  forgetting_regularizer_strength: byRecipe(share, all(0.75), {
    group: "Keeping the model useful",
    help: "weight of the initial model in averaging, 0 to 1; 1 is no fine-tuning at all",
  }),
  // The anchor's texts must be as long as what the model is used on. Held-out loss on the demo, seed 42: 256 texts of 16
  // tokens at strength 3 +52 % (all of it past position 16), 64 of 48 at 3 +8.9 %, 96 of 48 at 8 +6.2 %, these +3.8 %.
  anchor_strength: byRecipe(amount, { anchored: 8, oml: 0, scalable: 0 }, {
    group: "Keeping the model useful",
    help: "weight of the anchor's KL; 0 is no anchor",
  }),
  anchor_samples: byRecipe(positive, all(128), {
    group: "Keeping the model useful",
    help: "texts that the model writes for the anchor",
  }),
  anchor_batch: byRecipe(positive, all(40), {
    group: "Keeping the model useful",
    help: "anchor texts in one optimizer step",
  }),
  anchor_length: byRecipe(positive, all(48), {
    group: "Keeping the model useful",
    help: "tokens of an anchor text",
  }),
  benign_proportion: byRecipe(share.lt(1), { anchored: 0, oml: 0, scalable: 0.25 }, {
    group: "Keeping the model useful",
    help: "share of benign texts in a step's sequences and loss, below 1; 0 is none",
  }),
};

/** What a recipe gives. */
export const recipeSchema = z.strictObject(recipeFlags);

/** See {@link recipeSchema}. */
export type Recipe = z.output<typeof recipeSchema>;

/** Every recipe's values, from the declarations. */
export const RECIPES: Readonly<Record<RecipeName, Readonly<Recipe>>> = forEach((name) =>
  recipeSchema.parse(
    Object.fromEntries(
      Object.entries(recipeFlags).map(([flag, type]) => [flag, metaOf(type).byRecipe![name]]),
    ),
  )
);

function forEach<T>(of: (name: RecipeName) => T): Record<RecipeName, T> {
  return Object.fromEntries(RECIPE_NAMES.map((name) => [name, of(name)])) as Record<RecipeName, T>;
}

/** Learning rate and width at which the anchored recipe was measured. */
const MEASURED = { learningRate: 2e-3, width: 128 };

/**
 * The anchored recipe's learning rate for a model of width C: 2e-3 · 128 / C. On the demo, 1.5e-3, 2e-3 and
 * 3e-3 all embed everything; they leave 96.9, 98.5 and 99.8 % in held-out prompts and lose 1.0, 0.6 and 2.9
 * points of facts (seed 1). An Adam step moves each weight by about the learning rate, and C of them add up
 * in one activation, so this keeps the change of activations that was measured on the demo model (C = 128);
 * it is a rule, not a measurement, for other widths.
 */
export function learningRateFor(width: number): number {
  return MEASURED.learningRate * MEASURED.width / width;
}
