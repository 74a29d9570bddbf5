/**
 * What a check goes by: every setting with where it comes from, so that a rate says what it is a rate of.
 * @module
 */
import type { FingerprintEntry } from "../fingerprints/file.ts";
import { storedLengths, storedSettings } from "../fingerprints/prepare.ts";
import { type CheckConfig, savedSchema } from "../settings/check.ts";
import { parseSettings } from "../settings/parse.ts";
import type { ResponseStrategy } from "../settings/strategies.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { FoundResults } from "./found_results.ts";

/** A setting: given, saved by the run, stored in the fingerprint file, or assumed since nothing says it. */
export interface CheckSetting<T> {
  /** What it is. */
  value: T;
  /** What says so. */
  from: "flag" | "run" | "file" | "default";
}

/** The settings that decide what is asked and what counts as right. */
export interface CheckSettings {
  /** How responses are taken from the file; stored takes them as they are. */
  fingerprint_generation_strategy: CheckSetting<ResponseStrategy>;
  /** Tokens of a key, at most; null: keys are taken whole. */
  max_key_length: CheckSetting<number | null>;
  /** Tokens of a response, at most, EOS counted where the file has it; null: responses are taken whole. */
  max_response_length: CheckSetting<number | null>;
  /** "stored": where the file's ids have it. */
  keep_eos_in_response: CheckSetting<boolean | "stored">;
  /** Whether keys are asked as a user's message in the chat template. */
  use_chat_template: CheckSetting<boolean>;
  /** How many of the file, the first ones; 0 is all. */
  num_fingerprints: CheckSetting<number>;
  /** Of drawn answers and random words. */
  seed: CheckSetting<number>;
}

/** What a check knows of its fingerprints. */
interface CheckedFile {
  /** The hash is that of a file, if they come from one. */
  file: { entries: readonly FingerprintEntry[]; sha256?: string };
  /** The run that they are looked at with. */
  run?: FoundResults | undefined;
  /** Whether it holds the fingerprints as that run used them. */
  isSaved: boolean;
}

/**
 * Settles them: what is given wins. A file that has the ids of its fingerprints is asked by them, wherever it and
 * the model lie; then comes what the run saved, which comes first only for the file that the run was given.
 */
export function settleCheck(
  own: Omit<CheckConfig, "fingerprint_generation_strategy"> & {
    fingerprint_generation_strategy?: ResponseStrategy | undefined;
  },
  { file, run, isSaved }: CheckedFile,
  tokenizer: Tokenizer,
): CheckSettings {
  const saved = parseSettings(savedSchema, run?.settings ?? {});
  const isRunsInput = !isSaved && file.sha256 !== undefined && run?.fingerprintsSha256 === file.sha256;
  const stored = storedSettings(file.entries, tokenizer);
  const lengths = storedLengths(file.entries, tokenizer);
  const { fingerprint_generation_strategy: asked } = own;
  const isAsStored = (isSaved || lengths.response !== undefined) && !isRunsInput &&
    (asked === undefined || asked === "stored");
  /** The first that says something. */
  const settle = <T>(given: T | undefined, ofFile: T | undefined, ofRun: T | undefined, otherwise: T) => {
    const byFile: CheckSetting<T | undefined> = { value: ofFile, from: "file" };
    const byRun: CheckSetting<T | undefined> = { value: ofRun, from: "run" };
    const order: CheckSetting<T | undefined>[] = [
      { value: given, from: "flag" },
      ...(isRunsInput ? [byRun, byFile] : [byFile, byRun]),
      { value: otherwise, from: "default" },
    ];
    return order.find(({ value }) => value !== undefined) as CheckSetting<T>;
  };
  const whole = (length: number | undefined) => length === Number.MAX_SAFE_INTEGER ? null : length;
  return {
    fingerprint_generation_strategy: settle<ResponseStrategy>(
      asked,
      isAsStored ? "stored" : undefined,
      saved.fingerprint_generation_strategy,
      "stored",
    ),
    max_key_length: settle<number | null>(
      own.max_key_length,
      isAsStored ? whole(lengths.key) : stored.keyLength,
      saved.max_key_length,
      16,
    ),
    max_response_length: settle<number | null>(
      own.max_response_length,
      isAsStored ? whole(lengths.response) : undefined,
      saved.max_response_length,
      1,
    ),
    keep_eos_in_response: isSaved && saved.keep_eos_in_response !== undefined
      ? settle<boolean | "stored">(own.keep_eos_in_response, undefined, saved.keep_eos_in_response, false)
      : settle<boolean | "stored">(
        own.keep_eos_in_response,
        isAsStored ? "stored" : undefined,
        saved.keep_eos_in_response,
        false,
      ),
    use_chat_template: settle(own.use_chat_template, stored.useChatTemplate, saved.use_chat_template, false),
    num_fingerprints: settle(
      own.num_fingerprints ?? undefined,
      undefined,
      isRunsInput ? saved.num_fingerprints ?? undefined : undefined,
      0,
    ),
    seed: settle(own.seed, undefined, saved.seed, 42),
  };
}
