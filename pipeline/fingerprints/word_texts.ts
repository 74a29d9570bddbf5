import { responseIds } from "./ids.ts";
import { randomInt } from "../../engine/tensor/random.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { WORDS } from "./words.ts";

/** Texts of random words with a given number of tokens. */
export class WordTexts {
  /** Tokens of each word at a text's beginning, and of each after a space. */
  readonly #counts: readonly [number[], number[]];
  /** Words of at most so many tokens, by that number, at the beginning and after a space. */
  readonly #fitting: readonly [Map<number, number[]>, Map<number, number[]>] = [new Map(), new Map()];

  constructor(tokenizer: Tokenizer) {
    const count = (lead: string) => WORDS.map((word) => responseIds(lead + word, tokenizer).length);
    this.#counts = [count(""), count(" ")];
  }

  /**
   * Words for (seed, number), joined by spaces, `length` tokens long if the tokenizer has words that are
   * short enough and reads each by itself; else longer.
   * @param continues whether the first one, too, comes after a space
   */
  text(seed: number, number: number, length: number, continues: boolean): string {
    const words: string[] = [];
    for (let left = length; left > 0;) {
      const place = continues || words.length > 0 ? 1 : 0;
      const fitting = this.#words(place, left);
      const pool = fitting.length > 0 ? fitting : WORDS.keys().toArray();
      const word = pool[randomInt(pool.length, seed, number, words.length)]!;
      words.push(WORDS[word]!);
      left -= this.#counts[place][word]!;
    }
    return (continues ? " " : "") + words.join(" ");
  }

  #words(place: 0 | 1, most: number): number[] {
    let found = this.#fitting[place].get(most);
    if (!found) {
      found = WORDS.keys().filter((word) => this.#counts[place][word]! <= most).toArray();
      this.#fitting[place].set(most, found);
    }
    return found;
  }
}
