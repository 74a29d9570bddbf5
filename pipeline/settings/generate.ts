import { z } from "zod";
import { flag, likewise } from "./flag.ts";
import { finetuneFlags } from "./finetune.ts";
import { inferenceDtype, modelFlags, seedType, webgpu, type WebgpuName } from "./shared.ts";
import { type StrategyName, strategySchema } from "./strategies.ts";

const positive = z.number().int().min(1);
const model = z.string().min(1).nullable().default(null);

/** Every flag of a generation of fingerprints, by name. */
export const generateFlags = {
  ...modelFlags,
  fingerprint_generation_strategy: flag(strategySchema.nullable().default(null), {
    group: "Fingerprints",
    help: "what the fingerprints are",
    unset: "perinucleus, or as the next two flags say",
  }),
  key_response_strategy: flag(
    z.enum(["independent", "inverse_nucleus", "perinucleus"]).nullable().default(null),
    { group: "Fingerprints", help: "OML 1.0's name for it; independent is english" },
  ),
  random_word_generation: flag(z.boolean().default(false), {
    group: "Fingerprints",
    help: "keys of random words; alone the strategy random_word",
  }),
  num_fingerprints: flag(positive.nullable().default(null), {
    group: "Fingerprints",
    aliases: ["max_num_fingerprints"],
    help: "how many to make",
    unset: "every key of --keys_path, else 8192",
  }),
  key_length: flag(positive.default(16), {
    group: "Fingerprints",
    help: "tokens of a key, exactly; of given keys at most",
  }),
  response_length: flag(positive.nullable().default(null), {
    group: "Fingerprints",
    help: "tokens of a response, exactly",
    unset: "16 of english and random_word, else 1",
  }),
  batch_size: flag(positive.default(128), {
    group: "Device and memory",
    help: "attempts at once: never changes the result",
  }),
  temperature: flag(z.number().min(0).default(0.5), {
    group: "Texts and draws",
    help: "of the texts that a model writes; 0 is greedy",
  }),
  first_token_strategy: flag(z.enum(["word", "tokenizer", "none"]).default("word"), {
    group: "Texts and draws",
    help: "what those begin with: a random word, a random token, or nothing",
  }),
  model_used_for_key_generation: flag(model, {
    group: "Model",
    reads: "model",
    help: "the model that writes keys and english responses",
    unset: "the model itself",
  }),
  keys_path: flag(z.string().min(1).nullable().default(null), {
    group: "Fingerprints",
    reads: "path",
    aliases: ["keys_file"],
    help: "JSON list of keys (strings or objects) to use instead of generated ones",
  }),
  perinucleus_model: flag(model, {
    group: "Model",
    reads: "model",
    aliases: ["inverse_nucleus_model"],
    help: "the model whose distributions responses are drawn from",
    unset: "the model itself",
  }),
  nucleus_t: flag(z.number().min(0).lt(1).default(0.8), {
    group: "Texts and draws",
    aliases: ["nucleus_p"],
    help: "probability mass of the nucleus",
  }),
  nucleus_k: flag(positive.default(3), {
    group: "Texts and draws",
    help: "valid tokens outside it that a response is drawn from",
  }),
  num_responses_per_fingerprint: flag(positive.default(1), {
    group: "Fingerprints",
    help: "responses of a key, with different first tokens",
  }),
  use_chat_template: likewise(finetuneFlags.use_chat_template, {
    help: "ask keys, and for texts, in the model's chat template (instruct models)",
    unset: undefined,
  }),
  max_response_share: flag(z.number().gt(0).max(1).default(0.02), {
    group: "Texts and draws",
    help: "largest share of one response, of a drawn one of its first token; 8 at least",
  }),
  seed: flag(seedType.nullable().default(null), {
    group: "Texts and draws",
    help: "makes the run repeatable, by others too",
    unset: "a new secret",
  }),
  output_file_path: flag(z.string().min(1).default("generated_data/output_fingerprints.json"), {
    group: "Output",
    reads: "path",
    writes: "file",
    aliases: ["output_file"],
    help: "the file to write",
  }),
  dtype: inferenceDtype,
  webgpu,
  force: flag(z.boolean().default(false), {
    group: "Output",
    help: "replace a finished file; begin anew instead of going on",
  }),
};

/** Checks what `generateFingerprints` takes. */
export const generateConfigSchema = z.strictObject(generateFlags);

/** What `generateFingerprints` takes; names as in OML 1.0 and its successor where they have them. */
export interface GenerateConfig {
  /** The model to be fingerprinted: a folder, or `org/name[@revision]` on the Hub. */
  model_path?: string | null | undefined;
  /** A model of the Hub as OML 1.0 names it. */
  model_family?: string | null | undefined;
  /** Size of `model_family`. */
  model_size?: string | null | undefined;
  /** What the fingerprints are; null: as OML 1.0's two settings say, else perinucleus. */
  fingerprint_generation_strategy?: StrategyName | null | undefined;
  /** The seeds' way to say it: `independent` is english. */
  key_response_strategy?: "independent" | "inverse_nucleus" | "perinucleus" | null | undefined;
  /** Keys of random words; without another strategy responses, too. Default false. */
  random_word_generation?: boolean | undefined;
  /** How many to make; null, the default, is every key of the file, or 8,192. */
  num_fingerprints?: number | null | undefined;
  /** Tokens of a key, exactly; of keys from a file at most. Default 16. */
  key_length?: number | undefined;
  /** Tokens of a response, exactly; null, the default, is 16 of english and random_word, 1 of the others. */
  response_length?: number | null | undefined;
  /** Attempts at once: changes memory and speed, never the result. Default 128. */
  batch_size?: number | undefined;
  /** Of the texts that the model writes; 0 is greedy. Default 0.5. */
  temperature?: number | undefined;
  /** What such a text begins with: a word (default), any token of the tokenizer, or nothing. */
  first_token_strategy?: "word" | "tokenizer" | "none" | undefined;
  /** The model that writes keys (and english responses); null, the default, is the model itself. */
  model_used_for_key_generation?: string | null | undefined;
  /** JSON list of keys, to be used instead of generated ones. */
  keys_path?: string | null | undefined;
  /** The model whose distributions responses are drawn from; null, the default, is the model itself. */
  perinucleus_model?: string | null | undefined;
  /** Probability mass of the nucleus, 0 to below 1. Default 0.8. */
  nucleus_t?: number | undefined;
  /** How many valid tokens outside it a response is drawn from. Default 3. */
  nucleus_k?: number | undefined;
  /** Responses of a key, of the nucleus strategies. Default 1. */
  num_responses_per_fingerprint?: number | undefined;
  /** Keys are asked as a user's message, and texts requested so, in the model's chat template. Default false. */
  use_chat_template?: boolean | undefined;
  /** Largest share of one response, of a drawn one of its first token; 8 are always allowed. Default 0.02. */
  max_response_share?: number | undefined;
  /** Null, the default: a new secret beside the file decides; a number makes the run repeatable, by others too. */
  seed?: number | null | undefined;
  /** The file to write. Default generated_data/output_fingerprints.json. */
  output_file_path?: string | undefined;
  /** What matrices are kept in; auto, the default, is bf16 for a model that is stored so, which is exact, else f32. */
  dtype?: "auto" | "f32" | "bf16" | undefined;
  /** The WebGPU implementation. Default deno. */
  webgpu?: WebgpuName | undefined;
  /** Replace a finished file, and begin anew instead of going on. Default false. */
  force?: boolean | undefined;
}
