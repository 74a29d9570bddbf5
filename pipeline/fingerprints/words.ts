/**
 * Random English words, from the package random-words (MIT): 1,952 common ones of 2 to 14 letters.
 * @module
 */

import * as randomWords from "random-words";
import { randomInt } from "../../engine/tensor/random.ts";

// The package's types misspell the name that it exports.
const { wordList } = randomWords as unknown as { wordList: readonly string[] };

/** The words, lower case and all different. */
export const WORDS: readonly string[] = wordList;

/** The word for (seed, a, b). */
export function randomWord(seed: number, a: number, b = 0): string {
  return WORDS[randomInt(WORDS.length, seed, a, b)]!;
}

/** A word as it begins a sentence. */
export function capitalised(word: string): string {
  return word.slice(0, 1).toUpperCase() + word.slice(1);
}
