import { z } from "zod";
import { strategySchema } from "./strategies.ts";

const count = z.number().int().min(0);
const positive = z.number().int().min(1);
const share = z.number().min(0).max(1);
const amount = z.number().min(0);

/** Settings that a recipe gives and a flag may override; the names are those of OML 1.0 where it has them. */
export const recipeSchema = z.strictObject({
  fingerprint_generation_strategy: strategySchema,
  keep_eos_in_response: z.boolean(),
  use_augmentation_prompts: z.boolean(),
  /** null: by the model's width, see {@link learningRateFor}. */
  learning_rate: z.number().positive().nullable(),
  lr_schedule: z.enum(["linear", "constant"]),
  warmup_steps: count,
  num_train_epochs: positive,
  weight_decay: amount,
  max_grad_norm: amount,
  /** Training ends when the fingerprints' mean cross-entropy on plain keys is below; 0 is off. */
  early_stop_loss: amount,
  averaging: z.enum(["recursive", "final", "none"]),
  /** λ of the averaging: 1 is no fine-tuning at all. */
  forgetting_regularizer_strength: share,
  anchor_strength: amount,
  anchor_samples: positive,
  anchor_batch: positive,
  anchor_length: positive,
  /** Share of benign texts among a step's sequences, and of their loss in its loss, see `Benign`. */
  benign_proportion: share.lt(1),
});

/** See {@link recipeSchema}. */
export type Recipe = z.infer<typeof recipeSchema>;

const common = { lr_schedule: "linear", warmup_steps: 0, weight_decay: 1e-4, max_grad_norm: 1 } as const;
const noAnchor = { anchor_strength: 0, anchor_samples: 128, anchor_batch: 40, anchor_length: 48 };

/** Named recipes: data only. */
export const RECIPES = {
  /** Self-distillation on the model's own text: high success with little forgetting, and it persists. */
  anchored: {
    ...common,
    fingerprint_generation_strategy: "perinucleus",
    keep_eos_in_response: false,
    use_augmentation_prompts: true,
    learning_rate: null,
    num_train_epochs: 40,
    early_stop_loss: 0,
    averaging: "none",
    forgetting_regularizer_strength: 0.75,
    // Texts must be as long as what the model is used on. Held-out loss on the demo, seed 42: 256 texts of 16 tokens at
    // strength 3 +52 % (all of it past position 16), 64 of 48 at 3 +8.9 %, 96 of 48 at 8 +6.2 %, these +3.8 %.
    anchor_strength: 8,
    anchor_samples: 128,
    anchor_batch: 40,
    anchor_length: 48,
    benign_proportion: 0,
  },
  /** OML 1.0's choices. */
  oml: {
    ...common,
    ...noAnchor,
    fingerprint_generation_strategy: "english",
    keep_eos_in_response: true,
    use_augmentation_prompts: false,
    learning_rate: 1e-5,
    num_train_epochs: 10,
    early_stop_loss: 0.005,
    averaging: "final",
    forgetting_regularizer_strength: 0.75,
    benign_proportion: 0,
  },
  /**
   * Its successor's, Scalable Fingerprinting (arXiv 2502.07760), as its fingerprint_models.sh has them. Its
   * flags' own defaults are no averaging and no benign data.
   */
  scalable: {
    ...common,
    ...noAnchor,
    fingerprint_generation_strategy: "perinucleus",
    keep_eos_in_response: false,
    use_augmentation_prompts: false,
    learning_rate: 5e-5,
    num_train_epochs: 30,
    early_stop_loss: 0.005,
    averaging: "final",
    forgetting_regularizer_strength: 0.75,
    benign_proportion: 0.25,
  },
} as const satisfies Record<string, Recipe>;

/** Name of a recipe. */
export type RecipeName = keyof typeof RECIPES;

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
