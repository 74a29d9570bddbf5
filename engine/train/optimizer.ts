import type { Gpu } from "../gpu/context.ts";
import { Slot } from "../gpu/pool.ts";
import { type KernelTarget, Recorder, type Recording } from "../gpu/recorder.ts";
import { type AdamW, adamw } from "../ops/adamw.ts";
import { globalNorm } from "../ops/global_norm.ts";
import { roundingKey } from "../ops/weight_io.ts";
import type { GradientShards } from "../model/context.ts";
import { type Parameter, type Parameters, type ParameterShard, roundedBytes } from "../model/parameters.ts";

/** Fixed settings of an optimizer. */
export interface OptimizerOptions {
  weightDecay: number;
  /** Global-norm clipping; 0 is off. */
  maxGradNorm: number;
}

/** One update: AdamW's numbers, the seed of stochastic rounding, and the λ of an averaging in the same pass. */
export type Update = AdamW & { seed: number; lambda?: number };

/** A row shard with its gradient and moments. */
interface UpdatedShard {
  parameter: Parameter;
  shard: ParameterShard;
  gradient: Slot;
  moment1: Slot;
  moment2: Slot;
}

/** What lives across steps: both moments of every parameter, and the last gradient's norm. Sizes only until realized. */
export class OptimizerState {
  readonly shards: readonly UpdatedShard[];
  /** (norm before clipping, clip factor) of the last step. */
  readonly clip: Slot = new Slot(8, "gradient norm");

  constructor(parameters: readonly Parameter[], gradient: (parameter: Parameter) => GradientShards) {
    this.shards = parameters.flatMap((parameter) => {
      const gradients = gradient(parameter);
      return parameter.shards.map((shard, i) => ({
        parameter,
        shard,
        gradient: gradients[i].gradient,
        moment1: new Slot(shard.count * 4, `${shard.weight.label}, first moment`),
        moment2: new Slot(shard.count * 4, `${shard.weight.label}, second moment`),
      }));
    });
  }

  get slots(): Slot[] {
    return [this.clip, ...this.shards.flatMap(({ moment1, moment2 }) => [moment1, moment2])];
  }

  get totalBytes(): number {
    return this.slots.reduce((sum, { bytes }) => sum + roundedBytes(bytes), 0);
  }
}

/** Records clipping and AdamW over all parameters; with `initial` an averaging with those weights in the same pass. */
export function recordUpdate(
  target: KernelTarget,
  { shards, clip }: OptimizerState,
  options: OptimizerOptions,
  initial?: Parameters,
): Recorder<Update> {
  const recorder = new Recorder<Update>(target);
  globalNorm(
    recorder,
    shards.map(({ gradient, parameter, shard }) => {
      return { slot: gradient, count: shard.count, tensorCount: parameter.count, slab: parameter.slab };
    }),
    options.maxGradNorm,
    clip,
  );
  for (const { parameter, shard, ...slots } of shards) {
    const decay = parameter.decays ? options.weightDecay : 0;
    const goal = initial?.all[parameter.index].shards[parameter.shards.indexOf(shard)];
    adamw(recorder, shard.count, decay, { ...slots, clip, parameter: shard, initial: goal }, (update) => ({
      ...update,
      rounding: {
        key: roundingKey(update.seed, update.step, parameter.index),
        firstElement: shard.firstElement,
      },
    }));
  }
  return recorder;
}

/** AdamW with global-norm clipping on a device. Moments count as zero before the first step. */
export class Optimizer {
  #update: Recording<Update> | undefined;
  #averaging: Recording<Update> | undefined;

  constructor(readonly gpu: Gpu, readonly state: OptimizerState, readonly options: OptimizerOptions) {
    try {
      for (const slot of state.slots) slot.realize(gpu);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Makes what an update needs; with `initial` one that averages with those weights. Where it is there, nothing. */
  prepare(initial?: Parameters): void {
    const record = () => recordUpdate(this.gpu, this.state, this.options, initial).finish(this.gpu);
    // Where every step averages, the kernels of the other form are never compiled.
    if (initial) this.#averaging ??= record();
    else this.#update ??= record();
  }

  /**
   * Submits an update; `update.step` counts from 1.
   * @throws TypeError before {@link Optimizer.prepare}, with weights to average with where there is a `lambda`.
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
