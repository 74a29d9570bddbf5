import type { Slot } from "../gpu/pool.ts";
import type { Recorder } from "../gpu/recorder.ts";
import type { RowShard } from "../tensor/sharded.ts";
import type { PassCapacity, PassSizes } from "./batch.ts";
import type { Parameter, Parameters } from "./parameters.ts";

/** The gradient of a parameter, by its row shards. */
export type GradientShards = readonly (RowShard & { gradient: Slot })[];

/** Everything that layers record against. */
export interface LayerContext {
  recorder: Recorder<PassSizes>;
  parameters: Parameters;
  capacity: PassCapacity;
  /** Gradient of a parameter; only backward asks for it. */
  gradient: (parameter: Parameter) => GradientShards;
}

/** What the recorded passes read of a batch; filled by the pass before each run. */
export interface BatchSlots {
  ids: Slot;
  positions: Slot;
  /** Row of each token's keys and values: the token itself, or its place in a cache. */
  keyRows: Slot;
  /** The same for each target row. */
  rowKeyRows: Slot;
  queryTiles: Slot;
  keyTiles: Slot;
  rowTokens: Slot;
  rowPositions: Slot;
  rowQueryTiles: Slot;
  rowKeyTiles: Slot;
  targets: Slot;
  buckets: Slot;
  order: Slot;
  /** One for each rotary embedding of the model. */
  ropeTables: Slot[];
}

/** Everything a block records against. */
export interface BlockContext extends LayerContext {
  batch: BatchSlots;
  /** Keys and values of earlier tokens, [rows, 2 · kvHeads · headDim] a block; those of new tokens are added. */
  cache?: readonly Slot[] | undefined;
}
