/** bf16 storage: rounding to nearest with ties away from zero, and stochastic rounding by a hash of (key, element). */

/** Bits of a float32. */
function bitsOf(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0];
}

/** The float32 of these bits. */
function fromBits(bits: number): number {
  return new Float32Array(Uint32Array.of(bits).buffer)[0];
}

/** A number as the upper half of its float32 bits holds it. */
export function nearestBf16(value: number): number {
  if (!Number.isFinite(value)) return value;
  return fromBits((bitsOf(value) + 0x8000 & 0xffff0000) >>> 0);
}

/** 16 random bits: PCG's output function (O'Neill 2014) on element ^ key, and one more round with the key. */
function randomHalf(key: number, element: number): number {
  let state = (Math.imul((element ^ key) >>> 0, 747796405) + 2891336453) >>> 0;
  state = Math.imul(((state >>> ((state >>> 28) + 4)) ^ state) >>> 0, 277803737) >>> 0;
  state = (((state >>> 22) ^ state) + key) >>> 0;
  state = Math.imul((state ^ (state >>> 16)) >>> 0, 0x7feb352d) >>> 0;
  return ((state ^ (state >>> 15)) >>> 0) >>> 16;
}

/** A finite float32 as a bf16 beside it: the farther one with the probability of the distance covered. */
export function stochasticBf16(value: number, key: number, element: number): number {
  return fromBits((bitsOf(value) + randomHalf(key, element) & 0xffff0000) >>> 0);
}
