import type { Slot } from "../gpu/pool.ts";
import type { Recorder } from "../gpu/recorder.ts";
import type { RowShard } from "../tensor/sharded.ts";
import type { PassCapacity, PassSizes } from "./batch.ts";
import type { Parameter, Parameters } from "./params.ts";

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
  /** 0, 1, 2 …: the token of each query row where all tokens are queries. */
  everyToken: Slot;
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
}
