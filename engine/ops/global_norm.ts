import source from "../../shaders/global_norm.wgsl" with { type: "text" };
import vectorsSource from "../../shaders/vectors.wgsl" with { type: "text" };
import rowsSource from "../../shaders/rows.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import type { Recorder } from "../gpu/recorder.ts";
import { rowConstants, vectorConstants } from "./launch.ts";

const includes = { "vectors.wgsl": vectorsSource, "rows.wgsl": rowsSource };
const partialKernel = defineKernel({ name: "sum_squares", file: "global_norm.wgsl", source, includes });
const factorKernel = defineKernel({ name: "clip_factor", file: "global_norm.wgsl", source, includes });

/**
 * result = (L2 norm over all gradients, clip factor min(1, maxNorm / (norm + 1e-6))); maxNorm 0 never clips. The factor
 * is NaN when the norm is. `slab` elements of a gradient are added by one row of invocations; shards of a tensor of
 * `tensorCount` elements that hold whole slabs give the sum of the whole tensor, bit for bit.
 */
export function globalNorm<S>(
  recorder: Recorder<S>,
  gradients: readonly { slot: Slot; count: number; tensorCount: number; slab: number }[],
  maxNorm: number,
  result: Slot,
): void {
  const slabs = gradients.map(({ count, slab }) => Math.ceil(count / slab));
  const total = slabs.reduce((sum, count) => sum + count, 0);
  const partial = recorder.pool.acquire(total * 4, "squares");
  const constants = rowConstants(recorder.target);
  let first = 0;
  gradients.forEach(({ slot, count, tensorCount, slab }, i) => {
    const params = { count, slab, first };
    recorder.dispatch(
      partialKernel.variant({
        ...constants,
        ...vectorConstants(recorder.target, tensorCount, slab),
        PARTIAL: true,
      }),
      { gradient: slot, partial },
      () => ({ params, groups: Math.ceil(slabs[i]! / constants.ROWS) }),
    );
    first += slabs[i]!;
  });
  recorder.dispatch(
    factorKernel.variant({ THREADS: 64, ROWS: 1, VEC: false, PARTIAL: false }),
    { partial, result },
    () => ({ params: { count: total, max_norm: maxNorm }, groups: 1 }),
  );
  recorder.pool.release(partial);
}
