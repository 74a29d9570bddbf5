import type { Slot } from "../gpu/pool.ts";

/** A row-major f32 matrix inside a slot: element (i, j) is at `offset + i · ld + j`. */
export interface Matrix {
  slot: Slot;
  /** Leading dimension: elements from one row to the next. */
  ld: number;
  /** Elements before the first one. */
  offset: number;
}

/** A matrix whose rows hold vectors (heads): element j of head h of row i is at `offset + i · ld + h · headStride + j`. */
export interface HeadMatrix extends Matrix {
  headStride: number;
}

/** A view of `slot` as a matrix. */
export function matrix(slot: Slot, ld: number, offset = 0): Matrix {
  return { slot, ld, offset };
}

/** A view of `slot` as rows of heads; `headStride` 0 suits rows that are one vector. */
export function headMatrix(slot: Slot, ld: number, offset = 0, headStride = 0): HeadMatrix {
  return { slot, ld, offset, headStride };
}
