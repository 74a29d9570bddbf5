import rowsCopySource from "../../shaders/rows_copy.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import forwardSource from "../../shaders/embedding_forward.wgsl" with { type: "text" };
import backwardSource from "../../shaders/embedding_backward.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import type { RowShard } from "../tensor/sharded.ts";
import type { Stored } from "../tensor/stored.ts";
import { elementGroups } from "./launch.ts";

const define = (name: string) =>
  defineKernel({
    name,
    file: "rows_copy.wgsl",
    source: rowsCopySource,
    includes: { "elements.wgsl": elementsSource },
  });
const gatherKernel = define("gather_rows");
const scatterKernel = define("scatter_add_rows");
const forwardKernel = defineKernel({
  name: "embedding_forward",
  file: "embedding_forward.wgsl",
  source: forwardSource,
  includes: { "elements.wgsl": elementsSource },
});
const backwardKernel = defineKernel({
  name: "embedding_backward",
  file: "embedding_backward.wgsl",
  source: backwardSource,
});

/** y[n] = scale · table[ids[n]] for rows of `columns`, from all shards of the table. */
export function embeddingForward<S>(
  recorder: Recorder<S>,
  rows: Dim<S>,
  columns: number,
  slots: { ids: Slot; table: readonly (Stored & RowShard)[]; y: Slot },
  scale = 1,
): void {
  for (const shard of slots.table) {
    recorder.dispatch(
      forwardKernel.variant({ BF16: shard.storage !== "f32" }),
      { ids: slots.ids, table: shard.weight, y: slots.y },
      (sizes) => {
        const count = dim(rows, sizes);
        return {
          params: { rows: count, columns, first_row: shard.firstRow, shard_rows: shard.rows, scale },
          groups: elementGroups(count * columns),
        };
      },
    );
  }
}

/** y[r] = x[index[r]] for rows of `columns`. */
export function gatherRows<S>(
  recorder: Recorder<S>,
  rows: Dim<S>,
  columns: number,
  slots: { index: Slot; x: Slot; y: Slot },
): void {
  recorder.dispatch(gatherKernel.variant({ GATHER: true }), { ...slots }, (sizes) => {
    const count = dim(rows, sizes);
    return { params: { rows: count, columns }, groups: elementGroups(count * columns) };
  });
}

/** y[index[r]] += x[r]; the indices must be distinct. */
export function scatterAddRows<S>(
  recorder: Recorder<S>,
  rows: Dim<S>,
  columns: number,
  slots: { index: Slot; x: Slot; y: Slot },
): void {
  recorder.dispatch(scatterKernel.variant({ GATHER: false }), { ...slots }, (sizes) => {
    const count = dim(rows, sizes);
    return { params: { rows: count, columns }, groups: elementGroups(count * columns) };
  });
}

/**
 * dtable[token] += scale · the rows of dx at that token's positions, as sorted by {@link tokenBuckets}; `dtable` is the
 * gradient by row shards.
 */
export function embeddingBackward<S>(
  recorder: Recorder<S>,
  bucketCount: Dim<S>,
  columns: number,
  slots: { buckets: Slot; order: Slot; dx: Slot; dtable: readonly (RowShard & { gradient: Slot })[] },
  scale = 1,
): void {
  const { dtable, ...rest } = slots;
  for (const { firstRow, rows, gradient } of dtable) {
    recorder.dispatch(backwardKernel.variant(), { ...rest, dtable: gradient }, (sizes) => {
      const buckets = dim(bucketCount, sizes);
      return {
        params: { buckets, columns, first_row: firstRow, shard_rows: rows, scale },
        groups: buckets * Math.ceil(columns / 64),
      };
    });
  }
}

/** Positions grouped by token, tokens ascending: `buckets` holds (token, first, end, 0) of `order`. */
export function tokenBuckets(ids: ArrayLike<number>): {
  buckets: Uint32Array<ArrayBuffer>;
  order: Uint32Array<ArrayBuffer>;
} {
  const order = Uint32Array.from({ length: ids.length }, (_, i) => i).sort((a, b) =>
    ids[a]! - ids[b]! || a - b
  );
  const buckets: number[] = [];
  for (let first = 0; first < order.length;) {
    const token = ids[order[first]!]!;
    let end = first;
    while (end < order.length && ids[order[end]!] === token) end++;
    buckets.push(token, first, end, 0);
    first = end;
  }
  return { buckets: Uint32Array.from(buckets), order };
}
