/**
 * From entries of a fingerprint file to token ids. Key and response are tokenised once and concatenated as ids;
 * what can't be typed back into the same ids is rejected, never silently shifted.
 * @module
 */

import type { FingerprintEntry, WrittenFingerprint } from "./fingerprint_file.ts";
import type { PromptEncoder } from "./prompts.ts";
import { type Tokenizer, UntokenizableError } from "./tokenizer.ts";

/** How a response is taken from its text. */
export const STRATEGIES = ["english", "inverse_nucleus", "perinucleus"] as const;
/** See {@linkcode STRATEGIES}. `english` takes a window of the response, the others take it as it is. */
export type Strategy = typeof STRATEGIES[number];

/** A fingerprint in token ids of one tokenizer. */
export interface Fingerprint {
  /** Index from 0 of its entry in the file. */
  entry: number;
  /** The effective key: `tokenizer.encode(key)` is `keyIds`. A secret. */
  key: string;
  /** The text of `responseIds` without EOS. A secret. */
  response: string;
  /** Token ids of the key, without BOS. */
  keyIds: number[];
  /** Token ids of the response that is trained, EOS included when it was asked for. */
  responseIds: number[];
  /** Ids of every response that counts as right; the first is `responseIds`. */
  responses: number[][];
  /** The texts of `responses`. */
  responseTexts: string[];
  /** Fields of the entry that are not about key and response. */
  extra: Record<string, unknown>;
}

/** Options of {@linkcode prepareFingerprints}; lengths in tokens. */
export interface PrepareOptions {
  strategy: Strategy;
  /** Keys are cut to this many tokens. Default 16. */
  maxKeyLength?: number;
  /** Length of a response of strategy `english`, the longest of the others. Without EOS. Default 1. */
  maxResponseLength?: number;
  /** Append EOS to the responses. Default false. */
  keepEosInResponse?: boolean;
  /** How many fingerprints to take, the first ones of the file (`num_fingerprints`). Default 0, all. */
  limit?: number;
  /** Throw when two entries share a key but not the response. Default false: the first is kept. */
  strict?: boolean;
  /** How keys will be asked. Default plainly, by the tokenizer. */
  prompts?: PromptEncoder;
}

/** What {@linkcode prepareFingerprints} left out; entries by index from 0. */
export interface Dropped {
  /** Entries with the key and response ids of an earlier one, as the keys are asked. */
  repeats: number;
  /** Entries with the key ids of an earlier one, as the keys are asked, and another response. */
  conflicts: number[];
  /** Entries that give no fingerprint with this tokenizer, and why (never with text of theirs). */
  unusable: { entry: number; reason: string }[];
  /** Responses of the fingerprints returned that were longer than `maxResponseLength` and cut. */
  cut: number;
  /** Keys of the fingerprints returned that were cut shorter than `maxKeyLength` so that they type back. */
  shortened: number;
}

/**
 * Tokenises entries, drops repeats, conflicts and unusable ones, and takes the first `limit` of the rest.
 *
 * A key is its `effective_key` if there is one, tokenised without special tokens and cut to `maxKeyLength`,
 * and then shortened until its text gives the same ids again. Text of a special token makes an entry
 * unusable: it would be read as that token. So do characters that the tokenizer doesn't know. Strategy
 * `english` follows OML 1.0: the response's letters, digits and spaces are tokenised and `maxResponseLength`
 * tokens taken from offset min(10, length − L), the window sliding forward, then backward, until its text
 * gives the same ids. The other strategies take the response as it is and cut it. Stored `response_ids` are
 * used when they are this tokenizer's ids of the stored text.
 *
 * @throws RangeError on wrong options, on an entry without a response, when more fingerprints are asked for than
 * there are, and under `strict` when entries conflict.
 */
export function prepareFingerprints(
  entries: readonly FingerprintEntry[],
  tokenizer: Tokenizer,
  options: PrepareOptions,
): { fingerprints: Fingerprint[]; dropped: Dropped } {
  const settings = checkOptions(options, tokenizer);
  if (entries.length === 0) throw new RangeError("there are no entries to take fingerprints from");
  checkResponses(entries);

  const dropped: Dropped = { repeats: 0, conflicts: [], unusable: [], cut: 0, shortened: 0 };
  const found: (Fingerprint & { wasCut: boolean; wasShortened: boolean })[] = [];
  const responseOf = new Map<string, string>();
  entries.forEach((entry, index) => {
    try {
      const key = takeKey(entry.effectiveKey ?? entry.key, tokenizer, settings.maxKeyLength);
      const responses = takeResponses(entry, tokenizer, settings);
      const { prompts } = settings;
      const keyId = prompts.askedIds({ key: key.text, keyIds: key.ids }).join();
      const earlier = responseOf.get(keyId);
      const response = responses[0].ids.join();
      if (earlier === response) dropped.repeats++;
      else if (earlier !== undefined) dropped.conflicts.push(index);
      else {
        responseOf.set(keyId, response);
        found.push({
          entry: index,
          key: key.text,
          response: responses[0].text,
          keyIds: key.ids,
          responseIds: responses[0].ids,
          responses: responses.map((r) => r.ids),
          responseTexts: responses.map((r) => r.text),
          extra: entry.extra,
          wasCut: responses[0].wasCut,
          wasShortened: key.wasShortened,
        });
      }
    } catch (error) {
      if (!(error instanceof Unusable || error instanceof UntokenizableError)) throw error;
      dropped.unusable.push({ entry: index, reason: error.message });
    }
  });

  if (settings.strict && dropped.conflicts.length > 0) {
    throw new RangeError(
      `${dropped.conflicts.length} entries share the effective key of an earlier entry but not its response ` +
        `(counted from 0: ${listed(dropped.conflicts)})`,
    );
  }
  if (found.length === 0) {
    throw new RangeError(
      `none of the ${entries.length} entries is usable; entry ${dropped.unusable[0]?.entry}: ${
        dropped.unusable[0]?.reason
      }`,
    );
  }
  if (settings.limit > found.length) {
    throw new RangeError(
      `${settings.limit} fingerprints asked for, but there are only ${found.length}: of ${entries.length} entries ` +
        `${dropped.repeats} are repeats, ${dropped.conflicts.length} conflict with an earlier one and ` +
        `${dropped.unusable.length} are unusable`,
    );
  }
  const fingerprints = (settings.limit > 0 ? found.slice(0, settings.limit) : found).map((one) => {
    const { wasCut, wasShortened, ...fingerprint } = one;
    dropped.cut += Number(wasCut);
    dropped.shortened += Number(wasShortened);
    return fingerprint;
  });
  return { fingerprints, dropped };
}

/**
 * A training example: `prefixIds`, the prompt (the plain key unless `promptIds` has the ids of a template around
 * it) and the response; only the response is supervised. Labels are not shifted, −100 marks tokens without target.
 */
export function toExample(
  fingerprint: Pick<Fingerprint, "keyIds" | "responseIds">,
  prefixIds: readonly number[],
  promptIds: readonly number[] = fingerprint.keyIds,
): { ids: number[]; labels: number[] } {
  const before = [...prefixIds, ...promptIds];
  return {
    ids: [...before, ...fingerprint.responseIds],
    labels: [...before.map(() => -100), ...fingerprint.responseIds],
  };
}

/**
 * Checks that a model has every token that its tokenizer gives for the fingerprints. A vocabulary of the
 * model that is larger is padded, and tokens beyond it that no fingerprint uses (a padding token) do no harm.
 * @throws RangeError when the two don't belong together.
 */
export function checkVocabulary(
  fingerprints: readonly Fingerprint[],
  tokenizer: Tokenizer,
  vocabulary: number,
  prompts: PromptEncoder = tokenizer,
): void {
  const lacks = (ids: readonly number[]) => ids.some((id) => id >= vocabulary);
  const wrong = fingerprints.filter((one) => lacks(prompts.askedIds(one)) || one.responses.some(lacks));
  if (wrong.length === 0 && !lacks(prompts.prefixIds)) return;
  throw new RangeError(
    `tokenizer and model don't belong together: the tokenizer gives token ids up to ${
      tokenizer.vocabSize - 1
    }, but ` +
      `config.json says "vocab_size": ${vocabulary} (${wrong.length} of ${fingerprints.length} fingerprints, or the ` +
      `tokens before a text, use ids from ${vocabulary} on)`,
  );
}

/** A fingerprint as {@linkcode writeFingerprintFile} stores it; reading that file back gives the same ids. */
export function toWritten(fingerprint: Fingerprint): WrittenFingerprint {
  const { key, keyIds, responses, responseTexts, extra } = fingerprint;
  const one = responses.length === 1;
  return {
    key,
    response: one ? responseTexts[0] : responseTexts,
    key_ids: keyIds,
    response_ids: one ? responses[0] : responses,
    ...extra,
  };
}

/** An entry that gives no fingerprint. */
class Unusable extends Error {}

type Settings = Required<PrepareOptions>;

function checkOptions(options: PrepareOptions, tokenizer: Tokenizer): Settings {
  const settings = {
    strategy: options.strategy,
    maxKeyLength: 16,
    maxResponseLength: 1,
    keepEosInResponse: false,
    limit: 0,
    strict: false,
    prompts: tokenizer,
    ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)),
  } as Settings;
  if (!STRATEGIES.includes(settings.strategy)) {
    throw new RangeError(`strategy: expected one of ${STRATEGIES.join(", ")}, found ${settings.strategy}`);
  }
  for (const [name, least] of [["maxKeyLength", 1], ["maxResponseLength", 1], ["limit", 0]] as const) {
    if (!Number.isSafeInteger(settings[name]) || settings[name] < least) {
      throw new RangeError(`${name}: expected an integer of at least ${least}, found ${settings[name]}`);
    }
  }
  if (settings.keepEosInResponse && tokenizer.eosId === undefined) {
    throw new RangeError("keepEosInResponse: the tokenizer names no EOS token");
  }
  return settings;
}

function checkResponses(entries: readonly FingerprintEntry[]): void {
  const without = entries.flatMap((entry, index) => entry.responses.length === 0 ? [index] : []);
  if (without.length > 0) {
    throw new RangeError(
      `entry has no response: ${without.length} of ${entries.length} entries (counted from 0: ` +
        `${listed(without)}) have a key only, and generating responses is not supported yet`,
    );
  }
}

function takeKey(
  text: string,
  tokenizer: Tokenizer,
  maxLength: number,
): { text: string; ids: number[]; wasShortened: boolean } {
  rejectSpecial(text, "key", tokenizer);
  const ids = tokenizer.encode(text);
  if (ids.length === 0) throw new Unusable("the key has no tokens");
  checkIds(ids, "key", tokenizer);
  if (ids.length <= maxLength) return { text, ids, wasShortened: false };
  for (let length = maxLength; length > 0; length--) {
    const slice = ids.slice(0, length);
    const effective = tokenizer.decode(slice);
    if (effective.trim() === "") break;
    if (same(tokenizer.encode(effective), slice)) {
      return { text: effective, ids: slice, wasShortened: length < maxLength };
    }
  }
  throw new Unusable(`no beginning of the key of at most ${maxLength} tokens gives the same tokens again`);
}

interface Response {
  text: string;
  /** With EOS when it was asked for. */
  ids: number[];
  wasCut: boolean;
}

function takeResponses(entry: FingerprintEntry, tokenizer: Tokenizer, settings: Settings): Response[] {
  const taken: Response[] = [];
  entry.responses.forEach((text, i) => {
    try {
      const response = takeResponse(text, entry.responseIds?.[i], tokenizer, settings);
      if (!taken.some((other) => same(other.ids, response.ids))) taken.push(response);
    } catch (error) {
      // The first is the one that is trained; an alternative that gives nothing is merely not accepted.
      if (i === 0 || !(error instanceof Unusable || error instanceof UntokenizableError)) throw error;
    }
  });
  return taken;
}

function takeResponse(
  written: string,
  stored: readonly number[] | undefined,
  tokenizer: Tokenizer,
  settings: Settings,
): Response {
  const { strategy, maxResponseLength: length, keepEosInResponse } = settings;
  const text = withoutEosText(written, tokenizer);
  rejectSpecial(text, "response", tokenizer);
  const whole = storedIds(stored, text, tokenizer);
  const windowed = strategy === "english" && whole?.length !== length;
  let ids = windowed ? englishWindow(text, tokenizer, length) : whole ?? responseIds(text, tokenizer);
  if (ids.length === 0) throw new Unusable("the response has no tokens");
  const wasCut = ids.length > length;
  if (wasCut) ids = cutResponse(ids, tokenizer, length);
  checkIds(ids, "response", tokenizer);
  const taken = tokenizer.decode(ids);
  if (taken === "") throw new Unusable("the tokens of the response have no text");
  return { text: taken, ids: keepEosInResponse ? [...ids, tokenizer.eosId!] : ids, wasCut };
}

/** Text of a special token would be read as that token. Its name is public, the text around it isn't. */
function rejectSpecial(text: string, what: "key" | "response", tokenizer: Tokenizer): void {
  const token = tokenizer.specialTokenIn(text);
  if (token !== undefined) throw new Unusable(`the ${what} contains a special token (${token})`);
}

/** Ids can be special without the text: the unknown token, and what a file stores. */
function checkIds(ids: readonly number[], what: "key" | "response", tokenizer: Tokenizer): void {
  if (ids.some((id) => id === tokenizer.unkId)) {
    throw new Unusable(`the ${what} has a character that the tokenizer doesn't know`);
  }
  if (ids.some((id) => tokenizer.isSpecial(id))) throw new Unusable(`the ${what} contains a special token`);
}

/** The first `length` ids, or fewer so that their text gives the same ids again. */
function cutResponse(ids: readonly number[], tokenizer: Tokenizer, length: number): number[] {
  for (let end = length; end > 0; end--) {
    const slice = ids.slice(0, end);
    if (same(responseIds(tokenizer.decode(slice), tokenizer), slice)) return slice;
  }
  throw new Unusable(`no beginning of the response of at most ${length} tokens gives the same tokens again`);
}

/** Stored ids without EOS, when this tokenizer reads them as the stored text; else nothing. */
function storedIds(
  stored: readonly number[] | undefined,
  text: string,
  tokenizer: Tokenizer,
): number[] | undefined {
  const ids = withoutEos(stored ?? [], tokenizer);
  if (ids.length === 0 || ids.some((id) => id >= tokenizer.vocabSize)) return undefined;
  return tokenizer.decode(ids) === text || same(responseIds(text, tokenizer), ids) ? ids : undefined;
}

/**
 * Ids of a response as the continuation of a key. A tokenizer that puts a space before every text would make
 * " and" into a lone space and "▁and", and a response of one token into that space; its own space stands for it.
 */
function responseIds(text: string, tokenizer: Tokenizer): number[] {
  const continuation = tokenizer.addsPrefixSpace && /^ [^ ]/.test(text) ? text.slice(1) : text;
  return withoutEos(tokenizer.encode(continuation), tokenizer);
}

function withoutEos(ids: readonly number[], tokenizer: Tokenizer): number[] {
  return ids.length > 0 && ids.at(-1) === tokenizer.eosId ? ids.slice(0, -1) : [...ids];
}

function withoutEosText(text: string, tokenizer: Tokenizer): string {
  const eos = tokenizer.namedTokens.get("eos_token");
  return eos !== undefined && text.endsWith(eos) ? text.slice(0, -eos.length) : text;
}

/** The response of OML 1.0's `english` (its generate_finetuning_data.py); L is `length`. */
function englishWindow(text: string, tokenizer: Tokenizer, length: number): number[] {
  const ids = responseIds(text.replace(/[^\p{L}\p{N} ]/gu, ""), tokenizer);
  const last = ids.length - length;
  if (last < 0) {
    throw new Unusable(
      `the response has ${ids.length} tokens without punctuation, fewer than the ${length} wanted`,
    );
  }
  const first = Math.min(10, last);
  for (let i = 0; i <= last; i++) {
    const at = first + i <= last ? first + i : last - i;
    const slice = ids.slice(at, at + length);
    if (same(tokenizer.encode(tokenizer.decode(slice)), slice)) return slice;
  }
  throw new Unusable(`no ${length} tokens of the response in a row give the same tokens again`);
}

const same = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((id, i) => id === b[i]);

/** The first 20 of a list of entry numbers. */
const listed = (numbers: readonly number[]): string =>
  numbers.slice(0, 20).join(", ") + (numbers.length > 20 ? ", …" : "");
