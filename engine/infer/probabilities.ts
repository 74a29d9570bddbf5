import type { Model } from "../model/model.ts";
import { softmax } from "./sample.ts";

/** Bytes of distributions that one call of logits may bring to the host. */
const LOGITS_BYTES = 64 << 20;

/**
 * Probabilities of the next token after each sequence: [V] each, a softmax in float64 rounded to f32.
 * @throws RangeError for an empty sequence or a token outside the vocabulary.
 */
export async function nextTokenProbabilities(
  model: Model,
  sequences: readonly (readonly number[])[],
): Promise<Float32Array<ArrayBuffer>[]> {
  const out: Float32Array<ArrayBuffer>[] = [];
  const group = Math.max(1, Math.floor(LOGITS_BYTES / 4 / model.spec.vocabulary));
  for (let first = 0; first < sequences.length; first += group) {
    const asked = sequences.slice(first, first + group).map((ids) => ({ ids, positions: [ids.length - 1] }));
    for (const logits of await model.logitsAt(asked)) out.push(Float32Array.from(softmax(logits)));
  }
  return out;
}
