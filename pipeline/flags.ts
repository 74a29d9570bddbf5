import { MODEL_FAMILIES } from "./model_source.ts";
import { STRATEGIES } from "./fingerprints.ts";
import { RECIPES } from "./recipes.ts";

/** A command-line flag: its setting, how its text is read, and what it says in --help. */
export interface Flag {
  name: string;
  kind: "text" | "path" | "model" | "count" | "number" | "switch";
  help: string;
  choices?: readonly string[];
  /** Other names, as the seeds have them. */
  aliases?: readonly string[];
}

const strategy: Flag = {
  ...{ name: "fingerprint_generation_strategy", kind: "text", choices: STRATEGIES },
  help: "how a response is taken from the file: english (a window of it), or as it is",
};

const shared: Flag[] = [
  {
    name: "model_path",
    kind: "model",
    help:
      "a model: a Hugging Face folder (config.json, safetensors, tokenizer.json), or org/name[@revision] on the Hub",
  },
  {
    ...{ name: "model_family", kind: "text", choices: Object.keys(MODEL_FAMILIES) },
    help: "a model of the Hub by its family, as in OML 1.0, with --model_size",
  },
  { name: "model_size", kind: "text", help: "size of --model_family: 1B, 8B, 160m, mini, …" },
  { name: "fingerprints_file_path", kind: "path", help: "JSON file with the fingerprints" },
  {
    ...{ name: "num_fingerprints", kind: "count", aliases: ["max_num_fingerprints"] },
    help: "use the first N fingerprints; 0 is all",
  },
  { name: "max_key_length", kind: "count", help: "tokens of a key (default 16)" },
  { name: "max_response_length", kind: "count", help: "tokens of a response (default 1)" },
  strategy,
  { name: "keep_eos_in_response", kind: "switch", help: "EOS belongs to the response, as in OML 1.0" },
  {
    ...{ name: "use_chat_template", kind: "switch" },
    help: "ask keys as a user's message in the model's chat template (instruct models)",
  },
  { name: "strict", kind: "switch", help: "two entries with one key and different responses are an error" },
];

/** Flags of `finetune`. */
export const FINETUNE_FLAGS: readonly Flag[] = [
  {
    ...{ name: "recipe", kind: "text", choices: Object.keys(RECIPES) },
    help: "named settings, overridden by flags (default anchored)",
  },
  ...shared,
  { name: "learning_rate", kind: "number", help: "peak learning rate of AdamW" },
  {
    name: "lr_schedule",
    kind: "text",
    choices: ["linear", "constant"],
    help: "linear decay to 0, or constant",
  },
  { name: "warmup_steps", kind: "count", help: "optimizer steps of linear warm-up" },
  { name: "num_train_epochs", kind: "count", help: "passes over all fingerprints" },
  {
    name: "fingerprints_per_step",
    kind: "count",
    help: "fingerprints in one optimizer step; 0 is all (default)",
  },
  {
    name: "batch_size",
    kind: "count",
    help: "sequences in a micro-batch: changes memory, never the result; 0 is automatic",
  },
  { name: "weight_decay", kind: "number", help: "AdamW's decoupled weight decay" },
  { name: "max_grad_norm", kind: "number", help: "clip the global gradient norm; 0 is off" },
  { name: "early_stop_loss", kind: "number", help: "stop when the plain keys' mean loss is below; 0 is off" },
  { name: "use_augmentation_prompts", kind: "switch", help: "show half of the keys inside random prompts" },
  {
    ...{ name: "averaging", kind: "text", choices: ["recursive", "final", "none"] },
    help: "average weights with the initial ones: each epoch, at the end, or not",
  },
  {
    ...{ name: "forgetting_regularizer_strength", kind: "number" },
    help: "weight of the initial model in averaging, 0 to 1",
  },
  { name: "anchor_strength", kind: "number", help: "weight of the anchor's KL; 0 is no anchor" },
  { name: "anchor_samples", kind: "count", help: "texts that the model writes for the anchor" },
  { name: "anchor_batch", kind: "count", help: "anchor texts in one optimizer step" },
  { name: "anchor_length", kind: "count", help: "tokens of an anchor text" },
  { name: "seed", kind: "count", help: "seed of everything random (default 42)" },
  {
    ...{ name: "dtype", kind: "text", choices: ["auto", "f32", "bf16"] },
    help: "what matrices are kept in (default auto: f32, or bf16 without masters where f32 doesn't fit)",
  },
  {
    ...{ name: "master", kind: "text", choices: ["f32", "none"] },
    help: "with bf16: f32 masters beside it (default), or none and stochastic rounding",
  },
  {
    name: "save_dtype",
    kind: "text",
    choices: ["F32", "F16", "BF16"],
    help: "dtype of the saved model (default: as it was)",
  },
  { name: "output_dir", kind: "path", help: "where results/<hash> folders go (default results)" },
  { name: "max_memory", kind: "number", help: "GiB of device memory that the run may take" },
  { name: "force", kind: "switch", help: "run again although the results are there" },
  {
    name: "dry_run",
    kind: "switch",
    help: "only say what memory the run would take, from config.json alone",
  },
];

/** Flags of `check`. */
export const CHECK_FLAGS: readonly Flag[] = [
  ...shared,
  { name: "use_augmentation_prompts", kind: "switch", help: "ask inside held-out prompts" },
  {
    name: "verbose",
    kind: "switch",
    help: "one line a question: wanted, got, rank, probability, likeliest tokens",
  },
  {
    ...{ name: "dtype", kind: "text", choices: ["auto", "f32", "bf16"] },
    help: "what matrices are kept in (default auto: bf16 for a bf16 model, which is exact, else f32)",
  },
  { name: "json", kind: "switch", help: "print one JSON object" },
  { name: "min_success_rate", kind: "number", help: "exit with 1 when the success rate (per cent) is below" },
];
