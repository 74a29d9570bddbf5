import type { Gpu } from "../gpu/context.ts";
import { Pool } from "../gpu/pool.ts";
import { neededCapacity, type PassCapacity, type Sequence, splitMicroBatches } from "./batch.ts";
import { checkTokens, maxCapacity } from "./limits.ts";
import type { Parameters } from "./parameters.ts";
import { Pass, type PassKind, type PassOptions } from "./pass.ts";

/** A pass that is recorded anew, larger, when a micro-batch doesn't fit. */
export class GrowingPass {
  #pass: Pass | undefined;

  constructor(readonly record: (capacity: PassCapacity) => Pass) {}

  /** The pass, of this capacity at least. */
  get(capacity: PassCapacity): Pass {
    if (this.#pass?.fits(capacity)) return this.#pass;
    const previous = this.#pass?.options.capacity ?? { tokens: 0, rows: 0 };
    this.release();
    return this.#pass = this.record({
      tokens: Math.max(capacity.tokens, previous.tokens),
      rows: Math.max(capacity.rows, previous.rows),
    });
  }

  /** Frees what only this pass holds; the next use records anew. */
  release(): void {
    this.#pass?.dispose();
    this.#pass = undefined;
  }
}

/** Sequences in micro-batches, and what they need of a pass. */
export interface MicroBatches<T> {
  batches: T[][];
  capacity: PassCapacity;
  /** Tokens of the longest sequence. */
  longest: number;
}

/** The passes of a model that compute without gradients, and the memory that all of its passes share. */
export class Passes {
  /** Activations of whichever pass runs. */
  readonly arena: Pool = new Pool();
  readonly #growing = new Map<PassKind, GrowingPass>();
  #isDisposed = false;

  constructor(readonly gpu: Gpu, readonly parameters: Parameters, readonly maxTokens: number) {}

  /** Records a pass on the shared memory; the caller disposes of it. @throws TypeError after {@link Passes.dispose}. */
  record(options: Omit<PassOptions, "arena">): Pass {
    if (this.#isDisposed) throw new TypeError("the model was disposed of");
    return Pass.record(this.gpu, this.parameters, { ...options, arena: this.arena });
  }

  /** A kept pass of this capacity at least. */
  get(kind: Exclude<PassKind, "train">, capacity: PassCapacity): Pass {
    let growing = this.#growing.get(kind);
    if (!growing) {
      growing = new GrowingPass((capacity) => this.record({ kind, capacity }));
      this.#growing.set(kind, growing);
    }
    return growing.get(capacity);
  }

  /** Frees a kept pass; the next use records anew. */
  release(kind: Exclude<PassKind, "train">): void {
    this.#growing.get(kind)?.release();
  }

  /** The largest micro-batch, see {@link maxCapacity}. */
  maxCapacity(kind: PassKind): PassCapacity {
    return maxCapacity(this.parameters.spec, this.gpu, this.maxTokens, kind);
  }

  /**
   * Splits sequences into micro-batches; `limit` bounds the sequences in one.
   * @throws RangeError for a sequence that is too long for the device.
   */
  split<T extends Sequence>(kind: PassKind, sequences: readonly T[], limit?: number): MicroBatches<T> {
    const largest = this.maxCapacity(kind);
    const batches = splitMicroBatches(sequences, largest, limit);
    const longest = sequences.reduce((most, { ids }) => Math.max(most, ids.length), -Infinity);
    checkTokens(this.parameters.spec, this.gpu, longest);
    return { batches, capacity: neededCapacity(batches, largest), longest };
  }

  /** Micro-batches of `sequences`, and a kept pass that takes them. */
  schedule<T extends Sequence>(
    kind: Exclude<PassKind, "train">,
    sequences: readonly T[],
  ): { pass: Pass; batches: T[][] } {
    const { batches, capacity, longest } = this.split(kind, sequences);
    const pass = this.get(kind, capacity);
    pass.useLongest(longest);
    return { pass, batches };
  }

  dispose(): void {
    this.#isDisposed = true;
    for (const growing of this.#growing.values()) growing.release();
  }
}
