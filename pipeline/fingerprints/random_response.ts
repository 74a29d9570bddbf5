import type { FingerprintEntry } from "./file.ts";
import { WordTexts } from "./word_texts.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

const STRATEGY = "english_random_response";
/** Fields that say something of an entry's responses. */
const OF_RESPONSES = [
  ...["response_prob", "k_effective", "nucleus_size", "nucleus_t", "nucleus_k"],
  ...["draw", "draw_index", "draw_commitment", "set_commitment"],
];
/** Keeps the words' numbers apart from others drawn with the same seed; entries count from it. */
const STREAM = 0x776f7264 * 2 ** 20;

/**
 * Strategy `english_random_response` for a file with other responses or none: random words take their place,
 * drawn for (seed, entry). The successor of OML 1.0 takes a window of a text of random words, which may be
 * the middle of one or a lone space; these are whole words of the wanted length, where the tokenizer has
 * such.
 */
export class RandomResponses {
  readonly #words: WordTexts;

  /** @param length tokens of a response */
  constructor(tokenizer: Tokenizer, readonly seed: number, readonly length: number) {
    this.#words = new WordTexts(tokenizer);
  }

  /** An entry as it is used; one whose own strategy this is has its words already. */
  replace(entry: FingerprintEntry, index: number): FingerprintEntry {
    if (entry.extra.strategy === STRATEGY) return entry;
    const kept = Object.entries(entry.extra).filter(([field]) => !OF_RESPONSES.includes(field));
    const { responseIds: _, ...rest } = entry;
    return {
      ...rest,
      responses: [this.#words.text(this.seed, STREAM + index, this.length, true)],
      extra: { ...Object.fromEntries(kept), strategy: STRATEGY },
    };
  }
}
