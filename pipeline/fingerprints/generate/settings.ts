import { z } from "zod";
import { parseSettings, SettingsError } from "../../settings/finetune.ts";
import { webgpuSchema } from "../../gpu/open.ts";
import { type Strategy, strategySchema } from "../../settings/strategies.ts";

const positive = z.number().int().min(1);
const name = z.string().min(1).nullable().default(null);

/** How keys come about. */
export type KeySource = "english" | "words" | "file";
/** How responses come about. */
export type ResponseSource = "english" | "words" | "nucleus";

/**
 * Every setting of {@link generateFingerprints}; names as in OML 1.0 and its successor where they have them.
 */
export const generateConfigSchema = z.strictObject({
  /** The model to be fingerprinted: a folder, or org/name[@revision] on the Hub. */
  model_path: name,
  model_family: name,
  model_size: name,
  /** What the fingerprints are; null: as the seeds' two settings say, else perinucleus. */
  fingerprint_generation_strategy: strategySchema.nullable().default(null),
  /** The seeds' way to say it: `independent` is english. */
  key_response_strategy: z.enum(["independent", "inverse_nucleus", "perinucleus"]).nullable().default(null),
  /** Keys of random words; without another strategy responses, too. */
  random_word_generation: z.boolean().default(false),
  /** Null: every key of the file, or 8,192. */
  num_fingerprints: positive.nullable().default(null),
  /** Tokens of a key, exactly; of keys from a file at most. */
  key_length: positive.default(16),
  /** Tokens of a response, exactly; null: 16 of english and random_word, 1 of the others. */
  response_length: positive.nullable().default(null),
  /** Attempts at once: changes memory and speed, never the result. */
  batch_size: positive.default(128),
  /** Of the texts that the model writes; 0 is greedy. */
  temperature: z.number().min(0).default(0.5),
  /** What such a text begins with: a word, any token of the tokenizer, or nothing. */
  first_token_strategy: z.enum(["word", "tokenizer", "none"]).default("word"),
  /** The model that writes keys (and english responses); null: the model itself. */
  model_used_for_key_generation: name,
  /** JSON list of keys, to be used instead of generated ones. */
  keys_path: name,
  /** The model whose distributions responses are drawn from; null: the model itself. */
  perinucleus_model: name,
  /** Probability mass of the nucleus. */
  nucleus_t: z.number().min(0).lt(1).default(0.8),
  /** How many valid tokens outside it a response is drawn from. */
  nucleus_k: positive.default(3),
  /** Responses of a key, of the nucleus strategies. */
  num_responses_per_fingerprint: positive.default(1),
  /** Keys are asked as a user's message, and texts requested so, in the model's chat template. */
  use_chat_template: z.boolean().default(false),
  /** Largest share of one response, of a drawn one of its first token; 8 are always allowed. */
  max_response_share: z.number().gt(0).max(1).default(0.02),
  /** Null: a new secret beside the file decides; a number makes the run repeatable, by others too. */
  seed: z.number().int().min(0).max(0xffffffff).nullable().default(null),
  output_file_path: z.string().min(1).default("generated_data/output_fingerprints.json"),
  /** What matrices are kept in; auto is bf16 for a model that is stored so, which is exact, else f32. */
  dtype: z.enum(["auto", "f32", "bf16"]).default("auto"),
  webgpu: webgpuSchema,
  /** Replace a finished file, and begin anew instead of going on. */
  force: z.boolean().default(false),
});

/** What {@link generateFingerprints} takes. */
export type GenerateConfig = z.input<typeof generateConfigSchema>;

/** All settings in force. */
export interface GenerateSettings
  extends Omit<z.output<typeof generateConfigSchema>, "fingerprint_generation_strategy"> {
  fingerprint_generation_strategy: Strategy;
  response_length: number;
  keys: KeySource;
  responses: ResponseSource;
}

const RESPONSES: Readonly<Record<Strategy, ResponseSource>> = {
  english: "english",
  random_word: "words",
  english_random_response: "words",
  inverse_nucleus: "nucleus",
  perinucleus: "nucleus",
};

/**
 * Fills in the defaults and decides the strategy.
 * @throws SettingsError naming every wrong setting, or two that contradict each other.
 */
export function resolveGenerateSettings(config: GenerateConfig): GenerateSettings {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const parsed = parseSettings(generateConfigSchema, given);
  const strategy = strategyOf(parsed);
  const responses = RESPONSES[strategy];
  const {
    num_responses_per_fingerprint: count,
    nucleus_k: k,
    random_word_generation: words,
    keys_path: file,
  } = parsed;
  if (parsed.perinucleus_model !== null && responses !== "nucleus") {
    throw new SettingsError(`perinucleus_model: ${strategy} draws no responses from a model's distribution`);
  }
  if (count > 1 && responses !== "nucleus") {
    throw new SettingsError(
      `num_responses_per_fingerprint: ${strategy} has one response, found ${count} (perinucleus has several)`,
    );
  }
  if (count > k) {
    throw new SettingsError(`nucleus_k: expected at least the ${count} responses of a key, found ${k}`);
  }
  return {
    ...parsed,
    fingerprint_generation_strategy: strategy,
    responses,
    response_length: parsed.response_length ??
      (strategy === "english" || strategy === "random_word" ? 16 : 1),
    keys: file !== null ? "file" : words || strategy === "random_word" ? "words" : "english",
  };
}

/**
 * One scheme for three settings: the strategy that is named; else the successor's `key_response_strategy`,
 * where `independent` is english; else random_word with `random_word_generation`; else perinucleus.
 */
function strategyOf(settings: z.output<typeof generateConfigSchema>): Strategy {
  const {
    fingerprint_generation_strategy: named,
    key_response_strategy: pair,
    random_word_generation: words,
  } = settings;
  const strategy = named ??
    (pair === null || pair === "independent" ? (words ? "random_word" : pair && "english") : pair) ??
    "perinucleus";
  const isNucleus = RESPONSES[strategy] === "nucleus";
  if (pair !== null && (pair === "independent" ? isNucleus : pair !== strategy)) {
    throw new SettingsError(
      `fingerprint_generation_strategy ${strategy} and key_response_strategy ${pair} contradict each other`,
    );
  }
  if (words && strategy !== "random_word" && !isNucleus) {
    throw new SettingsError(
      `random_word_generation: ${strategy} has english keys (random_word, inverse_nucleus and perinucleus may ` +
        "have others)",
    );
  }
  return strategy;
}

/** How often one response may come in `count` fingerprints. */
export function responseLimit(share: number, count: number): number {
  return Math.max(8, Math.floor(share * count));
}

/** Fewest letters and digits of a token that begins a response: OML 1.0 wants one, its successor two. */
export function leastLetters({ fingerprint_generation_strategy: strategy }: GenerateSettings): number {
  return strategy === "inverse_nucleus" ? 1 : 2;
}
