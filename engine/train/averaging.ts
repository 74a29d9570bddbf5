import { type KernelTarget, Recorder } from "../gpu/recorder.ts";
import { average } from "../ops/average.ts";
import { roundingKey } from "../ops/weight_io.ts";
import type { Parameters } from "../model/parameters.ts";

/** One averaging: weights ← (1 − λ) · weights + λ · initial ones. */
export interface Averaging {
  lambda: number;
  /** What stochastic rounding depends on, where weights are bf16 without masters. */
  seed: number;
  step: number;
}

/** Keeps the rounding of averages apart from that of updates. */
const AVERAGING_SALT = 0x61766721;

/** Records the averaging of all trained parameters with others that are stored in the same way. */
export function recordAveraging(
  target: KernelTarget,
  parameters: Parameters,
  initial: Parameters,
): Recorder<Averaging> {
  const recorder = new Recorder<Averaging>(target);
  for (const { shards, index } of parameters.trainable) {
    shards.forEach((parameter, i) => {
      const slots = { initial: initial.all[index]!.shards[i]!, parameter };
      average(recorder, parameter.count, slots, ({ lambda, seed, step }) => ({
        lambda,
        rounding: {
          key: roundingKey(seed ^ AVERAGING_SALT, step, index),
          firstElement: parameter.firstElement,
        },
      }));
    });
  }
  return recorder;
}
