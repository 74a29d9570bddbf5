import { Slot } from "../gpu/pool.ts";
import type { Recording } from "../gpu/recorder.ts";
import { copySlot, GROWTH_BYTES, ReadbackBuffer } from "../gpu/transfer.ts";
import { type Averaging, recordAveraging } from "./averaging.ts";
import { type Sequence, weightedLosses } from "../model/batch.ts";
import { countSupervised, type Example, exampleSequences } from "../model/examples.ts";
import { loadParameters } from "../model/load.ts";
import type { Model, PreparedBackward } from "../model/model.ts";
import { Optimizer, OptimizerState } from "./optimizer.ts";
import { Parameters } from "../model/parameters.ts";
import { learningRateAt, type Schedule } from "./schedule.ts";

/** Settings of AdamW and its schedule; names and defaults as in PyTorch. */
export interface TrainerOptions extends Schedule {
  weightDecay?: number;
  betas?: readonly [number, number];
  epsilon?: number;
  /** Global-norm clipping; 0 is off. Default 1. */
  maxGradNorm?: number;
  /** Seed of stochastic rounding, where weights are bf16 without masters. Default 0. */
  seed?: number;
}

/** Numbers of one optimizer step: the loss before the update, the gradient norm before clipping. */
export interface StepResult {
  loss: number;
  gradNorm: number;
  learningRate: number;
}

/** What a step is told beside its sequences. */
export interface StepOptions {
  /** Most sequences of a micro-batch. */
  limit?: number;
  /**
   * λ of an averaging with the first weights in the update's own pass over memory. The result is that of
   * {@link Trainer.average} after the step, but bf16 weights without masters are rounded once instead of twice.
   */
  average?: number;
}

/** What a step gives: its numbers and each row's loss, unweighted, in order. */
export type SequencesResult = Omit<StepResult, "loss"> & { losses: Float32Array };

/** A step that the device is working on. */
export interface PendingStep {
  /** Waits for the device. To be called once, before the next step is submitted. */
  result(): Promise<SequencesResult>;
}

/** Trains a model in place: one call of {@link Trainer.step} is one optimizer step. */
export class Trainer {
  readonly options: Required<TrainerOptions>;
  readonly #optimizer: Optimizer;
  readonly #readback: ReadbackBuffer;
  /** Loss of every row of a step. */
  #losses = new Slot(0, "step losses");
  /** Weights at construction; absent until an averaging asks for them, while the checkpoint still has them. */
  #initial: Parameters | undefined;
  #averaging: Recording<Averaging> | undefined;
  #averages = 0;
  #steps = 0;
  /** A step was submitted whose result is not asked for yet. */
  #isPending = false;

  constructor(readonly model: Model, options: TrainerOptions) {
    this.options = {
      weightDecay: 0,
      betas: [0.9, 0.999],
      epsilon: 1e-8,
      maxGradNorm: 1,
      schedule: "linear",
      warmupSteps: 0,
      seed: 0,
      ...options,
    };
    checkOptions(this.options);
    const { gpu, parameters } = model;
    const state = new OptimizerState(parameters.all, (parameter) => model.gradients.of(parameter));
    this.#optimizer = new Optimizer(gpu, state, this.options);
    this.#readback = new ReadbackBuffer(gpu);
    try {
      if (model.modified) this.#initial = copyWeights(model);
    } catch (error) {
      this.#optimizer.dispose();
      throw error;
    }
  }

  /** Optimizer steps done. */
  get steps(): number {
    return this.#steps;
  }

  /**
   * One optimizer step on the mean cross-entropy of all supervised tokens.
   * @throws RangeError when nothing is supervised or all `totalSteps` are done.
   */
  async step(examples: readonly Example[]): Promise<StepResult> {
    const supervised = countSupervised(examples);
    if (!supervised) throw new RangeError("no supervised token: every label is −100");
    const sequences = exampleSequences(examples, 1 / supervised);
    const { losses, ...result } = await this.stepSequences(sequences);
    const loss = weightedLosses(sequences, losses).reduce((sum, each) => sum + each, 0);
    return { loss, ...result };
  }

  /** One optimizer step on the sum of weighted row losses; gives each row's, unweighted, in order. */
  async stepSequences(sequences: readonly Sequence[], options: StepOptions = {}): Promise<SequencesResult> {
    if (options.average !== undefined) await this.loadInitial();
    const prepared = this.model.prepareBackward(sequences, options.limit);
    return await this.submit(prepared, options).result();
  }

  /**
   * Submits an optimizer step, prepared by {@link Model.prepareBackward}, without waiting: the next one can be prepared
   * meanwhile.
   * @throws RangeError when all `totalSteps` are done, or for an `average` that isn't 0 to 1.
   * @throws TypeError when the last step's result was not asked for, or for an `average` before
   * {@link Trainer.loadInitial}.
   */
  submit(prepared: PreparedBackward, { average }: Pick<StepOptions, "average"> = {}): PendingStep {
    const { model, options } = this;
    if (this.#steps >= options.totalSteps) {
      throw new RangeError(`all ${options.totalSteps} steps of this Trainer are done`);
    }
    if (this.#isPending) throw new TypeError(`the result of step ${this.#steps} was not asked for`);
    if (average !== undefined) {
      checkLambda(average);
      if (!this.#initial) throw new TypeError("a step that averages, before loadInitial()");
    }
    // All that may fail for want of memory comes before the first submit.
    this.#optimizer.prepare(average === undefined ? undefined : this.#initial);
    const learningRate = learningRateAt(options, this.#steps);
    this.#reserveLosses(prepared.rows);
    model.submitBackward(prepared, this.#losses);
    model.modified = true;
    this.#steps++;
    this.#optimizer.submit({ ...options, step: this.#steps, learningRate, lambda: average });
    this.#isPending = true;
    return {
      result: async () => {
        this.#isPending = false;
        const [losses, clip] = await this.#readback.read([
          { slot: this.#losses, bytes: prepared.rows * 4 },
          { slot: this.#optimizer.state.clip, bytes: 8 },
        ]);
        return {
          losses: new Float32Array(losses.buffer),
          gradNorm: new Float32Array(clip.buffer)[0],
          learningRate,
        };
      },
    };
  }

  #reserveLosses(rows: number): void {
    if (this.#losses.isRealized && this.#losses.bytes >= rows * 4) return;
    this.#losses.dispose();
    const bytes = Math.ceil(rows * 4 / GROWTH_BYTES) * GROWTH_BYTES;
    this.#losses = new Slot(bytes, this.#losses.label).realize(this.model.gpu);
  }

  /** Loads the weights that this Trainer began with, for steps that average; again does nothing. */
  async loadInitial(): Promise<void> {
    await this.#initialWeights();
  }

  async #initialWeights(): Promise<Parameters> {
    if (this.#initial) return this.#initial;
    const { gpu, parameters, source, options } = this.model;
    const initial = new Parameters(parameters.spec, gpu, options);
    try {
      await loadParameters(gpu, initial, source.checkpoint);
    } catch (error) {
      initial.dispose();
      throw error;
    }
    return this.#initial = initial;
  }

  /**
   * weights ← (1 − λ) · weights + λ · (weights when this Trainer was made). Moments stay.
   * @throws RangeError unless 0 ≤ λ ≤ 1.
   */
  async average(lambda: number): Promise<void> {
    checkLambda(lambda);
    const { gpu, parameters } = this.model;
    const initial = await this.#initialWeights();
    this.#averaging ??= recordAveraging(gpu, parameters, initial).finish(gpu);
    this.#averages++;
    this.#averaging.submit({ lambda, seed: this.options.seed, step: this.#averages });
    await gpu.check();
  }

  dispose(): void {
    this.#optimizer.dispose();
    this.#readback.dispose();
    this.#losses.dispose();
    this.#averaging?.dispose();
    this.#initial?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function checkLambda(lambda: number): void {
  if (!(lambda >= 0 && lambda <= 1)) throw new RangeError(`lambda is ${lambda}, expected 0 to 1`);
}

function copyWeights({ gpu, parameters, options }: Model): Parameters {
  const copy = new Parameters(parameters.spec, gpu, options);
  try {
    copy.realize(gpu);
  } catch (error) {
    copy.dispose();
    throw error;
  }
  const sources = parameters.slots;
  copy.slots.forEach((slot, i) => copySlot(gpu, { slot: sources[i] }, { slot }, sources[i].buffer.size));
  return copy;
}

function checkOptions(options: Required<TrainerOptions>): void {
  const { learningRate, weightDecay, betas, epsilon, maxGradNorm, totalSteps, schedule, warmupSteps } =
    options;
  const require = (name: string, value: unknown, ok: boolean, expected: string) => {
    if (!ok) throw new RangeError(`${name} is ${value}, expected ${expected}`);
  };
  const isCount = (value: number) => Number.isInteger(value) && value >= 0;
  require(
    "learningRate",
    learningRate,
    learningRate >= 0 && learningRate < Infinity,
    "a number of at least 0",
  );
  require("weightDecay", weightDecay, weightDecay >= 0 && weightDecay < Infinity, "a number of at least 0");
  require("betas", betas, betas.length === 2 && betas.every((b) => b >= 0 && b < 1), "two numbers in [0, 1)");
  require("epsilon", epsilon, epsilon > 0 && epsilon < Infinity, "a positive number");
  require("maxGradNorm", maxGradNorm, maxGradNorm >= 0 && maxGradNorm < Infinity, "a number of at least 0");
  require("totalSteps", totalSteps, isCount(totalSteps) && totalSteps > 0, "a positive whole number");
  require("seed", options.seed, isCount(options.seed), "a whole number of at least 0");
  require("warmupSteps", warmupSteps, isCount(warmupSteps), "a whole number of at least 0");
  require("schedule", schedule, schedule === "linear" || schedule === "constant", '"linear" or "constant"');
}
