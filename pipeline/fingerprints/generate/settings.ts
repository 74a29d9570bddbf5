import type { z } from "zod";
import { type GenerateConfig, generateConfigSchema } from "../../settings/generate.ts";
import { type Decided, parseSettings, SettingsError } from "../../settings/parse.ts";
import type { Strategy } from "../../settings/strategies.ts";

/** How keys come about. */
export type KeySource = "english" | "words" | "file";
/** How responses come about. */
export type ResponseSource = "english" | "words" | "nucleus";

/** All settings in force. */
export interface GenerateSettings
  extends Decided<Omit<GenerateConfig, "fingerprint_generation_strategy" | "response_length">> {
  /** What the fingerprints are. */
  readonly fingerprint_generation_strategy: Strategy;
  /** Tokens of a response. */
  readonly response_length: number;
  /** How keys come about. */
  readonly keys: KeySource;
  /** How responses come about. */
  readonly responses: ResponseSource;
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
  const parsed = parseSettings(generateConfigSchema, config);
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
