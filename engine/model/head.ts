import type { Slot } from "../gpu/pool.ts";
import { argmax } from "../ops/argmax.ts";
import {
  type CrossEntropyChunk,
  crossEntropyGradient,
  crossEntropyStats,
  type SoftKind,
} from "../ops/cross_entropy.ts";
import { softCap } from "../ops/soft_cap.ts";
import { matrix } from "../tensor/matrix.ts";
import type { PassSizes } from "./batch.ts";
import type { BlockContext } from "./context.ts";
import { Linear, NormLayer } from "./layers.ts";

/** Vocabulary columns of one logits chunk: at 8,192 rows they take 256 MiB. */
export const VOCABULARY_CHUNK = 8192;

/** Tables of the soft targets (the anchor's distributions): ids and probabilities side by side. */
export interface SoftTables {
  /** Kinds of targets that point into them. */
  kinds: readonly SoftKind[];
  /** Token ids of distributions that list some tokens only, u32. */
  ids: Slot;
  /** Probabilities, f32: a whole distribution, or those of the tokens listed. */
  probabilities: Slot;
}

const rows = (sizes: PassSizes) => sizes.rows;

/** Final norm, output matrix and loss on the target rows only, in vocabulary chunks. */
export class Head {
  readonly #finalNorm: NormLayer;
  readonly #normed: Slot;
  readonly #normStats: Slot;
  /** Statistics of each row: (max, sum over the listed tokens, sum over the others, logit of the label). */
  readonly stats: Slot;

  constructor(readonly context: BlockContext, readonly soft: SoftTables) {
    const { pool } = context.recorder;
    const { capacity, parameters: { spec } } = context;
    this.#finalNorm = new NormLayer(context, spec.tensors.finalNorm);
    this.#normed = pool.acquire(capacity.rows * spec.width * 4, "final norm");
    this.#normStats = pool.acquire(capacity.rows * 2 * 4, "norm statistics");
    this.stats = pool.acquire(capacity.rows * 16, "row statistics");
  }

  /** The output layer's part for the tokens `first` … `first + columns − 1`. */
  #output(first: number, columns: number): Linear {
    const { tied, tensors: { embedding, head } } = this.context.parameters.spec;
    const names = { ...head, weight: tied ? embedding : head.weight };
    return new Linear(this.context, names, 0, { first, outputs: columns });
  }

  #norm(x: Slot): void {
    this.#finalNorm.forward(rows, { x, y: this.#normed, stats: this.#normStats });
  }

  /** Logits of one chunk, [R, columns]. */
  #logits({ first, columns }: { first: number; columns: number }, logits: Slot): void {
    const { recorder, parameters: { spec: { width: C, logitCap } } } = this.context;
    this.#output(first, columns).forward(matrix(this.#normed, C), matrix(logits, columns), rows);
    if (logitCap) softCap(recorder, { rows, columns, cap: logitCap, x: logits });
  }

  #chunks(): { first: number; columns: number }[] {
    const V = this.context.parameters.spec.vocabulary;
    const count = Math.ceil(V / VOCABULARY_CHUNK);
    return Array.from({ length: count }, (_, i) => {
      const first = i * VOCABULARY_CHUNK;
      return { first, columns: Math.min(VOCABULARY_CHUNK, V - first) };
    });
  }

  #lossChunk(chunk: { first: number; columns: number }, logits: Slot): CrossEntropyChunk<PassSizes> {
    const { batch, parameters: { spec } } = this.context;
    return {
      rows,
      columns: chunk.columns,
      firstColumn: chunk.first,
      cap: spec.logitCap,
      targets: batch.targets,
      softIds: this.soft.ids,
      softProbs: this.soft.probabilities,
      softKinds: this.soft.kinds,
      logits,
      stats: this.stats,
    };
  }

  /** Records the loss of x [R, C] and its gradients. Returns dx [R, C]; the losses go to `rowLoss` [R]. */
  lossAndGradient(x: Slot, rowLoss: Slot): Slot {
    const { recorder, capacity, parameters: { spec: { width: C } } } = this.context;
    const { pool } = recorder;
    this.#norm(x);
    const chunks = this.#chunks();
    const logits = pool.acquire(capacity.rows * chunks[0]!.columns * 4, "logits");
    for (const chunk of chunks) {
      this.#logits(chunk, logits);
      crossEntropyStats(recorder, this.#lossChunk(chunk, logits));
    }
    const dnormed = pool.acquire(capacity.rows * C * 4, "d final norm");
    for (const chunk of chunks) {
      // A single chunk still holds its logits.
      if (chunks.length > 1) this.#logits(chunk, logits);
      crossEntropyGradient(recorder, { ...this.#lossChunk(chunk, logits), rowLoss });
      this.#output(chunk.first, chunk.columns).backward({
        dy: matrix(logits, chunk.columns),
        x: matrix(this.#normed, C),
        dx: matrix(dnormed, C),
        addToInput: chunk.first > 0,
        count: rows,
      });
    }
    pool.release(logits);
    const dx = pool.acquire(capacity.rows * C * 4, "d rows");
    this.#finalNorm.backward(rows, { x, stats: this.#normStats, dy: dnormed, dx }, false);
    pool.release(dnormed);
    return dx;
  }

  /** Records greedy tokens of x [R, C]; `best` [R] gets (bits of the logit, token). */
  greedy(x: Slot, best: Slot): void {
    this.score(x, best, false);
  }

  /** Records statistics and greedy tokens of x [R, C]. */
  score(x: Slot, best: Slot, withStats = true): void {
    const { recorder, capacity } = this.context;
    this.#norm(x);
    const chunks = this.#chunks();
    const logits = recorder.pool.acquire(capacity.rows * chunks[0]!.columns * 4, "logits");
    for (const chunk of chunks) {
      this.#logits(chunk, logits);
      if (withStats) crossEntropyStats(recorder, this.#lossChunk(chunk, logits));
      const { first, columns } = chunk;
      argmax(recorder, { rows, columns, firstColumn: first, logits, best });
    }
    recorder.pool.release(logits);
  }

  /** Records the logits of x [R, C] into `logits` [R, V]. */
  logits(x: Slot, logits: Slot): void {
    this.#norm(x);
    this.#logits({ first: 0, columns: this.context.parameters.spec.vocabulary }, logits);
  }
}
