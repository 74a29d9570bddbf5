/**
 * The draw of a response from its candidates: a keyed pseudo-random function of the key, so that whoever
 * holds the draw key can't choose a response afterwards, and nobody without it can foretell one.
 * @module
 */

import { createHash, createHmac } from "node:crypto";

/** Name of the draw in a fingerprint file. */
export const DRAW = "hmac-sha256";

const LABEL = new TextEncoder().encode("whorl perinucleus draw 1\0");
/**
 * Draws are 48-bit numbers: exact in float64, and a remainder that would favour small ones is drawn again.
 */
const RANGE = 2 ** 48;

/**
 * A uniform integer in [0, n): HMAC-SHA256 under `drawKey` of the label, then as little-endian u32 the number
 * of the draw, of the repetition and of tokens, and the token ids; the first 48 bits, little-endian, modulo
 * n. Numbers from the last, incomplete multiple of n on are drawn again.
 * @param draw counts the draws for one key
 * @throws RangeError when n is not an integer in 1…2³².
 */
export function drawIndex(drawKey: Uint8Array, keyIds: readonly number[], draw: number, n: number): number {
  if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) {
    throw new RangeError(`draw: n must be an integer from 1 to 2^32, found ${n}`);
  }
  const limit = RANGE - RANGE % n;
  const message = new Uint8Array(LABEL.length + 12 + 4 * keyIds.length);
  message.set(LABEL);
  const view = new DataView(message.buffer, LABEL.length);
  view.setUint32(0, draw, true);
  view.setUint32(8, keyIds.length, true);
  keyIds.forEach((id, i) => view.setUint32(12 + 4 * i, id, true));
  for (let repetition = 0;; repetition++) {
    view.setUint32(4, repetition, true);
    const value = createHmac("sha256", drawKey).update(message).digest().readUIntLE(0, 6);
    if (value < limit) return value % n;
  }
}

/**
 * `count` different candidates of a key, each uniform over those that are left.
 * @throws RangeError when there are fewer.
 */
export function drawResponses(
  drawKey: Uint8Array,
  keyIds: readonly number[],
  candidates: readonly number[],
  count: number,
): number[] {
  if (count > candidates.length) {
    throw new RangeError(`draw: ${count} different responses wanted of ${candidates.length} candidates`);
  }
  const left = [...candidates];
  return Array.from(
    { length: count },
    (_, draw) => left.splice(drawIndex(drawKey, keyIds, draw, left.length), 1)[0]!,
  );
}

/**
 * SHA-256 of a draw key, hex: published early, it proves later that the draws were not made for the occasion.
 */
export function drawCommitment(drawKey: Uint8Array): string {
  return createHash("sha256").update(drawKey).digest("hex");
}
