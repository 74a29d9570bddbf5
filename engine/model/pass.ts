import type { Gpu } from "../gpu/context.ts";
import type { Slot } from "../gpu/pool.ts";
import { type KernelTarget, Recorder, type Recording } from "../gpu/recorder.ts";
import type { KernelSpan } from "../gpu/profiler.ts";
import type { SlotCopy } from "../gpu/transfer.ts";
import { attentionTile, MAX_SOFTWARE_TOKENS } from "../ops/attention.ts";
import { ROW_TARGET_BYTES } from "../ops/cross_entropy.ts";
import { fill } from "../ops/elementwise.ts";
import { embeddingBackward, embeddingForward } from "../ops/embedding.ts";
import { ropeTable } from "../ops/rope.ts";
import { packBatch, type PackedBatch, type PassCapacity, type PassSizes, type Sequence } from "./batch.ts";
import { Block } from "./block.ts";
import type { BatchSlots, BlockContext, GradientShards } from "./context.ts";
import type { ModelSpec } from "../models/spec.ts";
import { Head, type SoftTables } from "./head.ts";
import type { Parameter, Parameters } from "./parameters.ts";

/**
 * What a pass computes for the wanted rows: loss and all gradients; statistics and greedy tokens; greedy tokens alone; or
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
  /** Keep each block's inside for backward, or compute it twice. */
  saveBlocks?: boolean;
  /** Gradients, for "train". */
  gradient?: (parameter: Parameter) => GradientShards;
  /** Tables of soft targets; without them only labels may be wanted. */
  soft?: SoftTables;
  /** Not for "train". */
  cache?: PassCache;
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
}

/** Records a pass without a device: its pool is the memory plan. */
export function recordPass(target: KernelTarget, parameters: Parameters, options: PassOptions): PassPlan {
  const { kind, capacity, saveBlocks = true } = options;
  const { spec } = parameters;
  const { width: C, layers } = spec;
  const recorder = new Recorder<PassSizes>(target);
  const { pool } = recorder;
  const batch = batchSlots(recorder, capacity, spec, options.cache);
  const nothing = recorder.nothing;
  const context: BlockContext = {
    recorder,
    parameters,
    capacity,
    batch,
    cache: options.cache?.slots,
    gradient: options.gradient ?? (() => {
      throw new TypeError("this pass records no gradients");
    }),
  };
  const rowLoss = kind === "train" ? pool.acquire(capacity.rows * 4, "row losses") : nothing;
  const best = kind === "score" || kind === "greedy"
    ? pool.acquire(capacity.rows * 8, "greedy tokens")
    : nothing;
  const logits = kind === "logits" ? pool.acquire(capacity.rows * spec.vocabulary * 4, "logits") : nothing;

  const embedding = parameters.get(spec.tensors.embedding);
  let x = pool.acquire(capacity.tokens * C * 4, "embedded");
  const looked = { ids: batch.ids, table: embedding.shards, y: x };
  embeddingForward(recorder, (sizes: PassSizes) => sizes.tokens, C, looked, spec.embeddingScale);
  const blocks: Block[] = [];
  const inputs: Slot[] = [];
  for (let layer = 0; layer < layers; layer++) {
    const block = new Block(context, layer, {
      rowsOnly: layer === layers - 1,
      save: kind === "train" && saveBlocks,
    });
    const y = block.forward(x);
    if (kind === "train") inputs.push(x);
    else pool.release(x);
    blocks.push(block);
    x = y;
  }
  const head = new Head(context, options.soft ?? { kinds: [], ids: nothing, probabilities: nothing });
  const plan = { recorder, batch, rowLoss, stats: head.stats, best, logits };
  if (kind === "score") head.score(x, best);
  if (kind === "greedy") head.greedy(x, best);
  if (kind === "logits") head.logits(x, logits);
  if (kind !== "train") return plan;

  const dembedding = context.gradient(embedding);
  if (!spec.tied) {
    dembedding.forEach(({ gradient }, i) => {
      fill(recorder, embedding.shards[i].count, gradient, 0, (sizes) => !sizes.accumulate);
    });
  }
  let dx = head.lossAndGradient(x, rowLoss);
  pool.release(x);
  for (let layer = layers - 1; layer >= 0; layer--) {
    dx = blocks[layer].backward(inputs[layer], dx);
    pool.release(inputs[layer]);
  }
  embeddingBackward(recorder, (sizes) => sizes.buckets, C, {
    buckets: batch.buckets,
    order: batch.order,
    dx,
    dtable: dembedding,
  }, spec.embeddingScale);
  pool.release(dx);
  return plan;
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
    ropeTables: ropes.map(({ frequencies, long }) =>
      acquire(rotary(frequencies.length, long !== undefined), "rope table")
    ),
  };
}

/**
 * Packs a micro-batch for {@link Pass.submit} on a device; may run while it works on another. In passes with a cache,
 * `longOffset` is as for {@link packBatch}.
 * @throws RangeError for a sequence that is empty, out of range or too long for the device, or when no row is wanted.
 */
export function packMicroBatch(
  gpu: Gpu,
  { vocabulary }: ModelSpec,
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
  if (batch.sizes.rows === 0) throw new RangeError("a micro-batch without a wanted row");
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
    this.#recording = plan.recorder.finish(gpu);
    const { ropes } = parameters.spec;
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
    const { frequencies, long, scale } = this.parameters.spec.ropes[index];
    const chosen = isLong && long ? long.frequencies : frequencies;
    const { cache, capacity } = this.options;
    const table = ropeTable(chosen, cache?.positions ?? capacity.tokens, scale);
    const byteOffset = cache && isLong ? table.byteLength : 0;
    this.gpu.write(this.plan.batch.ropeTables[index].buffer, table, byteOffset);
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

  /** Like {@link Pass.submit}, then reads the first `bytes` of each slot. */
  async run(
    batch: PackedBatch,
    reads: readonly { slot: Slot; bytes: number }[],
  ): Promise<Uint8Array<ArrayBuffer>[]> {
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
  }
}
