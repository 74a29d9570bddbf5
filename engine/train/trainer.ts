import { Slot } from "../gpu/pool.ts";
import type { Recording } from "../gpu/recorder.ts";
import { copySlot, GROWTH_BYTES, ReadbackBuffer } from "../gpu/transfer.ts";
import { type Sequence, weightedLosses } from "../model/batch.ts";
import { countSupervised, type Example, exampleSequences } from "../model/examples.ts";
import type { Gradients } from "../model/gradients.ts";
import { loadParameters } from "../model/load.ts";
import type { Model } from "../model/model.ts";
import { Parameters } from "../model/parameters.ts";
import { adamw } from "./adamw.ts";
import { type Averaging, recordAveraging } from "./averaging.ts";
import type { Backward, BackwardOptions, PreparedBackward } from "./backward.ts";
import { recordClip } from "./clip.ts";
import { type Optimizer, OptimizerState, UpdateStage } from "./optimizer.ts";
import { learningRateAt, type Schedule } from "./schedule.ts";
import {
  optimizerTensors,
  parameterTensors,
  readTensors,
  type StateTensor,
  type TrainerState,
  writeTensors,
} from "./state.ts";

/** A model with what makes its gradients. */
export type TrainableModel = Model & { readonly training: Backward };

/** Settings of AdamW and its schedule; names and defaults as in PyTorch. */
export interface TrainerOptions extends Schedule {
  /** Decoupled decay of matrices, not of biases and norm weights. Default 0. */
  weightDecay?: number | undefined;
  /** (β₁, β₂), decays of the moments, each in [0, 1). Default [0.9, 0.999]. */
  betas?: readonly [number, number] | undefined;
  /** ε, added to the root of the second moment. Default 1e-8. */
  epsilon?: number | undefined;
  /** Global-norm clipping; 0 is off. Default 1. */
  maxGradNorm?: number | undefined;
  /** Seed of stochastic rounding, where weights are bf16 without masters. Default 0. */
  seed?: number | undefined;
  /** Another optimizer than AdamW; `weightDecay`, `betas` and `epsilon` are then not used. */
  optimizer?: Optimizer | undefined;
  /** Runs between backward and clipping, on gradients that the device may still be computing: sums over devices. */
  reduce?: ((gradients: Gradients) => Promise<void>) | undefined;
}

/** {@link TrainerOptions}, all decided. */
export type DecidedOptions = {
  readonly [Name in Exclude<keyof TrainerOptions, "optimizer" | "reduce">]-?: Exclude<
    TrainerOptions[Name],
    undefined
  >;
};

/** Numbers of one optimizer step: the loss before the update, the gradient norm before clipping. */
export interface StepResult {
  /** Mean cross-entropy in nats. */
  loss: number;
  /** Global L2 norm of the gradients before clipping. */
  gradNorm: number;
  /** The rate that the step was made with. */
  learningRate: number;
}

/** What a step is told beside its sequences. */
export interface StepOptions extends Pick<BackwardOptions, "onGradients"> {
  /** Most sequences of a micro-batch. */
  limit?: number | undefined;
  /**
   * λ of an averaging with the first weights in the update's own pass over memory. The result is that of
   * {@link Trainer.average} after the step, but bf16 weights without masters are rounded once instead of twice.
   */
  average?: number | undefined;
}

/** What a step gives: its numbers and each row's loss, unweighted, in order. */
export type SequencesResult = Omit<StepResult, "loss"> & { losses: Float32Array };

/** A step that the device is working on. */
export interface PendingStep {
  /** Waits for the device. To be called once, before the next step is submitted. */
  result(): Promise<SequencesResult>;
}

/** Trains a model in place: one call of {@link Trainer.step} is one optimizer step, backward → reduce → clip → update. */
export class Trainer {
  /** All options, those not given by their defaults. */
  readonly options: DecidedOptions;
  /** First stage: losses and gradients. */
  readonly backward: Backward;
  /** Second stage, if any. */
  readonly #reduce: TrainerOptions["reduce"];
  /** Third stage: the gradients' norm and the factor that clips them. */
  readonly #clip: Recording<void>;
  /** Last stage: weights and the optimizer's state. */
  readonly #update: UpdateStage;
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
  #isDisposed = false;

  /**
   * Makes what lives across steps: the optimizer's tensors, zero, on the model's device. A model has one Trainer at a time.
   * @throws RangeError for an option that is out of range, or a model of which nothing is trained; OutOfMemoryError.
   */
  constructor(readonly model: TrainableModel, { optimizer, reduce, ...options }: TrainerOptions) {
    this.options = decided(options);
    checkOptions(this.options);
    const { gpu, parameters: { trainable } } = model;
    if (!trainable.length) throw new RangeError("no parameter of the model is trained");
    this.backward = model.training;
    this.#reduce = reduce;
    const gradient = (parameter: typeof trainable[number]) => this.backward.gradients.of(parameter);
    const state = new OptimizerState(optimizer ?? adamw(this.options), trainable, gradient);
    this.#readback = new ReadbackBuffer(gpu);
    this.#update = new UpdateStage(gpu, state);
    try {
      this.#clip = recordClip(gpu, state, this.options.maxGradNorm).finish(gpu);
    } catch (error) {
      this.#update.dispose();
      throw error;
    }
    try {
      if (model.modified) this.#initial = copyWeights(model);
    } catch (error) {
      this.dispose();
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
    const prepared = this.backward.prepare(sequences, options.limit);
    return await this.submit(prepared, options).result();
  }

  /**
   * Submits an optimizer step, prepared by {@link Backward.prepare}, without waiting: the next one can be prepared
   * meanwhile. With a `reduce` stage, clipping and update are submitted while the result is waited for.
   * @throws RangeError when all `totalSteps` are done, or for an `average` that isn't 0 to 1.
   * @throws TypeError when the last step's result was not asked for, or for an `average` before
   * {@link Trainer.loadInitial}.
   */
  submit(prepared: PreparedBackward, { average, onGradients }: Omit<StepOptions, "limit"> = {}): PendingStep {
    const { model, options, backward } = this;
    if (this.#steps >= options.totalSteps) {
      throw new RangeError(`all ${options.totalSteps} steps of this Trainer are done`);
    }
    if (this.#isDisposed) throw new TypeError("the Trainer was disposed of");
    if (this.#isPending) throw new TypeError(`the result of step ${this.#steps} was not asked for`);
    if (average !== undefined) {
      checkLambda(average);
      if (!this.#initial) throw new TypeError("a step that averages, before loadInitial()");
    }
    const averages = this.#update.state.optimizer.averages ? average : undefined;
    // All that may fail for want of memory comes before the first submit.
    this.#update.prepare(averages === undefined ? undefined : this.#initial);
    const learningRate = learningRateAt(options, this.#steps);
    this.#reserveLosses(prepared.rows);
    backward.submit(prepared, this.#losses, { onGradients });
    model.modified = true;
    this.#steps++;
    const finish = () => {
      this.#clip.submit();
      this.#update.submit({ step: this.#steps, learningRate, seed: options.seed, lambda: averages });
      if (average !== undefined && averages === undefined) this.#submitAverage(this.#initial!, average);
    };
    const reduced = this.#reduce?.(backward.gradients);
    // Until it is awaited, a failure must not count as one that nobody handles.
    reduced?.catch(() => {});
    if (!reduced) finish();
    this.#isPending = true;
    return {
      result: async () => {
        this.#isPending = false;
        if (reduced) {
          await reduced.catch((error) => {
            // Nothing was updated.
            this.#steps--;
            throw error;
          });
          finish();
        }
        const [losses, clip] = await this.#readback.read([
          { slot: this.#losses, bytes: prepared.rows * 4 },
          { slot: this.#update.state.clip, bytes: 8 },
        ]);
        return {
          losses: new Float32Array(losses.buffer),
          gradNorm: new Float32Array(clip.buffer)[0]!,
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
    this.#submitAverage(await this.#initialWeights(), lambda);
    await this.model.gpu.check();
  }

  #submitAverage(initial: Parameters, lambda: number): void {
    const { gpu, parameters } = this.model;
    this.#averaging ??= recordAveraging(gpu, parameters, initial).finish(gpu);
    this.#averages++;
    this.#averaging.submit({ lambda, seed: this.options.seed, step: this.#averages });
  }

  /**
   * The buffers that the steps to come depend on: weights as exact masters, the optimizer's state, and the weights that
   * averages go to, where those are there.
   */
  tensors(): StateTensor[] {
    return [
      ...parameterTensors(this.model.parameters),
      ...optimizerTensors(this.#update.state),
      ...(this.#initial ? parameterTensors(this.#initial, "initial ") : []),
    ];
  }

  /**
   * A copy of all that the steps to come depend on, beside settings and data.
   * @throws TypeError while a step's result was not asked for.
   */
  async state(): Promise<TrainerState> {
    if (this.#isPending) throw new TypeError(`the result of step ${this.#steps} was not asked for`);
    const tensors = await readTensors(this.model.gpu, this.tensors());
    return { steps: this.#steps, averages: this.#averages, tensors };
  }

  /**
   * Takes a state of a Trainer with the same model and settings: the steps that follow give the very bits that they gave
   * there. Where it holds initial weights, {@link Trainer.loadInitial} must have been called.
   * @throws TypeError for a tensor that is missing, left over or of another size, and while a step is pending;
   * RangeError for more steps than there are.
   */
  async restore({ steps, averages, tensors }: TrainerState): Promise<void> {
    const { totalSteps } = this.options;
    if (this.#isPending) throw new TypeError(`the result of step ${this.#steps} was not asked for`);
    if (!(Number.isInteger(steps) && steps >= 0 && steps <= totalSteps)) {
      throw new RangeError(`a state after ${steps} steps, expected 0 to ${totalSteps}`);
    }
    await writeTensors(this.model.gpu, this.tensors(), tensors);
    this.model.modified = true;
    this.#steps = steps;
    this.#averages = averages;
  }

  /** Frees gradients' norm, moments, recorded updates and initial weights; the model stays. */
  dispose(): void {
    this.#isDisposed = true;
    this.#clip.dispose();
    this.#update.dispose();
    this.#readback.dispose();
    this.#losses.dispose();
    this.#averaging?.dispose();
    this.#initial?.dispose();
  }

  /** {@link Trainer.dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Fills in the defaults of PyTorch. */
function decided({
  learningRate,
  totalSteps,
  weightDecay = 0,
  betas = [0.9, 0.999],
  epsilon = 1e-8,
  maxGradNorm = 1,
  schedule = "linear",
  warmupSteps = 0,
  seed = 0,
}: TrainerOptions): DecidedOptions {
  return { learningRate, totalSteps, weightDecay, betas, epsilon, maxGradNorm, schedule, warmupSteps, seed };
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
  copy.slots.forEach((slot, i) => copySlot(gpu, { slot: sources[i]! }, { slot }, sources[i]!.buffer.size));
  return copy;
}

function checkOptions(options: Trainer["options"]): void {
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
