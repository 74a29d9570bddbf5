import { type Gpu, roundedBytes } from "../gpu/context.ts";
import { Slot } from "../gpu/pool.ts";
import { type KernelTarget, Recorder, type Recording } from "../gpu/recorder.ts";
import type { GradientShards } from "../model/context.ts";
import type { Parameter, Parameters, ParameterShard } from "../model/parameters.ts";

/** One update: counts, rates, the seed of stochastic rounding, and the λ of an averaging in the same pass. */
export interface Update {
  /** Counts from 1. */
  step: number;
  /** Of this step, after the schedule. */
  learningRate: number;
  /** Of stochastic rounding, see {@link roundingKey}. */
  seed: number;
  /** Weight of the initial weights, 0 to 1, where the update averages. */
  lambda?: number | undefined;
}

/** A row shard of a trained parameter, with all that updates it. */
export interface UpdatedShard {
  /** The whole parameter. */
  readonly parameter: Parameter;
  /** Where the weights of this shard lie. */
  readonly shard: ParameterShard;
  /** Their gradient, f32 [shard.count], not clipped. */
  readonly gradient: Slot;
  /** The optimizer's state tensors by name. */
  readonly state: Readonly<Record<string, Slot>>;
  /** (norm before clipping, clip factor), as engine/ops/global_norm.ts gives it. */
  readonly clip: Slot;
  /** Weights that the updated ones are averaged with, by the update's λ. */
  readonly initial?: ParameterShard | undefined;
}

/** A tensor that an optimizer keeps for each parameter, of the parameter's shape. */
export interface OptimizerTensor {
  /** Unique within the optimizer: names the tensor in a Trainer's state. */
  readonly name: string;
  /** Type of its elements. */
  readonly dtype: "f32";
}

/** An optimizer: what it keeps for each parameter, and how it updates one. */
export interface Optimizer {
  /** What it is called. */
  readonly name: string;
  /** Tensors of a parameter's shape that live across steps. Not written before the first update. */
  readonly state: readonly OptimizerTensor[];
  /** Whether {@link Optimizer.record} averages with `initial`; others are averaged by a pass of its own. */
  readonly averages: boolean;
  /** Records the update of one shard; everything that differs between steps comes from {@link Update}. */
  record(recorder: Recorder<Update>, shard: UpdatedShard): void;
}

/** What lives across steps: an optimizer's state tensors, and the last gradient's norm. Sizes only until realized. */
export class OptimizerState {
  readonly shards: readonly UpdatedShard[];
  /** (norm before clipping, clip factor) of the last step. */
  readonly clip: Slot = new Slot(8, "gradient norm");

  constructor(
    readonly optimizer: Optimizer,
    parameters: readonly Parameter[],
    gradient: (parameter: Parameter) => GradientShards,
  ) {
    this.shards = parameters.flatMap((parameter) => {
      const gradients = gradient(parameter);
      return parameter.shards.map((shard, i) => ({
        parameter,
        shard,
        gradient: gradients[i]!.gradient,
        state: Object.fromEntries(
          optimizer.state.map((
            { name },
          ) => [name, new Slot(shard.count * 4, `${shard.weight.label}, ${name}`)]),
        ),
        clip: this.clip,
      }));
    });
  }

  get slots(): Slot[] {
    return [this.clip, ...this.shards.flatMap(({ state }) => Object.values(state))];
  }

  get totalBytes(): number {
    return this.slots.reduce((sum, { bytes }) => sum + roundedBytes(bytes), 0);
  }
}

/** Records the update of all parameters; with `initial` an averaging with those weights in the same pass. */
export function recordUpdate(
  target: KernelTarget,
  { optimizer, shards }: OptimizerState,
  initial?: Parameters,
): Recorder<Update> {
  const recorder = new Recorder<Update>(target);
  for (const updated of shards) {
    const { parameter, shard } = updated;
    const goal = initial?.all[parameter.index]?.shards[parameter.shards.indexOf(shard)];
    optimizer.record(recorder, goal ? { ...updated, initial: goal } : updated);
  }
  return recorder;
}

/** The update of a step, on a device. */
export class UpdateStage {
  #update: Recording<Update> | undefined;
  #averaging: Recording<Update> | undefined;

  constructor(readonly gpu: Gpu, readonly state: OptimizerState) {
    try {
      for (const slot of state.slots) slot.realize(gpu);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Makes what an update needs; with `initial` one that averages with those weights. Where it is there, nothing. */
  prepare(initial?: Parameters): void {
    const record = () => recordUpdate(this.gpu, this.state, initial).finish(this.gpu);
    // Where every step averages, the kernels of the other form are never compiled.
    if (initial) this.#averaging ??= record();
    else this.#update ??= record();
  }

  /**
   * Submits an update.
   * @throws TypeError before {@link UpdateStage.prepare}, with weights to average with where there is a `lambda`.
   */
  submit(update: Update): void {
    const recording = update.lambda === undefined ? this.#update : this.#averaging;
    if (!recording) throw new TypeError("an update before what it needs was made");
    recording.submit(update);
  }

  dispose(): void {
    this.#update?.dispose();
    this.#averaging?.dispose();
    for (const slot of this.state.slots) slot.dispose();
  }
}
