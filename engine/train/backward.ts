import { Slot } from "../gpu/pool.ts";
import type { KernelSpan } from "../gpu/profiler.ts";
import { readSlot, type SlotCopy } from "../gpu/transfer.ts";
import { type PackedBatch, type PassCapacity, type Sequence, weightedLosses } from "../model/batch.ts";
import { countSupervised, type Example, exampleSequences } from "../model/examples.ts";
import { Gradients } from "../model/gradients.ts";
import type { SoftTables } from "../model/head.ts";
import type { Model } from "../model/model.ts";
import type { Parameter } from "../model/parameters.ts";
import { packMicroBatch, type Pass } from "../model/pass.ts";
import { GrowingPass } from "../model/passes.ts";

/** A forward and backward pass that is ready to be submitted; made by {@link Backward.prepare}. */
export interface PreparedBackward {
  /** What the largest of its micro-batches needs of a pass. */
  capacity: PassCapacity;
  /** Tokens of the longest sequence. */
  longest: number;
  /**
   * The micro-batches, packed.
   * @internal
   */
  batches: readonly PackedBatch[];
  /** Supervised rows of all micro-batches. */
  rows: number;
}

/** How {@link Backward.submit} runs. */
export interface BackwardOptions {
  /** Adds to the gradients that are there instead of replacing them. Default false. */
  accumulate?: boolean | undefined;
  /**
   * Called for the parameters whose gradients have become whole, block by block from the last to the first, once what
   * computes them is submitted: copies and reductions that it submits overlap with the blocks that follow.
   */
  onGradients?: ((parameters: readonly Parameter[]) => void) | undefined;
}

/** Losses and gradients of a model: the training pass, and the buffers that its gradients go to. */
export class Backward {
  /** Where the gradients go: whole after a submitted pass, not clipped. */
  readonly gradients: Gradients;
  readonly #pass: GrowingPass;
  #soft: SoftTables | undefined;

  /** For one model; its `training` is one. */
  constructor(readonly model: Model) {
    this.gradients = new Gradients(model.gpu);
    const gradient = (parameter: Parameter) => this.gradients.of(parameter);
    this.#pass = new GrowingPass((capacity) => {
      const { keepActivations } = model.options;
      return model.passes.record({ kind: "train", capacity, keepActivations, gradient, soft: this.#soft });
    });
  }

  /** Tables that soft targets point into, from now on. The caller keeps them alive. */
  useSoftTables(soft: SoftTables | undefined): void {
    if (soft === this.#soft) return;
    this.#soft = soft;
    this.release();
  }

  /**
   * Records the pass for this capacity now, so that nothing is made later.
   * @internal
   */
  reserve(capacity: PassCapacity): Pass {
    return this.#pass.get(capacity);
  }

  /**
   * Splits and packs sequences for {@link Backward.submit} without touching the device: it may be working. `limit` bounds
   * the sequences of a micro-batch.
   * @throws RangeError for sequences that can't be trained.
   */
  prepare(sequences: readonly Sequence[], limit?: number): PreparedBackward {
    const { gpu, spec, passes } = this.model;
    const { batches, ...needed } = passes.split("train", sequences, limit);
    return {
      ...needed,
      batches: batches.map((batch) => packMicroBatch(gpu, spec, batch)),
      rows: sequences.reduce((sum, { rows }) => sum + rows.length, 0),
    };
  }

  /**
   * Submits all micro-batches without waiting. The gradients of the weighted sum of losses go to the gradient buffers, the
   * loss of every row, unweighted and in order, to `losses`.
   */
  submit(prepared: PreparedBackward, losses: Slot, options: BackwardOptions = {}): void {
    const { accumulate = false, onGradients } = options;
    const pass = this.#passFor(prepared);
    const { batches } = prepared;
    let done = 0;
    for (const [i, batch] of batches.entries()) {
      const bytes = batch.sizes.rows * 4;
      const to = { slot: losses, byteOffset: done };
      const copies: SlotCopy[] = [{ from: { slot: pass.plan.rowLoss }, to, bytes }];
      const adds = accumulate || i > 0;
      if (onGradients && i === batches.length - 1) {
        for (const segment of pass.segments(batch, adds, copies)) {
          const complete = pass.plan.completes.get(segment);
          if (complete) onGradients(complete);
        }
      } else pass.submit(batch, adds, copies);
      done += bytes;
    }
  }

  #passFor({ capacity, longest }: PreparedBackward): Pass {
    const pass = this.#pass.get(capacity);
    pass.useLongest(longest);
    return pass;
  }

  /** Accumulates the gradients of all sequences into the gradient buffers; returns each row's loss, unweighted. */
  async run(sequences: readonly Sequence[]): Promise<Float32Array> {
    const { gpu } = this.model;
    const prepared = this.prepare(sequences);
    const losses = new Slot(prepared.rows * 4, "losses of all rows").realize(gpu);
    try {
      this.submit(prepared, losses);
      const bytes = await readSlot(gpu, losses, 0, prepared.rows * 4);
      return new Float32Array(bytes.buffer);
    } finally {
      losses.dispose();
    }
  }

  /**
   * Mean cross-entropy over all supervised tokens in nats, and its unclipped gradient under Hugging Face's names, of the
   * trained parameters.
   * @throws RangeError when nothing is supervised.
   */
  async lossAndGradients(
    examples: readonly Example[],
  ): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
    const supervised = countSupervised(examples);
    if (!supervised) throw new RangeError("no supervised token: every label is −100");
    const sequences = exampleSequences(examples, 1 / supervised);
    const losses = weightedLosses(sequences, await this.run(sequences));
    return { loss: losses.reduce((sum, loss) => sum + loss, 0), gradients: await this.readGradients() };
  }

  /** Times of all dispatches of the first micro-batch's forward and backward pass, once their kernels are compiled. */
  async profile(prepared: PreparedBackward): Promise<KernelSpan[]> {
    return await this.#passFor(prepared).profile(prepared.batches[0]!);
  }

  /** Copies of all gradient buffers. */
  async readGradients(): Promise<Map<string, Float32Array>> {
    const { gpu, parameters } = this.model;
    const out = new Map<string, Float32Array>();
    for (const parameter of parameters.trainable) {
      out.set(parameter.name, await this.gradients.read(gpu, parameter));
    }
    return out;
  }

  /** Frees what only the recorded pass holds; the next use records anew. */
  release(): void {
    this.#pass.release();
  }

  /** Frees the pass and the gradients. */
  dispose(): void {
    this.release();
    this.gradients.dispose();
  }
}
