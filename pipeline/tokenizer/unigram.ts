/**
 * Unigram's best split of a text, as the Rust tokenizers find it (`encode_optimized`). The library's lattice
 * compares scores with the next piece's added, which rounds ties away; the trie of pieces is the library's.
 * @module
 */

import type { Unigram } from "@huggingface/tokenizers";

/**
 * The pieces of the likeliest split. Neighbouring characters without a piece come as one that is no token.
 * @param vocabulary (piece, log-probability) by id.
 */
export function unigramPieces(
  text: string,
  model: Unigram,
  vocabulary: readonly (readonly [string, number])[],
): string[] {
  const chars = Array.from(text);
  const ends = Array.from({ length: chars.length + 1 }, () => ({ id: UNKNOWN, score: 0, start: -1 }));
  for (let start = 0; start < chars.length; start++) {
    const before = ends[start]!.score;
    const offer = (length: number, id: number, pieceScore: number) => {
      const end = ends[start + length]!;
      const score = pieceScore + before;
      if (end.start < 0 || score > end.score) Object.assign(end, { id, score, start });
    };
    let hasSingle = false;
    for (const piece of model.trie.common_prefix_search(chars, start)) {
      const id = model.tokens_to_ids.get(piece)!;
      const length = Array.from(piece).length;
      offer(length, id, vocabulary[id]![1]);
      hasSingle ||= length === 1;
    }
    if (!hasSingle) offer(1, model.unk_token_id ?? UNKNOWN, model.unk_score);
  }

  const pieces: string[] = [];
  let wasUnknown = false;
  for (let end = chars.length; end > 0; end = ends[end]!.start) {
    const { id, start } = ends[end]!;
    const isUnknown = id === UNKNOWN || id === model.unk_token_id;
    const piece = chars.slice(start, end).join("");
    if (isUnknown && wasUnknown) pieces[pieces.length - 1] = piece + pieces[pieces.length - 1];
    else pieces.push(piece);
    wasUnknown = isUnknown;
  }
  return pieces.reverse();
}

/** Stands for the unknown token of a model that has none. */
const UNKNOWN = -1;
