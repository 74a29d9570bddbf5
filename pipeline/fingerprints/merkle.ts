/**
 * Merkle trees with SHA-256 as RFC 6962, section 2.1, has them: a leaf is hashed after a byte 0, two nodes after a
 * byte 1, and of n leaves the left half has the largest power of two below n.
 * @module
 */

import { createHash } from "node:crypto";

const sha256 = (...parts: Uint8Array[]): Uint8Array => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

/** Hash of a leaf's content, 32 bytes. */
export function leafHash(...content: Uint8Array[]): Uint8Array {
  return sha256(LEAF, ...content);
}

/** Hash of the tree over hashes of leaves; of no leaves SHA-256 of nothing. */
export function merkleRoot(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return leaves[0]!;
  const left = leftSize(leaves.length);
  return sha256(NODE, merkleRoot(leaves.slice(0, left)), merkleRoot(leaves.slice(left)));
}

/** The hashes beside the way from leaf `index` to the root, lowest first (RFC 6962's audit path). */
export function merklePath(leaves: readonly Uint8Array[], index: number): Uint8Array[] {
  if (leaves.length <= 1) return [];
  const left = leftSize(leaves.length);
  const [here, there] = [leaves.slice(0, left), leaves.slice(left)];
  return index < left
    ? [...merklePath(here, index), merkleRoot(there)]
    : [...merklePath(there, index - left), merkleRoot(here)];
}

/** The root that a leaf's hash and its path give; undefined if a tree of `count` leaves has no path of that length. */
export function rootOfPath(
  leaf: Uint8Array,
  index: number,
  count: number,
  path: readonly Uint8Array[],
): Uint8Array | undefined {
  if (count <= 1) return path.length === 0 ? leaf : undefined;
  const beside = path.at(-1);
  if (beside === undefined) return undefined;
  const left = leftSize(count);
  const rest = path.slice(0, -1);
  const isLeft = index < left;
  const below = isLeft
    ? rootOfPath(leaf, index, left, rest)
    : rootOfPath(leaf, index - left, count - left, rest);
  return below && (isLeft ? sha256(NODE, below, beside) : sha256(NODE, beside, below));
}

/** The largest power of two below n, n at least 2. */
function leftSize(n: number): number {
  let size = 1;
  while (2 * size < n) size *= 2;
  return size;
}
