import { z } from "zod";
import { flag, likewise, withoutDefault } from "./flag.ts";
import { finetuneFlags } from "./finetune.ts";
import { inferenceDtype, modelFlags, seedType, webgpu, type WebgpuName } from "./shared.ts";
import { type ResponseStrategyName, responseStrategySchema } from "./strategies.ts";

const asSaved = { unset: "the run's, or the file's" };

/** Settings that a fine-tuning run saves and a check takes from there. */
const savedFlags = {
  fingerprint_generation_strategy: flag(responseStrategySchema.optional(), {
    group: "Fingerprints",
    help: "how a response is taken from the file: english and random_word (a window of it), " +
      "english_random_response (random words in its place), or stored (as it is; also inverse_nucleus, perinucleus)",
    unset: "the run's, or stored",
  }),
  max_key_length: withoutDefault(finetuneFlags.max_key_length, asSaved),
  max_response_length: withoutDefault(finetuneFlags.max_response_length, asSaved),
  keep_eos_in_response: withoutDefault(finetuneFlags.keep_eos_in_response, {
    byRecipe: undefined,
    unset: "the run's",
  }),
  num_fingerprints: withoutDefault(finetuneFlags.num_fingerprints, {
    unset: "all, or as many as the run took of this very file",
  }),
  use_chat_template: withoutDefault(finetuneFlags.use_chat_template, { unset: "the run's, or the file's" }),
  seed: flag(seedType.optional(), {
    group: "Questions",
    help: "seed of drawn answers and random words",
    unset: "the run's, or 42",
  }),
};

/** Reads a run's settings; what else is there is left out. */
export const savedSchema = z.object(savedFlags);

/** Every flag of a check, by name. */
export const checkFlags = {
  ...modelFlags,
  model_path: likewise(modelFlags.model_path, { unset: "none: it must be given" }),
  fingerprints_file_path: likewise(finetuneFlags.fingerprints_file_path, {
    unset: "beside a model that finetune wrote",
  }),
  ...savedFlags,
  strict: finetuneFlags.strict,
  use_augmentation_prompts: flag(z.boolean().default(false), {
    group: "Questions",
    help: "ask inside held-out prompts",
  }),
  temperature: flag(z.number().min(0).default(0), {
    group: "Questions",
    aliases: ["sampling_temperature"],
    help: "draw answers at this temperature; 0 takes the likeliest tokens",
  }),
  verbose: flag(z.boolean().default(false), {
    group: "Output",
    help: "one line a question: wanted, got, rank, probability, likeliest tokens",
  }),
  dtype: inferenceDtype,
  webgpu,
};

/** A fingerprint as a value: the fields of an entry of a fingerprint file. */
export interface GivenFingerprint {
  /** The text that is asked. A secret. */
  key: string;
  /** What should come, or several texts of which one should. A secret. */
  response: string | readonly string[];
  /** Other fields of a file's entry: `key_ids`, `response_ids`, `tokenizer_hash`, … */
  [field: string]: unknown;
}

/** Checks what `check` takes: its flags, and fingerprints as values, which no flag gives. */
export const checkConfigSchema = z.strictObject({
  ...checkFlags,
  fingerprints: z.custom<readonly GivenFingerprint[]>(Array.isArray, "expected a list of fingerprints")
    .optional(),
});

/** What `check` takes; the names are those of the flags. */
export interface CheckConfig {
  /** The model to ask: a folder, or `org/name[@revision]` on the Hub; or `model_family` and `model_size` instead. */
  model_path?: string | null | undefined;
  /** A model of the Hub as OML 1.0 names it. */
  model_family?: string | null | undefined;
  /** Size of `model_family`. */
  model_size?: string | null | undefined;
  /** JSON file with the fingerprints. Not needed for a `results/<hash>/final_model` folder. */
  fingerprints_file_path?: string | null | undefined;
  /** The fingerprints themselves, in place of a file. */
  fingerprints?: readonly GivenFingerprint[] | undefined;
  /** How a response is taken from the file. Default the run's, or `stored`, as it is. */
  fingerprint_generation_strategy?: ResponseStrategyName | undefined;
  /** Tokens of a key, at most. Default the run's. */
  max_key_length?: number | undefined;
  /** Tokens of a response, at most. Default the run's. */
  max_response_length?: number | undefined;
  /** EOS belongs to the response. Default the run's. */
  keep_eos_in_response?: boolean | undefined;
  /** The first fingerprints of the file; 0 is all. Default all, or as many as the run took of this very file. */
  num_fingerprints?: number | null | undefined;
  /** Ask keys as a user's message in the model's chat template. Default the run's, or as the file says. */
  use_chat_template?: boolean | undefined;
  /** Of drawn answers, and of the words of strategy english_random_response. Default the run's, or 42. */
  seed?: number | undefined;
  /** Two entries with one key and different responses are an error. Default false. */
  strict?: boolean | undefined;
  /** Ask under the held-out prompts instead of the plain keys. Default false. */
  use_augmentation_prompts?: boolean | undefined;
  /** Draw answers at this temperature instead of taking the likeliest tokens; 0, the default, doesn't. */
  temperature?: number | undefined;
  /** Give rows by fingerprint, with rank, probability and the likeliest tokens. Default false. */
  verbose?: boolean | undefined;
  /** What matrices are kept in; auto, the default, is bf16 for a model that is stored so, which is exact, else f32. */
  dtype?: "auto" | "f32" | "bf16" | undefined;
  /** The WebGPU implementation. Default deno. */
  webgpu?: WebgpuName | undefined;
}
