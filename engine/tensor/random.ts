/**
 * Counter-based random numbers: a value is a pure function of a seed and up to three counters, so nothing has
 * to be stored to resume a run, and draws made in another order or on another platform are the same bits.
 * @module
 */

/** The lowbias32 finaliser (Chris Wellons, "Prospecting for Hash Functions"): a bijection on 32 bits. */
function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

function absorb(h: number, value: number): number {
  if (!Number.isSafeInteger(value)) {
    throw new RangeError(`random: seed and counters must be safe integers, found ${value}`);
  }
  // Two words a value: a seed above 2³² must not collide with its low half.
  h = mix((Math.imul(h, 0x9e3779b1) + (value | 0)) >>> 0);
  return mix((Math.imul(h, 0x9e3779b1) + Math.floor(value / 2 ** 32)) >>> 0);
}

/**
 * 32 random bits for (seed, a, b, c).
 * @throws RangeError when one of them is not a safe integer (negative ones are fine).
 */
export function hash32(seed: number, a = 0, b = 0, c = 0): number {
  return absorb(absorb(absorb(absorb(0x243f6a88, seed), a), b), c);
}

/** A uniform number in [0, 1), a multiple of 2⁻³², for (seed, a, b, c). Throws as {@linkcode hash32}. */
export function uniform(seed: number, a = 0, b = 0, c = 0): number {
  return hash32(seed, a, b, c) / 2 ** 32;
}

/**
 * A uniform integer in [0, n) for (seed, a, b, c).
 * @throws RangeError when n is not an integer in 1…2³².
 */
export function randomInt(n: number, seed: number, a = 0, b = 0, c = 0): number {
  if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) {
    throw new RangeError(`random: n must be an integer from 1 to 2^32, found ${n}`);
  }
  return Math.floor(uniform(seed, a, b, c) * n);
}

/** A shuffled copy of `items`; `stream` tells apart several shuffles under one seed. */
export function shuffle<T>(items: readonly T[], seed: number, stream = 0): T[] {
  return sample(items, items.length, seed, stream);
}

/**
 * `count` different items, in random order; a smaller count is a prefix of a larger one.
 * @throws RangeError when count is not an integer in 0…items.length.
 */
export function sample<T>(items: readonly T[], count: number, seed: number, stream = 0): T[] {
  if (!Number.isInteger(count) || count < 0 || count > items.length) {
    throw new RangeError(`random: cannot draw ${count} of ${items.length} items`);
  }
  const out = [...items];
  for (let i = 0; i < count; i++) {
    const j = i + randomInt(out.length - i, seed, stream, i);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out.slice(0, count);
}
