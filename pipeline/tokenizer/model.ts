/**
 * Pieces of text to token ids by BPE or Unigram, which @huggingface/tokenizers runs, with the byte fallback
 * that its Unigram lacks.
 * @module
 */

import { Tokenizer as HfTokenizer, Unigram } from "@huggingface/tokenizers";
import { describeJson } from "../../engine/io/json.ts";
import { TokenizerError, UntokenizableError } from "./errors.ts";
import { asObject, type Json, nameOf } from "./json.ts";
import { unigramPieces } from "./unigram.ts";

/** The `model` of tokenizer.json. */
export class TokenizerModel {
  /** How many tokens the model has, without added ones; ids of those go on from here. */
  readonly count: number;
  /** Highest id + 1 of them. */
  readonly size: number;
  /** Id of the unknown token, if the model has one. */
  readonly unkId: number | undefined;

  readonly #inner: NonNullable<HfTokenizer["model"]>;
  /** (piece, score) by id of a Unigram. */
  readonly #pieces?: [string, number][];
  readonly #byteIds: readonly (number | undefined)[];

  /** @throws TokenizerError when it isn't BPE or Unigram, or one that can't be read exactly. */
  constructor(json: unknown, where: string) {
    const what = `${where}: model`;
    const model = asObject(json, what);
    const type = model.type ?? (Array.isArray(model.vocab) ? "Unigram" : "BPE");
    if (type !== "BPE" && type !== "Unigram") {
      throw new TokenizerError(
        `${what}: expected BPE or Unigram, found ${nameOf(type, "none")}: this kind is not supported`,
      );
    }
    const vocabulary = type === "Unigram" ? checkUnigram(model, what) : checkBpe(model, what);
    if (type === "Unigram") this.#pieces = model.vocab as [string, number][];
    const absent = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
    try {
      this.#inner = new HfTokenizer({ added_tokens: [], ...absent, model: { ...model, type } }, {}).model!;
    } catch (cause) {
      throw new TokenizerError(`${what}: this tokenizer is not supported: ${(cause as Error).message}`, {
        cause,
      });
    }
    this.count = vocabulary.size;
    this.size = 1 + Iterator.from(vocabulary.values()).reduce((a, b) => Math.max(a, b), -1);
    this.unkId = this.#inner.unk_token_id ?? undefined;
    const fallsBack = model.byte_fallback === true;
    this.#byteIds = Array.from(
      { length: 256 },
      (_, byte) => fallsBack ? this.idOf(byteToken(byte)) : undefined,
    );
  }

  /** Id of a token of the model. */
  idOf(token: string): number | undefined {
    return this.#inner.tokens_to_ids.get(token);
  }

  /** The token of an id. */
  tokenOf(id: number): string | undefined {
    return this.#inner.vocab[id];
  }

  /**
   * Ids of one piece of a text. A character outside the vocabulary becomes the tokens of its UTF-8 bytes if
   * there is byte fallback and all of them exist, else the unknown token.
   * @throws UntokenizableError when there is no unknown token to stand for it.
   */
  encode(piece: string): number[] {
    let tokens: string[];
    let ids: (number | undefined)[];
    if (this.#inner instanceof Unigram) {
      tokens = unigramPieces(piece, this.#inner, this.#pieces!);
      ids = tokens.flatMap((token) => this.idOf(token) ?? this.#bytes(token) ?? this.unkId);
    } else {
      tokens = this.#inner._call([piece]);
      ids = tokens.map((token) => this.idOf(token));
    }
    if (ids.some((id) => id === undefined) || this.#isDropped(piece, tokens)) {
      throw new UntokenizableError(
        `the tokenizer has no token for a part of this text (${piece.length} characters)`,
      );
    }
    return ids as number[];
  }

  #bytes(text: string): number[] | undefined {
    const ids = Array.from(new TextEncoder().encode(text), (byte) => this.#byteIds[byte]);
    return ids.every((id) => id !== undefined) ? ids : undefined;
  }

  /** A BPE without unknown token leaves characters out. */
  #isDropped(piece: string, tokens: readonly string[]): boolean {
    if (this.#pieces || this.unkId !== undefined || tokens.join("") === piece) return false;
    return Array.from(piece).some((char) => this.idOf(char) === undefined && !this.#bytes(char));
  }
}

/** Many times what the largest vocabularies have. */
const MOST_TOKENS = 2 ** 24;

const byteToken = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;

function checkUnigram(model: Json, what: string): Map<string, number> {
  const vocabulary = model.vocab;
  const isPair = (one: unknown) =>
    Array.isArray(one) && typeof one[0] === "string" && typeof one[1] === "number";
  if (!Array.isArray(vocabulary) || vocabulary.length === 0 || !vocabulary.every(isPair)) {
    throw new TokenizerError(`${what}: expected a list of (piece, score) as vocab`);
  }
  const { unk_id: unknown } = model;
  const isId = typeof unknown === "number" && Number.isInteger(unknown) && unknown >= 0 &&
    unknown < vocabulary.length;
  if (unknown !== undefined && unknown !== null && !isId) {
    throw new TokenizerError(`${what}: unk_id: expected a token id or null, found ${describeJson(unknown)}`);
  }
  const wrong = vocabulary.findIndex(([_, score]) => !Number.isFinite(score));
  if (wrong >= 0) {
    throw new TokenizerError(
      `${what}: vocab[${wrong}]: expected a finite score, found ${vocabulary[wrong][1]}`,
    );
  }
  return new Map(vocabulary.map(([piece], id) => [piece, id]));
}

function checkBpe(model: Json, what: string): Map<string, number> {
  const vocabulary = new Map(Object.entries(asObject(model.vocab, `${what}: vocab`))) as Map<string, number>;
  const wrong = vocabulary.entries().find(([, id]) => !Number.isInteger(id) || id < 0 || id >= MOST_TOKENS);
  if (wrong) {
    throw new TokenizerError(
      `${what}: vocab: ${
        JSON.stringify(wrong[0].slice(0, 60))
      }: expected a token id below ${MOST_TOKENS}, found ${describeJson(wrong[1])}`,
    );
  }
  for (const field of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if (model[field]) {
      throw new TokenizerError(`${what}: ${field} is not supported, found ${describeJson(model[field])}`);
    }
  }
  if (model.dropout) {
    throw new TokenizerError(
      `${what}: dropout ${describeJson(model.dropout)}: the same text must give the same tokens`,
    );
  }
  if (!Array.isArray(model.merges)) throw new TokenizerError(`${what}: expected a list of merges`);
  model.merges.forEach((merge, i) => {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    const isPair = Array.isArray(pair) && pair.length === 2;
    if (!isPair || ![...pair, pair.join("")].every((token) => vocabulary.has(token))) {
      throw new TokenizerError(
        `${what}: merge ${i}: expected two tokens of the vocabulary that join to a third`,
      );
    }
    // Rust falls back to bytes before it merges, the library after.
    if (model.byte_fallback === true && pair.some((token: string) => /^<0x[0-9A-F]{2}>$/.test(token))) {
      throw new TokenizerError(`${what}: merge ${i}: merging byte tokens is not supported`);
    }
  });
  return vocabulary;
}
