import source from "../../shaders/adamw.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import type { Recorder } from "../gpu/recorder.ts";
import { elementGroups } from "./launch.ts";

const kernel = defineKernel({
  name: "adamw",
  file: "adamw.wgsl",
  source,
  includes: { "elements.wgsl": elementsSource },
});

/** One AdamW update's numbers; `step` counts from 1. */
export interface AdamW {
  step: number;
  learningRate: number;
  betas: readonly [number, number];
  epsilon: number;
}

/** Updates `count` weights in place (PyTorch's AdamW); `clip` is (norm, factor) of globalNorm. */
export function adamw<S>(
  recorder: Recorder<S>,
  count: number,
  weightDecay: number,
  slots: { gradient: Slot; clip: Slot; weight: Slot; moment1: Slot; moment2: Slot },
  options: (sizes: S) => AdamW,
): void {
  recorder.dispatch(kernel.variant(), { ...slots }, (sizes) => {
    const { step, learningRate, betas: [beta1, beta2], epsilon } = options(sizes);
    const params = {
      ...{ count, beta1, beta2, epsilon },
      // 1 − β in float64: from the rounded f32 of 0.999 it would be off by 5e-5.
      one_minus_beta1: 1 - beta1,
      one_minus_beta2: 1 - beta2,
      step_size: learningRate / (1 - beta1 ** step),
      inverse_root: 1 / Math.sqrt(1 - beta2 ** step),
      keep: 1 - learningRate * weightDecay,
      first_step: Number(step === 1),
    };
    return { params, groups: elementGroups(count) };
  });
}
