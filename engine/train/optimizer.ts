import type { Gpu } from "../gpu/context.ts";
import type { Slot } from "../gpu/pool.ts";
import { type KernelTarget, Recorder, type Recording } from "../gpu/recorder.ts";
import { type AdamW, adamw } from "../ops/adamw.ts";
import { globalNorm } from "../ops/global_norm.ts";
import { roundingKey } from "../ops/weight_io.ts";
import type { GradientShards } from "./context.ts";
import type { Parameter } from "./params.ts";

/** Fixed settings of an optimizer. */
export interface OptimizerOptions {
  weightDecay: number;
  /** Global-norm clipping; 0 is off. */
  maxGradNorm: number;
}

/** What the optimizer holds, before any buffer exists. */
export interface OptimizerPlan {
  recorder: Recorder<Update>;
  /** (norm before clipping, clip factor). */
  clip: Slot;
}

/** One update: AdamW's numbers and the seed of stochastic rounding. */
export type Update = AdamW & { seed: number };

/** Records clipping and AdamW over all parameters. */
export function recordOptimizer(
  target: KernelTarget,
  parameters: readonly Parameter[],
  gradient: (parameter: Parameter) => GradientShards,
  options: OptimizerOptions,
): OptimizerPlan {
  const recorder = new Recorder<Update>(target);
  const clip = recorder.pool.acquire(8, "gradient norm");
  // Moments live across steps, so they are taken before any slot is released for reuse.
  const updated = parameters.flatMap((parameter) => {
    const gradients = gradient(parameter);
    return parameter.shards.map((shard, i) => ({
      ...{ parameter, shard, gradient: gradients[i].gradient },
      moment1: recorder.pool.acquire(shard.count * 4, `${shard.weight.label}, first moment`),
      moment2: recorder.pool.acquire(shard.count * 4, `${shard.weight.label}, second moment`),
    }));
  });
  globalNorm(
    recorder,
    updated.map(({ gradient, parameter, shard }) => {
      return { slot: gradient, count: shard.count, slab: parameter.slab };
    }),
    options.maxGradNorm,
    clip,
  );
  for (const { parameter, shard, ...slots } of updated) {
    const decay = parameter.decays ? options.weightDecay : 0;
    adamw(recorder, shard.count, decay, { ...slots, clip, parameter: shard }, (update) => ({
      ...update,
      rounding: {
        key: roundingKey(update.seed, update.step, parameter.index),
        firstElement: shard.firstElement,
      },
    }));
  }
  return { recorder, clip };
}

/** AdamW with global-norm clipping on a device. Moments count as zero before the first step. */
export class Optimizer {
  readonly #recording: Recording<Update>;
  /** (norm before clipping, clip factor) of the last step. */
  readonly clip: Slot;

  constructor(gpu: Gpu, plan: OptimizerPlan) {
    this.clip = plan.clip;
    this.#recording = plan.recorder.finish(gpu);
  }

  /** Submits an update; `update.step` counts from 1. */
  submit(update: Update): void {
    this.#recording.submit(update);
  }

  dispose(): void {
    this.#recording.dispose();
  }
}
