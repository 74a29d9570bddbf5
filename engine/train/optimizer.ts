import type { Gpu } from "../gpu/context.ts";
import type { Slot } from "../gpu/pool.ts";
import { type KernelTarget, Recorder, type Recording } from "../gpu/recorder.ts";
import { type AdamW, adamw } from "../ops/adamw.ts";
import { globalNorm } from "../ops/global_norm.ts";
import type { Parameter } from "./params.ts";

/** Fixed settings of an optimizer. */
export interface OptimizerOptions {
  weightDecay: number;
  /** Global-norm clipping; 0 is off. */
  maxGradNorm: number;
}

/** What the optimizer holds, before any buffer exists. */
export interface OptimizerPlan {
  recorder: Recorder<AdamW>;
  /** (norm before clipping, clip factor). */
  clip: Slot;
}

/** Records clipping and AdamW over all parameters. */
export function recordOptimizer(
  target: KernelTarget,
  parameters: readonly Parameter[],
  gradient: (parameter: Parameter) => Slot,
  options: OptimizerOptions,
): OptimizerPlan {
  const recorder = new Recorder<AdamW>(target);
  const clip = recorder.pool.acquire(8, "gradient norm");
  // Moments live across steps, so they are taken before any slot is released for reuse.
  const updated = parameters.map((parameter) => ({
    parameter,
    gradient: gradient(parameter),
    moment1: recorder.pool.acquire(parameter.count * 4, `${parameter.name}, first moment`),
    moment2: recorder.pool.acquire(parameter.count * 4, `${parameter.name}, second moment`),
  }));
  const gradients = updated.map(({ gradient, parameter }) => ({ slot: gradient, count: parameter.count }));
  globalNorm(recorder, gradients, options.maxGradNorm, clip);
  for (const { parameter, ...slots } of updated) {
    const { count, weight, decays } = parameter;
    adamw(recorder, count, decays ? options.weightDecay : 0, { ...slots, clip, weight }, (update) => update);
  }
  return { recorder, clip };
}

/** AdamW with global-norm clipping on a device. Moments count as zero before the first step. */
export class Optimizer {
  readonly #recording: Recording<AdamW>;
  /** (norm before clipping, clip factor) of the last step. */
  readonly clip: Slot;

  constructor(gpu: Gpu, plan: OptimizerPlan) {
    this.clip = plan.clip;
    this.#recording = plan.recorder.finish(gpu);
  }

  /** Submits an update; `update.step` counts from 1. */
  submit(update: AdamW): void {
    this.#recording.submit(update);
  }

  dispose(): void {
    this.#recording.dispose();
  }
}
