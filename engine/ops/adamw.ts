import source from "../../shaders/adamw.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import type { Recorder } from "../gpu/recorder.ts";
import type { Stored } from "../tensor/stored.ts";
import { type Rounding, weightConstants, weightGroups, weightIncludes } from "./weight_io.ts";

const kernel = defineKernel({ name: "adamw", file: "adamw.wgsl", source, includes: weightIncludes });

/** One AdamW update's numbers; `step` counts from 1. */
export interface AdamW {
  step: number;
  learningRate: number;
  betas: readonly [number, number];
  epsilon: number;
}

const EXACT: Rounding = { key: 0, firstElement: 0 };

/** Updates `count` weights in place (PyTorch's AdamW); `clip` is (norm, factor) of globalNorm. */
export function adamw<S>(
  recorder: Recorder<S>,
  count: number,
  weightDecay: number,
  slots: { gradient: Slot; clip: Slot; moment1: Slot; moment2: Slot; parameter: Stored },
  options: (sizes: S) => AdamW & { rounding?: Rounding },
): void {
  const { parameter: { storage, weight, lower }, ...rest } = slots;
  const bindings = { ...rest, weight, ...(lower ? { lower } : {}) };
  recorder.dispatch(kernel.variant(weightConstants(storage)), bindings, (sizes) => {
    const { step, learningRate, betas: [beta1, beta2], epsilon, rounding = EXACT } = options(sizes);
    const params = {
      ...{ count, beta1, beta2, epsilon },
      // 1 − β in float64: from the rounded f32 of 0.999 it would be off by 5e-5.
      one_minus_beta1: 1 - beta1,
      one_minus_beta2: 1 - beta2,
      step_size: learningRate / (1 - beta1 ** step),
      inverse_root: 1 / Math.sqrt(1 - beta2 ** step),
      keep: 1 - learningRate * weightDecay,
      first_step: Number(step === 1),
      ...{ key: rounding.key, first_element: rounding.firstElement },
    };
    return { params, groups: weightGroups(storage, count) };
  });
}
