import { adamw as recordAdamW } from "../ops/adamw.ts";
import { roundingKey } from "../ops/weight_io.ts";
import type { Optimizer } from "./optimizer.ts";

/** Settings of AdamW; names as in PyTorch. */
export interface AdamWOptions {
  /** (β₁, β₂), decays of the two moments, each in [0, 1). */
  betas: readonly [number, number];
  /** ε, added to the root of the second moment. */
  epsilon: number;
  /** Decoupled; not of biases and norm weights. */
  weightDecay: number;
}

const [FIRST, SECOND] = ["first moment", "second moment"];

/** AdamW as PyTorch has it (Loshchilov and Hutter, arXiv 1711.05101). Moments count as zero before the first step. */
export function adamw({ betas, epsilon, weightDecay }: AdamWOptions): Optimizer {
  return {
    name: "adamw",
    state: [{ name: FIRST, dtype: "f32" }, { name: SECOND, dtype: "f32" }],
    averages: true,
    record(recorder, { parameter, shard, gradient, clip, initial, state }) {
      const slots = {
        gradient,
        moment1: state[FIRST]!,
        moment2: state[SECOND]!,
        clip,
        parameter: shard,
        initial,
      };
      const decay = parameter.decays ? weightDecay : 0;
      recordAdamW(recorder, shard.count, decay, slots, ({ step, learningRate, seed, lambda }) => ({
        step,
        learningRate,
        betas,
        epsilon,
        lambda,
        rounding: { key: roundingKey(seed, step, parameter.index), firstElement: shard.firstElement },
      }));
    },
  };
}
