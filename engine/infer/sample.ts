import { uniform } from "../tensor/random.ts";

/** How a token is drawn from logits. */
export interface Sampling {
  /** 0 takes the likeliest token; otherwise logits are divided by this. */
  temperature: number;
  /** Keep the k likeliest tokens; 0 is all. */
  topK: number;
  /** Keep the likeliest tokens that together reach this probability; 1 is all. */
  topP: number;
  /** Keep tokens of at least this share of the likeliest one's probability; 0 is all. */
  minP: number;
}

/** Softmax in float64. */
export function softmax(logits: ArrayLike<number>, temperature = 1): Float64Array<ArrayBuffer> {
  const out = new Float64Array(logits.length);
  let top = logits[0]!;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > top) top = logits[i]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += out[i] = Math.exp((logits[i]! - top) / temperature);
  for (let i = 0; i < out.length; i++) out[i]! /= sum;
  return out;
}

/** Tokens by probability, the likeliest first, ties by id. */
export function byProbability(probabilities: ArrayLike<number>): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(probabilities, (_, token) => token)
    .sort((a, b) => probabilities[b]! - probabilities[a]! || a - b);
}

/**
 * Draws a token: temperature, then top-k, top-p and min-p, each on what the one before left, as in Transformers.
 * Returns −1 when a logit is NaN. `u` in [0, 1) decides.
 */
export function drawToken(logits: ArrayLike<number>, sampling: Sampling, u: number): number {
  const { temperature, topK, topP, minP } = sampling;
  const p = softmax(logits, temperature);
  if (Number.isNaN(p[0])) return -1;
  if (!topK && topP >= 1 && minP <= 0) return passing(p, undefined, 1, u);
  const order = byProbability(p);
  let count = topK ? Math.min(topK, order.length) : order.length;
  const massOf = (tokens: number) => {
    let mass = 0;
    for (let i = 0; i < tokens; i++) mass += p[order[i]!]!;
    return mass;
  };
  if (topP < 1) {
    const wanted = topP * massOf(count);
    let mass = 0;
    for (let i = 0; i < count; i++) {
      mass += p[order[i]!]!;
      if (mass >= wanted) count = i + 1;
    }
  }
  if (minP > 0) {
    while (count > 1 && p[order[count - 1]!]! < minP * p[order[0]!]!) count--;
  }
  return passing(p, order.subarray(0, count).sort(), massOf(count), u);
}

/** The token, of `tokens` in ascending order (or all), at which the cumulative probability passes u · mass. */
function passing(p: Float64Array, tokens: Uint32Array | undefined, mass: number, u: number): number {
  let sum = 0;
  let last = 0;
  const count = tokens?.length ?? p.length;
  for (let i = 0; i < count; i++) {
    const token = tokens ? tokens[i]! : i;
    if (p[token] === 0) continue;
    sum += p[token]!;
    last = token;
    if (u * mass < sum) return token;
  }
  return last;
}

/** Keeps these numbers apart from others of the same seed. */
const STREAM = 0x67656e;

/** The random number of a text's token: of nothing but seed, the text's index and the token's place. */
export function tokenUniform(seed: number, index: number, place: number): number {
  return uniform(seed, STREAM, index, place);
}
