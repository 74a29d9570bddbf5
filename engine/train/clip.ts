import { type KernelTarget, Recorder } from "../gpu/recorder.ts";
import { globalNorm } from "../ops/global_norm.ts";
import type { OptimizerState } from "./optimizer.ts";

/** Records the global norm of all gradients and the factor that clips them to `maxGradNorm`; 0 never clips. */
export function recordClip(
  target: KernelTarget,
  { shards, clip }: OptimizerState,
  maxGradNorm: number,
): Recorder<void> {
  const recorder = new Recorder<void>(target);
  globalNorm(
    recorder,
    shards.map(({ gradient, parameter, shard }) => {
      return { slot: gradient, count: shard.count, tensorCount: parameter.count, slab: parameter.slab };
    }),
    maxGradNorm,
    clip,
  );
  return recorder;
}
