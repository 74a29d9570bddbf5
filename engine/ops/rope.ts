import ropeSource from "../../shaders/rope.wgsl" with { type: "text" };
import vectorsSource from "../../shaders/vectors.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import type { HeadMatrix } from "../tensor/matrix.ts";
import { elementGroups, headCounts, vectorConstants } from "./launch.ts";

const kernel = defineKernel({
  name: "rope",
  file: "rope.wgsl",
  source: ropeSource,
  includes: { "vectors.wgsl": vectorsSource, "elements.wgsl": elementsSource },
});

/** The rotation of `heads` heads in each row of `x`, in place. */
export interface Rope<S> {
  rows: Dim<S>;
  heads: number;
  /** Rotated dimensions of a head, from its first. */
  rotary: number;
  x: HeadMatrix;
  /** u32 position of each row. */
  positions: Slot;
  /** (cos, sin) pairs, [positions, rotary / 2]: see {@link ropeTable}. */
  table: Slot;
}

/** Records the rotation; with `backward` its transpose, which maps gradients back. */
export function rope<S>(recorder: Recorder<S>, shape: Rope<S>, backward = false): void {
  const { heads, rotary, x, positions, table } = shape;
  const constants = vectorConstants(recorder.target, rotary / 2, ...headCounts(x));
  recorder.dispatch(kernel.variant(constants), { positions, table, x: x.slot }, (sizes) => {
    const rows = dim(shape.rows, sizes);
    return {
      params: {
        rows,
        heads,
        rotary,
        ld: x.ld,
        offset: x.offset,
        stride: x.headStride,
        direction: backward ? -1 : 1,
      },
      groups: elementGroups(rows * heads * rotary / 2 / (constants.VEC ? 4 : 1)),
    };
  });
}

/**
 * scale · cos and scale · sin of position · frequency for positions 0 … count − 1, interleaved. Made in float64 on the
 * host: Vulkan lets a GPU's own sin and cos be off by 2⁻¹¹.
 */
export function ropeTable(
  frequencies: readonly number[],
  count: number,
  scale = 1,
): Float32Array<ArrayBuffer> {
  const table = new Float32Array(count * frequencies.length * 2);
  for (let position = 0, at = 0; position < count; position++) {
    for (const frequency of frequencies) {
      table[at++] = scale * Math.cos(position * frequency);
      table[at++] = scale * Math.sin(position * frequency);
    }
  }
  return table;
}
