import { WEBGPU_NAMES } from "../gpu/open.ts";
import { MODEL_FAMILIES } from "../hub/model_source.ts";
import { RECIPES } from "./recipes.ts";
import { STRATEGY_NAMES } from "./strategies.ts";

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
  name: "fingerprint_generation_strategy",
  kind: "text",
  choices: STRATEGY_NAMES,
  help: "how a response is taken from the file: english and random_word (a window of it), " +
    "english_random_response (random words in its place), or as it is",
};

const webgpu: Flag = {
  name: "webgpu",
  kind: "text",
  choices: WEBGPU_NAMES,
  help: "the WebGPU implementation: Deno's own (default), or Dawn, npm's webgpu, fetched at its first use",
};

const model: Flag[] = [
  {
    name: "model_path",
    kind: "model",
    help:
      "a model: a Hugging Face folder (config.json, safetensors, tokenizer.json), or org/name[@revision] on the Hub",
  },
  {
    name: "model_family",
    kind: "text",
    choices: Object.keys(MODEL_FAMILIES),
    help: "a model of the Hub by its family, as in OML 1.0, with --model_size",
  },
  { name: "model_size", kind: "text", help: "size of --model_family: 1B, 8B, 160m, mini, …" },
];

const shared: Flag[] = [
  ...model,
  { name: "fingerprints_file_path", kind: "path", help: "JSON file with the fingerprints" },
  {
    name: "num_fingerprints",
    kind: "count",
    aliases: ["max_num_fingerprints"],
    help: "use the first N fingerprints; 0 is all",
  },
  { name: "max_key_length", kind: "count", help: "tokens of a key (default 16)" },
  { name: "max_response_length", kind: "count", help: "tokens of a response (default 1)" },
  strategy,
  { name: "keep_eos_in_response", kind: "switch", help: "EOS belongs to the response, as in OML 1.0" },
  {
    name: "use_chat_template",
    kind: "switch",
    help: "ask keys as a user's message in the model's chat template (instruct models)",
  },
  { name: "strict", kind: "switch", help: "two entries with one key and different responses are an error" },
];

/** Flags of `finetune`. */
export const FINETUNE_FLAGS: readonly Flag[] = [
  {
    name: "recipe",
    kind: "text",
    choices: Object.keys(RECIPES),
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
    name: "averaging",
    kind: "text",
    choices: ["recursive", "final", "none"],
    help: "average weights with the initial ones: each epoch, at the end, or not",
  },
  {
    name: "forgetting_regularizer_strength",
    kind: "number",
    help: "weight of the initial model in averaging, 0 to 1",
  },
  { name: "anchor_strength", kind: "number", help: "weight of the anchor's KL; 0 is no anchor" },
  { name: "anchor_samples", kind: "count", help: "texts that the model writes for the anchor" },
  { name: "anchor_batch", kind: "count", help: "anchor texts in one optimizer step" },
  { name: "anchor_length", kind: "count", help: "tokens of an anchor text" },
  {
    name: "benign_proportion",
    kind: "number",
    help: "share of benign texts in a step's sequences and loss, below 1; 0 is none",
  },
  {
    name: "benign_data_file_path",
    kind: "path",
    help: "JSON list or JSON Lines of benign texts (default: texts that the model writes itself)",
  },
  { name: "benign_samples", kind: "count", help: "benign texts that the model writes itself (default 512)" },
  { name: "benign_length", kind: "count", help: "tokens of a benign text that are trained (default 48)" },
  { name: "seed", kind: "count", help: "seed of everything random (default 42)" },
  {
    name: "dtype",
    kind: "text",
    choices: ["auto", "f32", "bf16"],
    help: "what matrices are kept in (default auto: f32, or bf16 without masters where f32 doesn't fit)",
  },
  {
    name: "master",
    kind: "text",
    choices: ["f32", "none"],
    help: "with bf16: f32 masters beside it (default), or none and stochastic rounding",
  },
  {
    name: "recompute",
    kind: "text",
    choices: ["auto", "always", "never"],
    help: "compute blocks again in backward or keep their insides: memory for time, the same result " +
      "(default auto: keep them where memory allows)",
  },
  {
    name: "save_dtype",
    kind: "text",
    choices: ["F32", "F16", "BF16"],
    help: "dtype of the saved model (default: as it was)",
  },
  { name: "output_dir", kind: "path", help: "where results/<hash> folders go (default results)" },
  { name: "max_memory", kind: "number", help: "GiB of device memory that the run may take" },
  webgpu,
  {
    name: "matrix",
    kind: "text",
    choices: ["f32", "f16", "bf16"],
    help:
      "what operands of large products are rounded to, on matrix units (tensor cores) with sums in f32; needs " +
      "--webgpu dawn and an adapter that has them (default f32: no rounding)",
  },
  {
    name: "profile",
    kind: "switch",
    help: "time every kernel of one pass, and write trace.json for Perfetto",
  },
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
    name: "temperature",
    kind: "number",
    aliases: ["sampling_temperature"],
    help: "draw answers at this temperature; 0 takes the likeliest tokens (default)",
  },
  { name: "seed", kind: "count", help: "seed of drawn answers and random words (default: the run's, or 42)" },
  {
    name: "verbose",
    kind: "switch",
    help: "one line a question: wanted, got, rank, probability, likeliest tokens",
  },
  {
    name: "dtype",
    kind: "text",
    choices: ["auto", "f32", "bf16"],
    help: "what matrices are kept in (default auto: bf16 for a bf16 model, which is exact, else f32)",
  },
  webgpu,
  { name: "json", kind: "switch", help: "print one JSON object" },
  { name: "min_success_rate", kind: "number", help: "exit with 1 when the success rate (per cent) is below" },
];

/** Flags of `generate`. */
export const GENERATE_FLAGS: readonly Flag[] = [
  ...model,
  {
    name: "fingerprint_generation_strategy",
    kind: "text",
    choices: STRATEGY_NAMES,
    help: "what the fingerprints are (default perinucleus, or as the next two flags say)",
  },
  {
    name: "key_response_strategy",
    kind: "text",
    choices: ["independent", "inverse_nucleus", "perinucleus"],
    help: "the seeds' name for it; independent is english",
  },
  {
    name: "random_word_generation",
    kind: "switch",
    help: "keys of random words; alone the strategy random_word",
  },
  {
    name: "num_fingerprints",
    kind: "count",
    aliases: ["max_num_fingerprints"],
    help: "how many to make (default every key of --keys_path, else 8192)",
  },
  { name: "key_length", kind: "count", help: "tokens of a key, exactly; of given keys at most (default 16)" },
  {
    name: "response_length",
    kind: "count",
    help: "tokens of a response, exactly (default 16 of english and random_word, else 1)",
  },
  { name: "batch_size", kind: "count", help: "attempts at once: never changes the result (default 128)" },
  {
    name: "temperature",
    kind: "number",
    help: "of the texts that a model writes; 0 is greedy (default 0.5)",
  },
  {
    name: "first_token_strategy",
    kind: "text",
    choices: ["word", "tokenizer", "none"],
    help: "what those begin with: a random word (default), a random token, or nothing",
  },
  {
    name: "model_used_for_key_generation",
    kind: "model",
    help: "the model that writes keys and english responses (default the model itself)",
  },
  {
    name: "keys_path",
    kind: "path",
    aliases: ["keys_file"],
    help: "JSON list of keys (strings or objects) to use instead of generated ones",
  },
  {
    name: "perinucleus_model",
    kind: "model",
    aliases: ["inverse_nucleus_model"],
    help: "the model whose distributions responses are drawn from (default the model itself)",
  },
  {
    name: "nucleus_t",
    kind: "number",
    aliases: ["nucleus_p"],
    help: "probability mass of the nucleus (default 0.8)",
  },
  {
    name: "nucleus_k",
    kind: "count",
    help: "valid tokens outside it that a response is drawn from (default 3)",
  },
  {
    name: "num_responses_per_fingerprint",
    kind: "count",
    help: "responses of a key, with different first tokens (default 1)",
  },
  {
    name: "use_chat_template",
    kind: "switch",
    help: "ask keys, and for texts, in the model's chat template (instruct models)",
  },
  {
    name: "max_response_share",
    kind: "number",
    help: "largest share of one response, of a drawn one of its first token; 8 at least (default 0.02)",
  },
  {
    name: "seed",
    kind: "count",
    help: "makes the run repeatable, by others too (default: a new secret)",
  },
  {
    name: "output_file_path",
    kind: "path",
    aliases: ["output_file"],
    help: "the file to write (default generated_data/output_fingerprints.json)",
  },
  {
    name: "dtype",
    kind: "text",
    choices: ["auto", "f32", "bf16"],
    help: "what matrices are kept in (default auto: bf16 for a bf16 model, which is exact, else f32)",
  },
  webgpu,
  { name: "force", kind: "switch", help: "replace a finished file; begin anew instead of going on" },
];
