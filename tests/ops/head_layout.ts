/** Vectors (heads) spread over the rows of a wider buffer, as {@linkcode HeadMatrix} describes them. */
import assert from "node:assert/strict";
import type { Slot } from "../../engine/gpu/pool.ts";
import { type HeadMatrix, headMatrix } from "../../engine/tensor/matrix.ts";

/** `rows` of `heads` vectors of `columns`; element j of head h of row i is at offset + i·ld + h·headStride + j. */
export interface HeadLayout {
  rows: number;
  heads: number;
  columns: number;
  ld: number;
  offset: number;
  headStride: number;
}

/** Vectors one behind the other, rows one behind the other. */
export function dense(rows: number, heads: number, columns: number): HeadLayout {
  return { rows, heads, columns, ld: heads * columns, offset: 0, headStride: columns };
}

/** The layout in a slot, as ops take it. */
export function view(slot: Slot, { ld, offset, headStride }: HeadLayout): HeadMatrix {
  return headMatrix(slot, ld, offset, headStride);
}

/** Elements of a buffer that ends with the last row. */
export function extent({ rows, ld, offset }: HeadLayout): number {
  return offset + rows * ld;
}

/** Places of the vectors' elements, in the order of [rows, heads, columns]. */
function places({ rows, heads, columns, ld, offset, headStride }: HeadLayout): number[] {
  return Array.from({ length: rows * heads * columns }, (_, i) => {
    const vector = Math.floor(i / columns);
    return offset + Math.floor(vector / heads) * ld + vector % heads * headStride + i % columns;
  });
}

/** A buffer that holds `values` [rows, heads, columns], and NaN between them; or `into` with the values put there. */
export function spread(
  values: ArrayLike<number>,
  layout: HeadLayout,
  into: Float32Array<ArrayBuffer> = new Float32Array(extent(layout)).fill(NaN),
): Float32Array<ArrayBuffer> {
  places(layout).forEach((at, i) => into[at] = values[i]);
  return into;
}

/** The vectors of a buffer, [rows, heads, columns]. */
export function collect(found: ArrayLike<number>, layout: HeadLayout): Float64Array<ArrayBuffer> {
  return Float64Array.from(places(layout), (at) => found[at]);
}

/** Asserts that a buffer which began as NaN still is NaN beside its layouts. */
export function assertOnly(name: string, found: ArrayLike<number>, ...layouts: HeadLayout[]): void {
  const written = new Set(layouts.flatMap(places));
  for (let i = 0; i < found.length; i++) {
    if (!written.has(i) && !Number.isNaN(found[i])) assert.fail(`${name}[${i}]: written, found ${found[i]}`);
  }
}
