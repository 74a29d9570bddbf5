import { type Gpu, roundedBytes } from "../gpu/context.ts";
import { type Pool, Slot } from "../gpu/pool.ts";
import { type KernelTarget, Recorder, type Recording } from "../gpu/recorder.ts";
import type { KernelSpan } from "../gpu/profiler.ts";
import type { ReadBytes, SlotCopy, SlotRead } from "../gpu/transfer.ts";
import { attentionTile, MAX_SOFTWARE_TOKENS } from "../ops/attention.ts";
import { ROW_TARGET_BYTES } from "../ops/cross_entropy.ts";
import { fill } from "../ops/elementwise.ts";
import { embeddingBackward, embeddingForward } from "../ops/embedding.ts";
import { ropeTable } from "../ops/rope.ts";
import { packBatch, type PackedBatch, type PassCapacity, type PassSizes, type Sequence } from "./batch.ts";
import { Block } from "./block.ts";
import type { BatchSlots, BlockContext, GradientShards } from "./context.ts";
import { blockParameters, type ModelSpec } from "../models/spec.ts";
import { Head, type SoftTables } from "./head.ts";
import type { Parameter, Parameters } from "./parameters.ts";

/**
 * What a pass computes for the target rows: loss and all gradients; statistics and greedy tokens; greedy tokens alone; or
 * logits.
 */
export type PassKind = "train" | "score" | "greedy" | "logits";

/** Keys and values of earlier tokens, for passes that continue sequences. */
export interface PassCache {
  /** One buffer a block, [rows, 2 · kvHeads · headDim]. */
  slots: readonly Slot[];
  /** Most tokens of a sequence. */
  positions: number;
}

/** How a pass is recorded. */
export interface PassOptions {
  kind: PassKind;
  capacity: PassCapacity;
  /** Keep every block's activations for backward (default); false is activation checkpointing. */
  keepActivations?: boolean;
  /** Gradients of trained parameters, for "train". */
  gradient?: (parameter: Parameter) => GradientShards;
  /** Tables of soft targets; without them every target is a label. */
  soft?: SoftTables | undefined;
  /** Not for "train". */
  cache?: PassCache;
  /** Memory that the pass shares with others, of which one runs at a time; default is its own. */
  arena?: Pool;
}

/** What a recorded pass holds, before any buffer exists. */
export interface PassPlan {
  recorder: Recorder<PassSizes>;
  batch: BatchSlots;
  /** [R] loss of each row (train), statistics [R, 4] and best [R, 2] (score), or logits [R, V]. */
  rowLoss: Slot;
  stats: Slot;
  best: Slot;
  logits: Slot;
  /** Parameters by the segment after which their gradient is whole. */
  completes: ReadonlyMap<string, readonly Parameter[]>;
}

/** Device memory of a pass beside its arena. */
export function ownBytes({ recorder, batch }: PassPlan): number {
  return recorder.paramsBytes + batch.ropeTables.reduce((sum, { bytes }) => sum + roundedBytes(bytes), 0);
}

/** The first block that backward must reach; the number of blocks where only what follows them is trained. */
function lowestTrained({ spec, all }: Parameters): number {
  const { layers, tensors: { embedding } } = spec;
  if (all.some(({ name, trainable }) => trainable && name === embedding)) return 0;
  const blockOf = new Map<string, number>();
  for (let layer = layers - 1; layer >= 0; layer--) {
    for (const { name } of blockParameters(spec, layer)) blockOf.set(name, layer);
  }
  return all.reduce((lowest, { name, trainable }) => {
    return trainable ? Math.min(lowest, blockOf.get(name) ?? layers) : lowest;
  }, layers);
}

/**
 * Records a pass without a device: its pool is the memory plan. Its segments are "embedding", "block 0" …, "head" (with
 * its backward), and for "train" "block 3 backward" … and "embedding backward".
 */
export function recordPass(target: KernelTarget, parameters: Parameters, options: PassOptions): PassPlan {
  const { kind, capacity, keepActivations = true, arena } = options;
  const { spec } = parameters;
  const { width: C, layers } = spec;
  const recorder = new Recorder<PassSizes>(target, arena);
  const { pool } = recorder;
  const batch = batchSlots(recorder, capacity, spec, options.cache);
  const nothing = recorder.nothing;
  let segment = "";
  const begin = (name: string) => recorder.segment(segment = name);
  const lastUse = new Map<Parameter, string>();
  const context: BlockContext = {
    recorder,
    parameters,
    capacity,
    batch,
    cache: options.cache?.slots,
    gradient: (parameter) => {
      if (!options.gradient) throw new TypeError("this pass records no gradients");
      lastUse.set(parameter, segment);
      return options.gradient(parameter);
    },
  };
  const isTrain = kind === "train";
  const rowLoss = isTrain ? pool.acquire(capacity.rows * 4, "row losses") : nothing;
  const best = kind === "score" || kind === "greedy"
    ? pool.acquire(capacity.rows * 8, "greedy tokens")
    : nothing;
  const logits = kind === "logits" ? pool.acquire(capacity.rows * spec.vocabulary * 4, "logits") : nothing;

  begin("embedding");
  const embedding = parameters.get(spec.tensors.embedding);
  let x = pool.acquire(capacity.tokens * C * 4, "embedded");
  const looked = { ids: batch.ids, table: embedding.shards, y: x };
  embeddingForward(recorder, (sizes: PassSizes) => sizes.tokens, C, looked, spec.embeddingScale);
  const lowest = isTrain ? lowestTrained(parameters) : layers;
  const blocks: { block: Block; input: Slot }[] = [];
  for (let layer = 0; layer < layers; layer++) {
    begin(`block ${layer}`);
    const returns = layer >= lowest;
    const block = new Block(context, layer, {
      rowsOnly: layer === layers - 1,
      keepActivations: returns && keepActivations,
    });
    const y = block.forward(x);
    if (returns) blocks.push({ block, input: x });
    else pool.release(x);
    x = y;
  }
  begin("head");
  const head = new Head(context, options.soft ?? { kinds: [], ids: nothing, probabilities: nothing });
  const slots = { recorder, batch, rowLoss, stats: head.stats, best, logits };
  if (kind === "score") head.score(x, best);
  if (kind === "greedy") head.greedy(x, best);
  if (kind === "logits") head.logits(x, logits);
  if (!isTrain) return { ...slots, completes: new Map() };

  const dembedding = embedding.trainable ? context.gradient(embedding) : undefined;
  if (!spec.tied) {
    dembedding?.forEach(({ gradient }, i) => {
      fill(recorder, embedding.shards[i]!.count, gradient, 0, (sizes) => !sizes.accumulate);
    });
  }
  let dx = head.lossAndGradient(x, rowLoss);
  pool.release(x);
  for (const { block, input } of blocks.reverse()) {
    begin(`block ${block.layer} backward`);
    dx = block.backward(input, dx);
    pool.release(input);
  }
  if (dembedding) {
    begin("embedding backward");
    lastUse.set(embedding, segment);
    const slots = { buckets: batch.buckets, order: batch.order, dx, dtable: dembedding };
    embeddingBackward(recorder, (sizes) => sizes.buckets, C, slots, spec.embeddingScale);
  }
  pool.release(dx);
  return { ...slots, completes: Map.groupBy(lastUse.keys(), (parameter) => lastUse.get(parameter)!) };
}

function batchSlots(
  recorder: Recorder<PassSizes>,
  { tokens, rows }: PassCapacity,
  { ropes }: ModelSpec,
  cache?: PassCache,
): BatchSlots {
  const rotary = (frequencies: number, isLong: boolean) =>
    (cache ? cache.positions * (isLong ? 2 : 1) : tokens) * frequencies * 2;
  const acquire = (words: number, label: string) => recorder.pool.acquire(words * 4, label);
  return {
    ids: acquire(tokens, "token ids"),
    positions: acquire(tokens, "positions"),
    keyRows: acquire(tokens, "key rows"),
    queryTiles: acquire(tokens * 4, "query tiles"),
    keyTiles: acquire(tokens * 4, "key tiles"),
    rowTokens: acquire(rows, "row tokens"),
    rowPositions: acquire(rows, "row positions"),
    rowKeyRows: acquire(rows, "row key rows"),
    rowQueryTiles: acquire(rows * 4, "row query tiles"),
    rowKeyTiles: acquire(tokens * 4, "row key tiles"),
    targets: acquire(rows * ROW_TARGET_BYTES / 4, "targets"),
    buckets: acquire(tokens * 4, "buckets"),
    order: acquire(tokens, "order"),
    // Written once, so not in memory that others use in between.
    ropeTables: ropes.map(({ frequencies, long }) =>
      new Slot(rotary(frequencies.length, long !== undefined) * 4, "rope table")
    ),
  };
}

/**
 * Packs a micro-batch for {@link Pass.submit} on a device; may run while it works on another. In passes with a cache,
 * `longOffset` is as for {@link packBatch}.
 * @throws RangeError for a sequence that is empty, out of range or too long for the device, or without a target row.
 */
export function packMicroBatch(
  gpu: Gpu,
  { vocabulary, ropes }: ModelSpec,
  sequences: readonly Sequence[],
  longOffset?: number,
): PackedBatch {
  const batch = packBatch(sequences, vocabulary, attentionTile(gpu), longOffset);
  const longest = Math.max(...sequences.map(({ ids, cached }) => ids.length + (cached?.count ?? 0)));
  if (gpu.isSoftware && longest > MAX_SOFTWARE_TOKENS) {
    throw new RangeError(
      `a sequence of ${longest} tokens: ${gpu.name} ends loops after 65,535 iterations without a word, so at most ` +
        `${MAX_SOFTWARE_TOKENS} tokens are right on it`,
    );
  }
  for (const { most } of ropes) {
    if (!most || longest <= most.tokens) continue;
    throw new RangeError(
      `a sequence of ${longest} tokens: this model's rotary embedding is of kind "${most.kind}", which is supported up to ` +
        `max_position_embeddings only, ${most.tokens} tokens`,
    );
  }
  if (batch.sizes.rows === 0) throw new RangeError("a micro-batch without a target row");
  return batch;
}

/** A recorded pass on a device. */
export class Pass {
  readonly #recording: Recording<PassSizes>;
  /** Which rotary embeddings have their long frequencies loaded. */
  readonly #longRopes: boolean[] = [];

  constructor(
    readonly gpu: Gpu,
    readonly parameters: Parameters,
    readonly plan: PassPlan,
    readonly options: PassOptions,
  ) {
    const { ropes } = parameters.spec;
    const { ropeTables } = plan.batch;
    try {
      for (const slot of ropeTables) slot.realize(gpu);
      this.#recording = plan.recorder.finish(gpu);
    } catch (error) {
      for (const slot of ropeTables) slot.dispose();
      throw error;
    }
    ropes.forEach((_, index) => this.#writeRopeTable(index, false));
    // With a cache each sequence chooses for itself, among both halves of the table.
    if (options.cache) ropes.forEach(({ long }, index) => long && this.#writeRopeTable(index, true));
  }

  /**
   * Chooses the rotary frequencies of the batches that follow: longrope has others as soon as one sequence of a batch, in
   * Transformers the padded one, is longer than its limit.
   */
  useLongest(tokens: number): void {
    if (this.options.cache) return;
    this.parameters.spec.ropes.forEach(({ long }, index) => {
      const isLong = long !== undefined && tokens > long.after;
      if (isLong !== this.#longRopes[index]) this.#writeRopeTable(index, isLong);
    });
  }

  #writeRopeTable(index: number, isLong: boolean): void {
    const { frequencies, long, scale } = this.parameters.spec.ropes[index]!;
    const chosen = isLong && long ? long.frequencies : frequencies;
    const { cache, capacity } = this.options;
    const table = ropeTable(chosen, cache?.positions ?? capacity.tokens, scale);
    const byteOffset = cache && isLong ? table.byteLength : 0;
    this.gpu.write(this.plan.batch.ropeTables[index]!.buffer, table, byteOffset);
    this.#longRopes[index] = isLong;
  }

  static record(gpu: Gpu, parameters: Parameters, options: PassOptions): Pass {
    return new Pass(gpu, parameters, recordPass(gpu, parameters, options), options);
  }

  /** True if a micro-batch of this size fits. */
  fits({ tokens, rows }: PassCapacity): boolean {
    return tokens <= this.options.capacity.tokens && rows <= this.options.capacity.rows;
  }

  /** Packs a micro-batch for {@link Pass.submit}, see {@link packMicroBatch}. */
  pack(sequences: readonly Sequence[]): PackedBatch {
    const { cache } = this.options;
    return packMicroBatch(this.gpu, this.parameters.spec, sequences, cache?.positions);
  }

  /** Uploads a micro-batch and submits the pass, and copies after it, without waiting. */
  submit(batch: PackedBatch, accumulate = false, copies: readonly SlotCopy[] = []): void {
    this.#upload(batch);
    this.#recording.submit({ ...batch.sizes, accumulate }, copies);
  }

  /**
   * Like {@link Pass.submit}, a segment at a time: gives each one's name once it is submitted, see
   * {@link Recording.segments}.
   */
  *segments(
    batch: PackedBatch,
    accumulate = false,
    copies: readonly SlotCopy[] = [],
  ): Generator<string, void, undefined> {
    this.#upload(batch);
    yield* this.#recording.segments({ ...batch.sizes, accumulate }, copies);
  }

  /** Like {@link Pass.submit}, then reads the first `bytes` of each slot. */
  async run<const Reads extends readonly SlotRead[]>(
    batch: PackedBatch,
    reads: Reads,
  ): Promise<ReadBytes<Reads>> {
    this.#upload(batch);
    return await this.#recording.run({ ...batch.sizes, accumulate: false }, reads);
  }

  /** Times of all dispatches of one run, after another that compiles its kernels. */
  async profile(batch: PackedBatch): Promise<KernelSpan[]> {
    this.submit(batch);
    await this.gpu.flush();
    return await this.#recording.profile({ ...batch.sizes, accumulate: false });
  }

  #upload(batch: PackedBatch): void {
    if (!this.fits(batch.sizes)) {
      const { capacity } = this.options;
      throw new RangeError(
        `a micro-batch of ${batch.sizes.tokens} tokens and ${batch.sizes.rows} rows doesn't fit a pass of ` +
          `${capacity.tokens} tokens and ${capacity.rows} rows`,
      );
    }
    const known = this.options.soft?.kinds ?? [];
    const strange = [...batch.softKinds].filter((kind) => !known.includes(kind));
    if (strange.length) {
      throw new TypeError(
        `rows with ${strange.join(" and ")} targets in a pass whose tables hold ${
          known.join(", ") || "none"
        }`,
      );
    }
    const slots = this.plan.batch;
    for (
      const name of [
        ...["ids", "positions", "keyRows", "queryTiles", "keyTiles", "rowTokens", "rowPositions"] as const,
        ...["rowKeyRows", "rowQueryTiles", "rowKeyTiles", "targets", "buckets", "order"] as const,
      ]
    ) {
      this.gpu.write(slots[name].buffer, batch[name]);
    }
  }

  dispose(): void {
    this.#recording.dispose();
    for (const slot of this.plan.batch.ropeTables) slot.dispose();
  }
}
