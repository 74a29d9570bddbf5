import type { Slot } from "../gpu/pool.ts";
import { argmax } from "../ops/argmax.ts";
import { type CrossEntropyChunk, crossEntropyGradient, crossEntropyStats } from "../ops/cross_entropy.ts";
import { gemm } from "../ops/matmul.ts";
import { rmsNormBackward, rmsNormForward } from "../ops/norm.ts";
import { matrix } from "../tensor/matrix.ts";
import type { PassSizes } from "./batch.ts";
import type { BlockContext } from "./block.ts";
import type { Parameter } from "./params.ts";

/** Vocabulary columns of one logits chunk: at 8,192 rows they take 256 MiB. */
export const VOCABULARY_CHUNK = 8192;

/** Tables of the soft targets (the anchor's distributions): ids and probabilities side by side. */
export interface SoftTables {
  ids: Slot;
  probabilities: Slot;
}

const rows = (sizes: PassSizes) => sizes.rows;

/** Final norm, output matrix and loss on the wanted rows only, in vocabulary chunks. */
export class Head {
  readonly #normed: Slot;
  readonly #rstd: Slot;
  /** Statistics of each row: (max, sum over the wanted tokens, sum over the others, logit of the label). */
  readonly stats: Slot;

  constructor(readonly context: BlockContext, readonly soft: SoftTables) {
    const { pool } = context.recorder;
    const { capacity, parameters: { spec } } = context;
    this.#normed = pool.acquire(capacity.rows * spec.width * 4, "final norm");
    this.#rstd = pool.acquire(capacity.rows * 4, "rstd");
    this.stats = pool.acquire(capacity.rows * 16, "row statistics");
  }

  get #matrix(): Parameter {
    const { parameters } = this.context;
    const { names, tied } = parameters.spec;
    return parameters.get(tied ? names.embedding : names.head);
  }

  get #finalNorm(): Parameter {
    const { parameters } = this.context;
    return parameters.get(parameters.spec.names.finalNorm);
  }

  #norm(x: Slot): void {
    const { recorder, parameters: { spec } } = this.context;
    rmsNormForward(recorder, { rows, columns: spec.width, epsilon: spec.normEpsilon }, {
      ...{ x, weight: this.#finalNorm.weight, y: this.#normed, rstd: this.#rstd },
    });
  }

  /** Logits of one chunk, [R, columns]. */
  #logits(first: number, columns: number, logits: Slot): void {
    const { recorder, capacity, parameters: { spec: { width: C } } } = this.context;
    gemm(recorder, {
      layout: "NT",
      ...{ a: matrix(this.#normed, C), b: matrix(this.#matrix.weight, C, first * C) },
      ...{ c: matrix(logits, columns), m: rows, n: columns, k: C, capacityM: capacity.rows },
    });
  }

  #chunks(): { first: number; columns: number }[] {
    const V = this.context.parameters.spec.vocabulary;
    const count = Math.ceil(V / VOCABULARY_CHUNK);
    return Array.from({ length: count }, (_, i) => {
      const first = i * VOCABULARY_CHUNK;
      return { first, columns: Math.min(VOCABULARY_CHUNK, V - first) };
    });
  }

  #lossChunk(first: number, columns: number, logits: Slot): CrossEntropyChunk<PassSizes> {
    return {
      ...{ rows, columns, firstColumn: first, targets: this.context.batch.targets },
      ...{ softIds: this.soft.ids, softProbs: this.soft.probabilities, logits, stats: this.stats },
    };
  }

  /** Records the loss of x [R, C] and its gradients. Returns dx [R, C]; the losses go to `rowLoss` [R]. */
  lossAndGradient(x: Slot, rowLoss: Slot): Slot {
    const { recorder, capacity, gradient, parameters: { spec: { width: C } } } = this.context;
    const { pool } = recorder;
    this.#norm(x);
    const chunks = this.#chunks();
    const logits = pool.acquire(capacity.rows * chunks[0].columns * 4, "logits");
    for (const { first, columns } of chunks) {
      this.#logits(first, columns, logits);
      crossEntropyStats(recorder, this.#lossChunk(first, columns, logits));
    }
    const dnormed = pool.acquire(capacity.rows * C * 4, "d final norm");
    const parameter = this.#matrix;
    for (const { first, columns } of chunks) {
      // A single chunk still holds its logits.
      if (chunks.length > 1) this.#logits(first, columns, logits);
      crossEntropyGradient(recorder, { ...this.#lossChunk(first, columns, logits), rowLoss });
      gemm(recorder, {
        layout: "TN",
        ...{ a: matrix(logits, columns), b: matrix(this.#normed, C) },
        ...{ c: matrix(gradient(parameter), C, first * C), m: columns, n: C, k: rows, capacityM: columns },
        start: (sizes) => sizes.accumulate,
      });
      gemm(recorder, {
        layout: "NN",
        ...{ a: matrix(logits, columns), b: matrix(parameter.weight, C, first * C), c: matrix(dnormed, C) },
        ...{ m: rows, n: C, k: columns, capacityM: capacity.rows, start: () => first > 0 },
      });
    }
    pool.release(logits);
    const dx = pool.acquire(capacity.rows * C * 4, "d rows");
    rmsNormBackward(
      recorder,
      { rows, columns: C },
      {
        ...{ x, weight: this.#finalNorm.weight, rstd: this.#rstd, dy: dnormed, dx },
        dweight: gradient(this.#finalNorm),
      },
      { addToInput: false, accumulate: (sizes) => sizes.accumulate, capacityRows: capacity.rows },
    );
    pool.release(dnormed);
    return dx;
  }

  /** Records statistics and greedy tokens of x [R, C]; `best` [R] gets (bits of the logit, token). */
  score(x: Slot, best: Slot): void {
    const { recorder, capacity } = this.context;
    this.#norm(x);
    const chunks = this.#chunks();
    const logits = recorder.pool.acquire(capacity.rows * chunks[0].columns * 4, "logits");
    for (const { first, columns } of chunks) {
      this.#logits(first, columns, logits);
      crossEntropyStats(recorder, this.#lossChunk(first, columns, logits));
      argmax(recorder, { rows, columns, firstColumn: first, logits, best });
    }
    recorder.pool.release(logits);
  }

  /** Records the logits of x [R, C] into `logits` [R, V]. */
  logits(x: Slot, logits: Slot): void {
    this.#norm(x);
    this.#logits(0, this.context.parameters.spec.vocabulary, logits);
  }
}
