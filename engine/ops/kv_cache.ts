import source from "../../shaders/kv_cache.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import type { HeadMatrix } from "../tensor/matrix.ts";
import { elementGroups } from "./launch.ts";

const kernel = defineKernel({
  name: "kv_cache_write",
  file: "kv_cache.wgsl",
  source,
  includes: { "elements.wgsl": elementsSource },
});

/** Keys and values of new tokens, and the rows of the cache [rows, 2 · heads · headDim] that they belong in. */
export interface KvCacheWrite<S> {
  rows: Dim<S>;
  heads: number;
  headDim: number;
  /** Must share buffer, leading dimension and head stride. */
  k: HeadMatrix;
  v: HeadMatrix;
  /** u32 row of the cache for each token. */
  keyRows: Slot;
  cache: Slot;
}

/** cache[keyRows[n]] = keys, then values, of token n. */
export function kvCacheWrite<S>(recorder: Recorder<S>, write: KvCacheWrite<S>): void {
  const { heads, headDim, k, v, keyRows, cache } = write;
  if (k.slot !== v.slot || k.ld !== v.ld || k.headStride !== v.headStride) {
    throw new TypeError("keys and values must share buffer, leading dimension and head stride");
  }
  recorder.dispatch(kernel.variant(), { key_rows: keyRows, kv: k.slot, cache }, (sizes) => {
    const rows = dim(write.rows, sizes);
    return {
      params: {
        rows,
        heads,
        head_dim: headDim,
        ld: k.ld,
        k_offset: k.offset,
        v_offset: v.offset,
        head_stride: k.headStride,
      },
      groups: elementGroups(rows * 2 * heads * headDim),
    };
  });
}
