import type { Slot } from "../gpu/pool.ts";

/** A row-major f32 matrix inside a slot: element (i, j) is at `offset + i · ld + j`. */
export interface Matrix {
  slot: Slot;
  /** Leading dimension: elements from one row to the next. */
  ld: number;
  /** Elements before the first one. */
  offset: number;
}

/** A view of `slot` as a matrix. */
export function matrix(slot: Slot, ld: number, offset = 0): Matrix {
  return { slot, ld, offset };
}
