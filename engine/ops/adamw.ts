import source from "../../shaders/adamw.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import type { Recorder } from "../gpu/recorder.ts";
import type { Stored } from "../tensor/stored.ts";
import {
  initialBindings,
  type Rounding,
  weightBindings,
  weightConstants,
  weightGroups,
  weightIncludes,
} from "./weight_io.ts";

const kernel = defineKernel({ name: "adamw", file: "adamw.wgsl", source, includes: weightIncludes });

/** One AdamW update's numbers; `step` counts from 1. */
export interface AdamW {
  step: number;
  learningRate: number;
  betas: readonly [number, number];
  epsilon: number;
}

const EXACT: Rounding = { key: 0, firstElement: 0 };

/**
 * Updates `count` weights in place (PyTorch's AdamW); `clip` is (norm, factor) of globalNorm. With `initial` the updated
 * weight w becomes w + λ · (initial − w) in the same pass: in f32 the bits of average.ts after an update; bf16 without
 * a master is rounded once, not twice.
 */
export function adamw<S>(
  recorder: Recorder<S>,
  count: number,
  weightDecay: number,
  slots: {
    gradient: Slot;
    clip: Slot;
    moment1: Slot;
    moment2: Slot;
    parameter: Stored;
    initial?: Stored | undefined;
  },
  options: (sizes: S) => AdamW & { rounding?: Rounding | undefined; lambda?: number | undefined },
): void {
  const { parameter, initial, ...rest } = slots;
  const constants = weightConstants(recorder.target, parameter.storage, count);
  const bindings = {
    ...rest,
    ...weightBindings(parameter),
    ...(initial ? initialBindings(parameter, initial) : {}),
  };
  const variant = kernel.variant({ ...constants, AVERAGE: initial !== undefined });
  recorder.dispatch(variant, bindings, (sizes) => {
    const { step, learningRate, betas: [beta1, beta2], epsilon, rounding = EXACT, lambda } = options(sizes);
    const params = {
      count,
      beta1,
      beta2,
      epsilon,
      // 1 − β in float64: from the rounded f32 of 0.999 it would be off by 5e-5.
      one_minus_beta1: 1 - beta1,
      one_minus_beta2: 1 - beta2,
      step_size: learningRate / (1 - beta1 ** step),
      inverse_root: 1 / Math.sqrt(1 - beta2 ** step),
      keep: 1 - learningRate * weightDecay,
      first_step: Number(step === 1),
      key: rounding.key,
      first_element: rounding.firstElement,
      ...(initial ? { lambda: lambda! } : {}),
    };
    return { params, groups: weightGroups(constants, count) };
  });
}
