/**
 * English texts that a model writes, each begun by a random word.
 * @module
 */

import { randomInt } from "../../../engine/tensor/random.ts";
import type { PromptEncoder } from "../../prompts/prompts.ts";
import { type Tokenizer, UntokenizableError } from "../../tokenizer/tokenizer.ts";
import type { LanguageModel } from "./language_model.ts";
import { capitalised, randomWord } from "../words.ts";

/** How texts are written. */
export interface WriterOptions {
  temperature: number;
  firstToken: "word" | "tokenizer" | "none";
  /** What the first words are drawn with, and the texts. */
  wordSeed: number;
  textSeed: number;
  signal?: AbortSignal | undefined;
}

/** Seeks a token that is a word of some kind; a tokenizer has thousands. */
const TOKEN_TRIES = 256;

/** A model that writes texts. */
export class Writer {
  constructor(
    readonly model: LanguageModel,
    readonly tokenizer: Tokenizer,
    /** How an instruct model is asked for a text; undefined: a text is continued. */
    readonly chat?: PromptEncoder,
  ) {}

  /**
   * Texts number `first` to `first + count − 1`, each of up to `maxNewTokens` tokens after its beginning;
   * undefined where an instruct model didn't begin with the word that it was given.
   */
  async texts(
    first: number,
    count: number,
    maxNewTokens: number,
    options: WriterOptions,
  ): Promise<(string | undefined)[]> {
    const begins = Array.from({ length: count }, (_, i) => this.#beginning(first + i, options));
    const { temperature, textSeed: seed, signal } = options;
    const written = await this.model.generate(begins.map((begin) => this.#prompt(begin)), {
      maxNewTokens,
      temperature,
      seed,
      signal,
      firstIndex: first,
    });
    return written.map((ids, i) => {
      if (!this.chat) {
        return this.tokenizer.decode([...this.tokenizer.encode(begins[i]!), ...ids]).trimStart();
      }
      // Quotes and marks that a chat model likes to put around.
      const text = this.tokenizer.decode(ids).replace(/^[\s\p{P}\p{S}]+/u, "");
      const isBegun = text.toLowerCase().startsWith(begins[i]!.toLowerCase());
      return isBegun || options.firstToken !== "word" ? text : undefined;
    });
  }

  #prompt(begin: string): number[] {
    if (this.chat) {
      const request = begin === ""
        ? "Generate a paragraph"
        : `Generate a paragraph starting with the word - ${begin}`;
      return [...this.chat.prefixIds, ...this.chat.encode(request)];
    }
    const { prefixIds, bosId, eosId } = this.tokenizer;
    const ids = [...prefixIds, ...this.tokenizer.encode(begin)];
    // A model must be asked something: EOS ends documents in training, so another begins after it.
    return ids.length > 0 ? ids : [bosId ?? eosId ?? 0];
  }

  #beginning(number: number, { firstToken, wordSeed }: WriterOptions): string {
    if (firstToken === "none") return "";
    if (firstToken === "word") return capitalised(randomWord(wordSeed, number));
    for (let i = 0; i < TOKEN_TRIES; i++) {
      const id = randomInt(this.tokenizer.vocabSize, wordSeed, number, i);
      const text = this.tokenizer.decode([id]).trim();
      if (!this.tokenizer.isSpecial(id) && /[\p{L}\p{N}]/u.test(text) && this.#canEncode(text)) return text;
    }
    return "";
  }

  #canEncode(text: string): boolean {
    if (this.tokenizer.specialTokenIn(text) !== undefined) return false;
    try {
      return this.tokenizer.encode(text).length > 0;
    } catch (error) {
      if (error instanceof UntokenizableError) return false;
      throw error;
    }
  }
}
