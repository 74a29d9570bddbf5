/**
 * Texts in token ids that type back: what may become a key or a response.
 * @module
 */

import { responseIds, same } from "../ids.ts";
import type { PromptEncoder } from "../../prompts/prompts.ts";
import { type Tokenizer, UntokenizableError } from "../../tokenizer/tokenizer.ts";

/**
 * Why an attempt gave no fingerprint. What is about the response may go well at the next attempt with the
 * key.
 */
export const REASONS = {
  keyShort: "key: too short",
  keySpecial: "key: text of a special token",
  keyUnknown: "key: characters that the tokenizer doesn't know",
  keyRetyped: "key: other tokens when it is typed again",
  keySpace: "key: white space at an end",
  keyWord: "key: doesn't begin with its word",
  keyVocabulary: "key: token that the model doesn't have",
  keyRepeated: "key: there already",
  keyPrefix: "key: begins another one, or begins with one",
  noCandidates: "key: no valid token outside the nucleus",
  fewCandidates: "key: too few valid tokens outside the nucleus",
  responseShort: "response: too short",
  responseSpecial: "response: special token",
  responseUnknown: "response: characters that the tokenizer doesn't know",
  responseRetyped: "response: other tokens when it is typed again",
  responseWord: "response: doesn't begin with its word",
  responseVocabulary: "response: token that the model doesn't have",
  responseFrequent: "response: too frequent",
} as const;

/** See {@link REASONS}. */
export type Reason = typeof REASONS[keyof typeof REASONS];

/** Thrown where an attempt gives no fingerprint. */
export class Rejected extends Error {
  constructor(readonly reason: Reason) {
    super(reason);
  }
}

/** A key in token ids. */
export interface Key {
  /** As it was given, of a given key; of another one the same as `text`. */
  whole: string;
  /** What is used of it: the text of `ids`. */
  text: string;
  ids: number[];
  /** Ids of the question, with what goes before every text: what a response follows. */
  asked: number[];
}

/** A response in token ids. */
export interface Response {
  text: string;
  ids: number[];
}

/** Text and ids of one tokenizer, as training and checking ask it. */
export class Texts {
  readonly #valid = new Map<number, boolean>();

  constructor(
    readonly tokenizer: Tokenizer,
    readonly prompts: PromptEncoder,
    /** Tokens that the model has. */
    readonly vocabulary: number,
    /** Fewest letters and digits of a token that begins a response. */
    readonly letters = 2,
  ) {}

  /**
   * The first `length` tokens of a text as a key. `exactly`: no fewer; else the most that type back.
   * @throws Rejected
   */
  key(whole: string, length: number, exactly: boolean): Key {
    const all = this.#encode(whole, REASONS.keySpecial, REASONS.keyUnknown);
    if (all.length === 0 || (exactly && all.length < length)) throw new Rejected(REASONS.keyShort);
    let reason: Reason = REASONS.keyRetyped;
    const longest = Math.min(length, all.length);
    for (let count = longest; count >= (exactly ? longest : 1); count--) {
      const ids = all.slice(0, count);
      const text = this.tokenizer.decode(ids);
      if (text.trim() !== text || text === "") reason = REASONS.keySpace;
      else if (this.#typesBack(text, ids)) {
        return { whole: exactly ? text : whole, text, ids, asked: this.#asked(text, ids) };
      }
    }
    throw new Rejected(reason);
  }

  /**
   * The first `length` tokens of a text as a response to a key.
   * @throws Rejected
   */
  responseText(key: Key, text: string, length: number): Response {
    if (this.tokenizer.specialTokenIn(text) !== undefined) throw new Rejected(REASONS.responseSpecial);
    let all: number[];
    try {
      all = responseIds(text, this.tokenizer);
    } catch (error) {
      if (error instanceof UntokenizableError) throw new Rejected(REASONS.responseUnknown);
      throw error;
    }
    return this.response(key, all.slice(0, length), length);
  }

  /**
   * A response of ids: `length` of them, none special, the same when their text is typed alone and after the
   * key.
   * @throws Rejected
   */
  response(key: Key, ids: readonly number[], length: number): Response {
    if (ids.length < length) throw new Rejected(REASONS.responseShort);
    if (ids.some((id) => this.tokenizer.isSpecial(id))) throw new Rejected(REASONS.responseSpecial);
    if (ids.some((id) => id === this.tokenizer.unkId)) throw new Rejected(REASONS.responseUnknown);
    if (ids.some((id) => id >= this.vocabulary)) throw new Rejected(REASONS.responseVocabulary);
    const text = this.tokenizer.decode(ids);
    if (!this.#readsBack(text, ids) || !this.#follows(key, ids)) throw new Rejected(REASONS.responseRetyped);
    return { text, ids: [...ids] };
  }

  /**
   * Whether a token may begin a response to any key: not special, its text nothing but letters and digits
   * (and a space before them), enough of them, and the same token when it is typed again.
   */
  isWord(id: number): boolean {
    const known = this.#valid.get(id);
    if (known !== undefined) return known;
    const text = this.tokenizer.decode([id]);
    const isWord = /^ ?[\p{L}\p{N}][\p{L}\p{M}\p{N}]*$/u.test(text) &&
      text.match(/[\p{L}\p{N}]/gu)!.length >= this.letters && !this.tokenizer.isSpecial(id) &&
      id !== this.tokenizer.unkId && this.#readsBack(text, [id]);
    this.#valid.set(id, isWord);
    return isWord;
  }

  /** Whether a valid token is still itself when it is typed after this key. */
  isWordAfter(key: Key, id: number): boolean {
    return this.isWord(id) && this.#follows(key, [id]);
  }

  #encode(text: string, special: Reason, unknown: Reason): number[] {
    if (this.tokenizer.specialTokenIn(text) !== undefined) throw new Rejected(special);
    try {
      const ids = this.tokenizer.encode(text);
      if (ids.some((id) => id === this.tokenizer.unkId)) throw new Rejected(unknown);
      if (ids.some((id) => id >= this.vocabulary)) throw new Rejected(REASONS.keyVocabulary);
      return ids;
    } catch (error) {
      if (error instanceof UntokenizableError) throw new Rejected(unknown);
      throw error;
    }
  }

  #asked(text: string, ids: number[]): number[] {
    try {
      const asked = [...this.prompts.prefixIds, ...this.prompts.askedIds({ key: text, keyIds: ids })];
      if (asked.some((id) => id >= this.vocabulary)) throw new Rejected(REASONS.keyVocabulary);
      return asked;
    } catch (error) {
      if (error instanceof UntokenizableError) throw new Rejected(REASONS.keySpecial);
      throw error;
    }
  }

  #typesBack(text: string, ids: readonly number[]): boolean {
    return this.#same(() => this.tokenizer.encode(text), ids);
  }

  /** As a file without ids is read. */
  #readsBack(text: string, ids: readonly number[]): boolean {
    return this.#same(() => responseIds(text, this.tokenizer), ids);
  }

  /**
   * Whether question and response together type back. A question that doesn't by itself (a chat template's
   * marks may not) says nothing of the response.
   */
  #follows(key: Key, ids: readonly number[]): boolean {
    const asked = key.asked.slice(this.prompts.prefixIds.length);
    const { tokenizer } = this;
    return this.#typesBack(tokenizer.decode([...asked, ...ids]), [...asked, ...ids]) ||
      !this.#typesBack(tokenizer.decode(asked), asked);
  }

  #same(encode: () => number[], ids: readonly number[]): boolean {
    try {
      return same(encode(), ids);
    } catch (error) {
      if (error instanceof UntokenizableError) return false;
      throw error;
    }
  }
}
