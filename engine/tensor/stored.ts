import type { Slot } from "../gpu/pool.ts";

/**
 * How a parameter lies in memory: f32; bf16, two to a word, rounded stochastically when it is updated; or an f32 master in
 * two planes, the bf16 that is computed with and the rest of its bits (split.ts).
 */
export type Storage = "f32" | "bf16" | "split";

/** A stored parameter, or a row shard of one. */
export interface Stored {
  /** Which of the three. */
  readonly storage: Storage;
  /** f32, or bf16 in pairs. */
  readonly weight: Slot;
  /** The lower halves of a split master, in pairs. */
  readonly lower?: Slot;
}

/** Bytes of one plane of `count` elements. */
export function planeBytes(storage: Storage, count: number): number {
  return storage === "f32" ? count * 4 : Math.ceil(count / 2) * 4;
}
