import { z } from "zod";
import { webgpuSchema } from "../gpu/open.ts";
import { type Recipe, type RecipeName, RECIPES, recipeSchema } from "./recipes.ts";

const count = z.number().int().min(0);

/** Settings that don't depend on the recipe. */
const ownSchema = z.strictObject({
  /** Folder of a Hugging Face model, or its Hub name org/name[@revision]; null is the demo model. */
  model_path: z.string().min(1).nullable().default(null),
  /** A model of the Hub as OML 1.0 names it, instead of model_path. */
  model_family: z.string().min(1).nullable().default(null),
  model_size: z.string().min(1).nullable().default(null),
  fingerprints_file_path: z.string().min(1).nullable().default(null),
  /** Benign texts to mix in, as `readBenignFile` takes them; null is texts that the model writes itself. */
  benign_data_file_path: z.string().min(1).nullable().default(null),
  /** Texts that the model writes without a file, at most. */
  benign_samples: z.number().int().min(1).default(512),
  /** Tokens of a benign text that are trained, at most. */
  benign_length: z.number().int().min(1).default(48),
  /** The first fingerprints of the file; 0 is all. Default 64 for the demo model, else all. */
  num_fingerprints: count.nullable().default(null),
  max_key_length: z.number().int().min(1).default(16),
  max_response_length: z.number().int().min(1).default(1),
  recipe: z.enum(Object.keys(RECIPES) as [RecipeName, ...RecipeName[]]).default("anchored"),
  /** Fingerprints in one micro-batch: changes memory, never the result. 0 is as many as fit 4096 tokens. */
  batch_size: count.default(0),
  /** Fingerprints in one optimizer step; 0 is all, OML 1.0's one step an epoch. */
  fingerprints_per_step: count.default(0),
  seed: z.number().int().min(0).max(0xffffffff).default(42),
  /** What matrices are kept in; auto is f32, or bf16 without masters where f32 doesn't fit. */
  dtype: z.enum(["auto", "f32", "bf16"]).default("auto"),
  /** With bf16: f32 masters beside it, or none and stochastic rounding. */
  master: z.enum(["f32", "none"]).default("f32"),
  /** Blocks' insides are computed again in backward, or kept: the same bits. auto keeps them where memory allows. */
  recompute: z.enum(["auto", "always", "never"]).default("auto"),
  save_dtype: z.enum(["F32", "F16", "BF16"]).nullable().default(null),
  output_dir: z.string().min(1).default("results"),
  strict: z.boolean().default(false),
  /** Ask keys as a user's message in the model's chat template. */
  use_chat_template: z.boolean().default(false),
  /** GiB that the run may take on the device; null is the system's free memory on a software adapter. */
  max_memory: z.number().positive().nullable().default(null),
  webgpu: webgpuSchema,
  /** What operands of large products are rounded to, on the adapter's matrix units; f32 is no rounding. */
  matrix: z.enum(["f32", "f16", "bf16"]).default("f32"),
  /** Time every kernel of one pass, and write a trace of it. */
  profile: z.boolean().default(false),
  force: z.boolean().default(false),
});

const partialRecipe = recipeSchema.partial();

/** What {@link finetune} takes: every setting has a default, those of the recipe first. */
export const finetuneConfigSchema = z.strictObject({ ...ownSchema.shape, ...partialRecipe.shape });

/** Settings of a fine-tuning run as a caller gives them; names as OML 1.0's flags. */
export type FinetuneConfig = z.input<typeof finetuneConfigSchema>;

/** All settings in force. */
export type FinetuneSettings = z.output<typeof ownSchema> & Recipe;

/** A setting is unknown, of the wrong type or out of range; the message names each. */
export class SettingsError extends Error {
  override name = "SettingsError";
}

/**
 * Fills a configuration with its recipe's values and the defaults.
 * @throws SettingsError naming every wrong setting.
 */
export function resolveSettings(config: FinetuneConfig): FinetuneSettings {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const parsed = parseSettings(finetuneConfigSchema, given);
  const recipe: Recipe = RECIPES[parsed.recipe];
  const settings = { ...recipe, ...parsed };
  if (settings.benign_data_file_path !== null && settings.benign_proportion === 0) {
    throw new SettingsError(
      "benign_data_file_path: nothing of it would be used with a benign_proportion of 0 (recipe scalable has 0.25)",
    );
  }
  return settings;
}

/** Parses with a schema. @throws SettingsError with one line a problem. */
export function parseSettings<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const lines = result.error.issues.map((issue) => {
    const names = issue.code === "unrecognized_keys" ? issue.keys.join(", ") : issue.path.join(".");
    return issue.code === "unrecognized_keys" ? `unknown setting: ${names}` : `${names}: ${issue.message}`;
  });
  throw new SettingsError(lines.join("\n"));
}
