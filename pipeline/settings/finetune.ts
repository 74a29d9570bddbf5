import { z } from "zod";
import { flag } from "./flag.ts";
import { type Decided, parseSettings, SettingsError } from "./parse.ts";
import { RECIPE_NAMES, recipeFlags, type RecipeName, RECIPES } from "./recipes.ts";
import { modelFlags, seedType, webgpu, type WebgpuName } from "./shared.ts";
import type { Strategy, StrategyName } from "./strategies.ts";

const count = z.number().int().min(0);
const positive = z.number().int().min(1);
const path = z.string().min(1);

/** Flags that don't depend on the recipe. */
export const ownFlags = {
  ...modelFlags,
  fingerprints_file_path: flag(path.nullable().default(null), {
    group: "Fingerprints",
    reads: "path",
    help: "JSON file with the fingerprints",
    unset: "the demo's, else made with the model",
    isNeutral: true,
  }),
  benign_data_file_path: flag(path.nullable().default(null), {
    group: "Keeping the model useful",
    reads: "path",
    help: "JSON list or JSON Lines of benign texts",
    unset: "texts that the model writes itself",
    isNeutral: true,
  }),
  benign_samples: flag(positive.default(512), {
    group: "Keeping the model useful",
    help: "benign texts that the model writes itself",
  }),
  benign_length: flag(positive.default(48), {
    group: "Keeping the model useful",
    help: "tokens of a benign text that are trained",
  }),
  num_fingerprints: flag(count.nullable().default(null), {
    group: "Fingerprints",
    aliases: ["max_num_fingerprints"],
    help: "use the first N fingerprints; 0 is all",
    unset: "64 of the demo's, else all",
  }),
  max_key_length: flag(positive.default(16), { group: "Fingerprints", help: "tokens of a key" }),
  max_response_length: flag(positive.default(1), { group: "Fingerprints", help: "tokens of a response" }),
  recipe: flag(z.enum(RECIPE_NAMES).default("anchored"), {
    group: "Training",
    help: "named settings, overridden by flags",
  }),
  batch_size: flag(count.default(0), {
    group: "Device and memory",
    help: "sequences in a micro-batch: changes memory, never the result; 0 is automatic",
  }),
  fingerprints_per_step: flag(count.default(0), {
    group: "Training",
    help: "fingerprints in one optimizer step; 0 is all",
  }),
  seed: flag(seedType.default(42), { group: "Training", help: "seed of everything random" }),
  dtype: flag(z.enum(["auto", "f32", "bf16"]).default("auto"), {
    group: "Device and memory",
    help: "what matrices are kept in; auto is f32, or bf16 without masters where f32 doesn't fit",
  }),
  master: flag(z.enum(["f32", "none"]).default("f32"), {
    group: "Device and memory",
    help: "with bf16: f32 masters beside it, or none and stochastic rounding",
  }),
  recompute: flag(z.enum(["auto", "always", "never"]).default("auto"), {
    group: "Device and memory",
    help:
      "activation checkpointing: recompute activations in backward instead of keeping them, less memory for more " +
      "time and the same result; auto keeps them where memory allows",
    isNeutral: true,
  }),
  save_dtype: flag(z.enum(["F32", "F16", "BF16"]).nullable().default(null), {
    group: "Output",
    help: "dtype of the saved model",
    unset: "as it was",
  }),
  output_dir: flag(path.default("results"), {
    group: "Output",
    reads: "path",
    writes: "folder",
    help: "where results/<hash> folders go",
    isNeutral: true,
  }),
  rescue_dir: flag(path.nullable().default(null), {
    group: "Output",
    reads: "path",
    writes: "folder",
    help: "where the results go when output_dir takes them no more after training: a folder on another disk",
    isNeutral: true,
  }),
  strict: flag(z.boolean().default(false), {
    group: "Fingerprints",
    help: "two entries with one key and different responses are an error",
  }),
  use_chat_template: flag(z.boolean().default(false), {
    group: "Fingerprints",
    help: "ask keys as a user's message in the model's chat template (instruct models)",
    unset: "as the file's were made, else off",
  }),
  max_memory: flag(z.number().positive().nullable().default(null), {
    group: "Device and memory",
    help: "GiB of device memory that the run may take",
    unset: "free memory on a software adapter",
    isNeutral: true,
  }),
  webgpu,
  matrix: flag(z.enum(["f32", "f16", "bf16"]).default("f32"), {
    group: "Device and memory",
    help:
      "what operands of large products are rounded to, on matrix units (tensor cores) with sums in f32; needs " +
      "--webgpu dawn and an adapter that has them; f32 is no rounding",
  }),
  profile: flag(z.boolean().default(false), {
    group: "Output",
    help: "time every kernel of one pass, and write trace.json for Perfetto",
    isNeutral: true,
  }),
  force: flag(z.boolean().default(false), {
    group: "Output",
    help: "run again although the results are there",
    isNeutral: true,
  }),
};

/** Checks what `finetune` takes: every setting has a default, those of the recipe first. */
export const finetuneConfigSchema = z.strictObject({
  ...ownFlags,
  ...z.strictObject(recipeFlags).partial().shape,
});

/** Every flag of a run's configuration, by name. */
export const finetuneFlags = { ...ownFlags, ...recipeFlags };

/** Settings of a fine-tuning run as a caller gives them; names as OML 1.0's flags. */
export interface FinetuneConfig {
  /** Folder of a Hugging Face model, or its Hub name `org/name[@revision]`; null is the demo model. */
  model_path?: string | null | undefined;
  /** A model of the Hub as OML 1.0 names it, instead of `model_path`. */
  model_family?: string | null | undefined;
  /** Size of `model_family`. */
  model_size?: string | null | undefined;
  /** JSON file with the fingerprints; null is the demo's for the demo model, else some that the run makes itself. */
  fingerprints_file_path?: string | null | undefined;
  /** Benign texts to mix in: a JSON list or JSON Lines; null is texts that the model writes itself. */
  benign_data_file_path?: string | null | undefined;
  /** Texts that the model writes without a file, at most. Default 512. */
  benign_samples?: number | undefined;
  /** Tokens of a benign text that are trained, at most. Default 48. */
  benign_length?: number | undefined;
  /** The first fingerprints of the file; 0 is all. Default 64 for the demo model, else all. */
  num_fingerprints?: number | null | undefined;
  /** Tokens of a key, at most. Default 16. */
  max_key_length?: number | undefined;
  /** Tokens of a response, at most. Default 1. */
  max_response_length?: number | undefined;
  /** Named settings that the others override. Default anchored. */
  recipe?: RecipeName | undefined;
  /** Fingerprints in one micro-batch: changes memory, never the result. 0, the default, is as many as fit 4096 tokens. */
  batch_size?: number | undefined;
  /** Fingerprints in one optimizer step; 0, the default, is all, OML 1.0's one step an epoch. */
  fingerprints_per_step?: number | undefined;
  /** Seed of everything random, a 32-bit whole number. Default 42. */
  seed?: number | undefined;
  /** What matrices are kept in; auto, the default, is f32, or bf16 without masters where f32 doesn't fit. */
  dtype?: "auto" | "f32" | "bf16" | undefined;
  /** With bf16: f32 masters beside it (default), or none and stochastic rounding. */
  master?: "f32" | "none" | undefined;
  /** Activation checkpointing: the same bits in less memory and more time. auto uses it where memory asks for it. */
  recompute?: "auto" | "always" | "never" | undefined;
  /** Dtype of the saved model; null, the default, is the checkpoint's. */
  save_dtype?: "F32" | "F16" | "BF16" | null | undefined;
  /** Where `<hash>/` folders go. Default results. */
  output_dir?: string | undefined;
  /** Where they go when `output_dir` takes them no more after training; null, the default, is nowhere. */
  rescue_dir?: string | null | undefined;
  /** Two entries with one key and different responses are an error. Default false. */
  strict?: boolean | undefined;
  /** Ask keys as a user's message in the model's chat template. Default as the fingerprint file says, else false. */
  use_chat_template?: boolean | undefined;
  /** GiB that the run may take on the device; null, the default, is the system's free memory on a software adapter. */
  max_memory?: number | null | undefined;
  /** The WebGPU implementation. Default deno. */
  webgpu?: WebgpuName | undefined;
  /** What operands of large products are rounded to, on the adapter's matrix units; f32, the default, is no rounding. */
  matrix?: "f32" | "f16" | "bf16" | undefined;
  /** Time every kernel of one pass, and write a trace of it. Default false. */
  profile?: boolean | undefined;
  /** Run again although the results are there. Default false. */
  force?: boolean | undefined;
  /** How a response is taken from the file. Default by recipe, as of everything below. */
  fingerprint_generation_strategy?: StrategyName | undefined;
  /** EOS belongs to the response. */
  keep_eos_in_response?: boolean | undefined;
  /** Show half of the keys inside random prompts. */
  use_augmentation_prompts?: boolean | undefined;
  /** Peak learning rate of AdamW; null is by the model's width. */
  learning_rate?: number | null | undefined;
  /** Linear decay to 0, or constant. */
  lr_schedule?: "linear" | "constant" | undefined;
  /** Optimizer steps of linear warm-up. */
  warmup_steps?: number | undefined;
  /** Passes over all fingerprints. */
  num_train_epochs?: number | undefined;
  /** AdamW's decoupled weight decay. */
  weight_decay?: number | undefined;
  /** Largest global gradient norm; 0 is no clipping. */
  max_grad_norm?: number | undefined;
  /** Training ends when the fingerprints' mean cross-entropy on plain keys, in nats, is below; 0 is off. */
  early_stop_loss?: number | undefined;
  /** Average weights with the initial ones: after each epoch, once at the end, or not. */
  averaging?: "recursive" | "final" | "none" | undefined;
  /** Weight of the initial model in averaging, 0 to 1: 1 is no fine-tuning at all. */
  forgetting_regularizer_strength?: number | undefined;
  /** Weight of the anchor's KL; 0 is no anchor. */
  anchor_strength?: number | undefined;
  /** Texts that the model writes for the anchor. */
  anchor_samples?: number | undefined;
  /** Anchor texts in one optimizer step. */
  anchor_batch?: number | undefined;
  /** Tokens of an anchor text. */
  anchor_length?: number | undefined;
  /** Share of benign texts among a step's sequences, and of their loss in its loss; below 1, 0 is none. */
  benign_proportion?: number | undefined;
}

/** All settings in force. */
export interface FinetuneSettings extends Decided<Omit<FinetuneConfig, "fingerprint_generation_strategy">> {
  /** How a response is taken from the file. */
  readonly fingerprint_generation_strategy: Strategy;
}

/**
 * Fills a configuration with its recipe's values and the defaults.
 * @throws SettingsError naming every wrong setting.
 */
export function resolveSettings(config: FinetuneConfig): FinetuneSettings {
  const parsed = parseSettings(finetuneConfigSchema, config);
  // What is undefined isn't given, so nothing parsed is.
  const settings = { ...RECIPES[parsed.recipe], ...parsed } as FinetuneSettings;
  if (settings.benign_data_file_path !== null && settings.benign_proportion === 0) {
    throw new SettingsError(
      "benign_data_file_path: nothing of it would be used with a benign_proportion of 0 (recipe scalable has 0.25)",
    );
  }
  const { anchor_strength, anchor_batch, anchor_samples } = settings;
  if (anchor_strength > 0 && anchor_batch > anchor_samples && parsed.anchor_batch !== undefined) {
    throw new SettingsError(
      `anchor_batch: expected at most the ${anchor_samples} of anchor_samples, found ${anchor_batch}`,
    );
  }
  return Object.freeze(settings);
}
