/**
 * Token ids of an entry's key and responses. Every text taken gives the same ids when it is typed again.
 * @module
 */

import type { FingerprintEntry } from "./file.ts";
import type { ResponseStrategy } from "../settings/strategies.ts";
import { type Tokenizer, UntokenizableError } from "../tokenizer/tokenizer.ts";

/** An entry that gives no fingerprint; the message quotes neither key nor response. */
export class Unusable extends Error {}

/** What {@linkcode takeResponses} goes by. */
export interface ResponseSettings {
  strategy: ResponseStrategy;
  maxResponseLength: number;
  /** "stored": where the stored ids have it. */
  keepEosInResponse: boolean | "stored";
}

/**
 * Whether an entry's ids were made with this tokenizer, going by its `tokenizer_hash`; undefined if it
 * doesn't say, as in files of others.
 */
export function hasIdsOf(tokenizer: Tokenizer, { extra }: FingerprintEntry): boolean | undefined {
  return typeof extra.tokenizer_hash === "string" ? extra.tokenizer_hash === tokenizer.hash : undefined;
}

/**
 * The effective key's text and ids, cut to `maxLength` tokens.
 * @throws Unusable or UntokenizableError.
 */
export function takeKey(
  entry: FingerprintEntry,
  tokenizer: Tokenizer,
  maxLength: number,
): { text: string; ids: number[]; wasCut: boolean; wasShortened: boolean } {
  const text = entry.effectiveKey ?? entry.key;
  rejectSpecial(text, "key", tokenizer);
  const ids = tokenizer.encode(text);
  if (ids.length === 0) throw new Unusable("the key has no tokens");
  checkIds(ids, "key", tokenizer);
  if (entry.keyIds && hasIdsOf(tokenizer, entry) && !same(entry.keyIds, ids)) {
    throw new Unusable("the key_ids are not the tokens of the key with the tokenizer that they name");
  }
  if (ids.length <= maxLength) return { text, ids, wasCut: false, wasShortened: false };
  for (let length = maxLength; length > 0; length--) {
    const slice = ids.slice(0, length);
    const effective = tokenizer.decode(slice);
    if (effective.trim() === "") break;
    if (same(tokenizer.encode(effective), slice)) {
      return { text: effective, ids: slice, wasCut: true, wasShortened: length < maxLength };
    }
  }
  throw new Unusable(`no beginning of the key of at most ${maxLength} tokens gives the same tokens again`);
}

/** A response in token ids. */
export interface Response {
  text: string;
  /** With EOS when it was asked for. */
  ids: number[];
  /** Whether it was longer than `maxResponseLength`. */
  wasCut: boolean;
}

/** Strategies whose response is a window of a longer text. */
const WINDOWED: readonly ResponseStrategy[] = ["english", "random_word"];

/**
 * The different responses of an entry, the first one at least.
 * @throws Unusable or UntokenizableError.
 */
export function takeResponses(
  entry: FingerprintEntry,
  tokenizer: Tokenizer,
  settings: ResponseSettings,
): Response[] {
  const taken: Response[] = [];
  const isOurs = hasIdsOf(tokenizer, entry);
  entry.responses.forEach((text, i) => {
    try {
      const stored = entry.responseIds?.[i];
      const ids = stored && isOurs !== false ? storedIds(stored, text, tokenizer) : undefined;
      if (stored && isOurs && !ids) {
        throw new Unusable(
          "the response_ids are not the tokens of the response with the tokenizer that they name",
        );
      }
      const { keepEosInResponse: keep } = settings;
      const withEos = keep === "stored" ? endsInEos(stored ?? [], tokenizer) : keep;
      const response = takeResponse(text, ids, tokenizer, { ...settings, withEos });
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
  whole: readonly number[] | undefined,
  tokenizer: Tokenizer,
  { strategy, maxResponseLength: length, withEos }: ResponseSettings & { withEos: boolean },
): Response {
  const text = withoutEosText(written, tokenizer);
  rejectSpecial(text, "response", tokenizer);
  const windowed = WINDOWED.includes(strategy) && whole?.length !== length;
  let ids: readonly number[] = windowed
    ? englishWindow(text, tokenizer, length)
    : whole ?? responseIds(text, tokenizer);
  if (ids.length === 0) throw new Unusable("the response has no tokens");
  const wasCut = ids.length > length;
  if (wasCut) ids = cutResponse(ids, tokenizer, length);
  checkIds(ids, "response", tokenizer);
  const taken = tokenizer.decode(ids);
  if (taken === "") throw new Unusable("the tokens of the response have no text");
  return { text: taken, ids: withEos ? [...ids, tokenizer.eosId!] : [...ids], wasCut };
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
  stored: readonly number[],
  written: string,
  tokenizer: Tokenizer,
): number[] | undefined {
  const ids = withoutEos(stored, tokenizer);
  const text = withoutEosText(written, tokenizer);
  if (ids.length === 0 || ids.some((id) => id >= tokenizer.vocabSize)) return undefined;
  return tokenizer.decode(ids) === text || same(responseIds(text, tokenizer), ids) ? ids : undefined;
}

/**
 * Ids of a response as the continuation of a key. A tokenizer that puts a space before every text would make
 * " and" into a lone space and "▁and", and a response of one token into that space; its own space stands for
 * it.
 */
export function responseIds(text: string, tokenizer: Tokenizer): number[] {
  const continuation = tokenizer.addsPrefixSpace && /^ [^ ]/.test(text) ? text.slice(1) : text;
  return withoutEos(tokenizer.encode(continuation), tokenizer);
}

function withoutEos(ids: readonly number[], tokenizer: Tokenizer): number[] {
  return endsInEos(ids, tokenizer) ? ids.slice(0, -1) : [...ids];
}

/** Whether ids end in EOS. */
export function endsInEos(ids: readonly number[], tokenizer: Tokenizer): boolean {
  return ids.length > 0 && ids.at(-1) === tokenizer.eosId;
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

/** Whether two lists of ids are the same. */
export const same = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((id, i) => id === b[i]);
