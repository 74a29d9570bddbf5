/**
 * Byte-level BPE: a trainer, an encoder that agrees with Hugging Face's, and the files of a tokenizer folder.
 * @module
 */

import { wordPieces } from "./byte_level.ts";

/** Special tokens, in id order from 0: before a document, after it, and padding (never used in training). */
export const SPECIAL_TOKENS = ["<|begin|>", "<|end|>", "<|pad|>"] as const;
export const BOS_ID = 0;
export const EOS_ID = 1;

/** A trained vocabulary. Ids: the special tokens, the 256 bytes in order of their stand-ins, then the merges. */
export interface BpeVocabulary {
  /** Token text by id; bytes are written as the byte-level alphabet's characters. */
  readonly tokens: readonly string[];
  /** Pairs in the order they were learnt: rank by index. */
  readonly merges: readonly (readonly [string, string])[];
}

const PAIR_SEPARATOR = " ";

/**
 * Learns merges until the vocabulary has `vocabSize` tokens or no pair occurs `minCount` times.
 *
 * The most frequent pair is merged first, of equally frequent ones the first in code unit order, so the result
 * depends on the word counts only, not on the order of the text.
 *
 * @param counts Words as `wordPieces` gives them (byte-level characters) with the number of their occurrences.
 */
export function trainBpe(
  counts: ReadonlyMap<string, number>,
  alphabet: readonly string[],
  vocabSize: number,
  minCount = 2,
): BpeVocabulary {
  const tokens: string[] = [...SPECIAL_TOKENS, ...alphabet];
  if (vocabSize < tokens.length) {
    throw new RangeError(`trainBpe: expected a vocabulary of at least ${tokens.length}, found ${vocabSize}`);
  }
  const known = new Set(tokens);
  const merges: [string, string][] = [];
  const words = [...counts].map(([word, count]) => ({ parts: Array.from(word), count }));
  while (tokens.length < vocabSize) {
    const best = mostFrequentPair(words, minCount);
    if (best === undefined) break;
    const [left, right] = best.split(PAIR_SEPARATOR) as [string, string];
    merges.push([left, right]);
    // Two pairs can spell the same token; it gets one id.
    if (!known.has(left + right)) tokens.push(left + right);
    known.add(left + right);
    for (const word of words) word.parts = mergePair(word.parts, left, right);
  }
  return { tokens, merges };
}

function mostFrequentPair(words: readonly { parts: string[]; count: number }[], minCount: number) {
  const pairCounts = new Map<string, number>();
  for (const { parts, count } of words) {
    for (let i = 0; i + 1 < parts.length; i++) {
      const pair = parts[i] + PAIR_SEPARATOR + parts[i + 1];
      pairCounts.set(pair, (pairCounts.get(pair) ?? 0) + count);
    }
  }
  let best: string | undefined, bestCount = minCount - 1;
  for (const [pair, count] of pairCounts) {
    if (count > bestCount || (count === bestCount && best !== undefined && pair < best)) {
      best = pair;
      bestCount = count;
    }
  }
  return best;
}

function mergePair(parts: string[], left: string, right: string): string[] {
  if (!parts.includes(left)) return parts;
  const out: string[] = [];
  for (let i = 0; i < parts.length; i++) {
    if (parts[i] === left && parts[i + 1] === right) {
      out.push(left + right);
      i++;
    } else out.push(parts[i]);
  }
  return out;
}

/** Encodes without special tokens: their spelling in a text is read as plain bytes here. */
export class BpeEncoder {
  private readonly ids: ReadonlyMap<string, number>;
  private readonly ranks: ReadonlyMap<string, number>;
  private readonly cache = new Map<string, readonly number[]>();

  constructor(readonly vocabulary: BpeVocabulary) {
    this.ids = new Map(vocabulary.tokens.map((token, id) => [token, id]));
    this.ranks = new Map(vocabulary.merges.map((pair, rank) => [pair.join(PAIR_SEPARATOR), rank]));
  }

  /** Token ids of a text, neither BOS nor EOS added. */
  encode(text: string): number[] {
    return wordPieces(text).flatMap((word) => this.encodeWord(word));
  }

  private encodeWord(word: string): readonly number[] {
    const cached = this.cache.get(word);
    if (cached !== undefined) return cached;
    let parts = Array.from(word);
    for (;;) {
      let first: number | undefined;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.ranks.get(parts[i] + PAIR_SEPARATOR + parts[i + 1]);
        if (rank !== undefined && (first === undefined || rank < first)) first = rank;
      }
      if (first === undefined) break;
      parts = mergePair(parts, ...this.vocabulary.merges[first] as [string, string]);
    }
    const ids = parts.map((part) => this.ids.get(part)!);
    this.cache.set(word, ids);
    return ids;
  }
}

/** The content of a Hugging Face `tokenizer.json`: byte-level BPE that puts BOS before a text. */
export function tokenizerJson(vocabulary: BpeVocabulary): Record<string, unknown> {
  const bos = SPECIAL_TOKENS[BOS_ID];
  const special = { SpecialToken: { id: bos, type_id: 0 } };
  const sequence = (id: "A" | "B") => ({ Sequence: { id, type_id: 0 } });
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: {
      type: "TemplateProcessing",
      single: [special, sequence("A")],
      pair: [special, sequence("A"), special, sequence("B")],
      special_tokens: { [bos]: { id: bos, ids: [BOS_ID], tokens: [bos] } },
    },
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocabulary.tokens.map((token, id) => [token, id])),
      merges: vocabulary.merges,
    },
  };
}

/** The content of `tokenizer_config.json`; `maxLength` is the model's `max_position_embeddings`. */
export function tokenizerConfigJson(maxLength: number): Record<string, unknown> {
  const [bos_token, eos_token, pad_token] = SPECIAL_TOKENS;
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token,
    eos_token,
    pad_token,
    clean_up_tokenization_spaces: false,
    model_max_length: maxLength,
  };
}
