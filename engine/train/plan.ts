import { Slot } from "../gpu/pool.ts";
import type { KernelTarget } from "../gpu/recorder.ts";
import type { ModelSpec } from "../models/spec.ts";
import type { PassCapacity } from "./batch.ts";
import type { SoftTables } from "./head.ts";
import { recordOptimizer } from "./optimizer.ts";
import { type Parameter, Parameters } from "./params.ts";
import { recordPass } from "./pass.ts";

/** Device memory of a training run by part, in bytes. */
export interface MemoryPlan {
  parts: { name: string; bytes: number }[];
  totalBytes: number;
}

/** What a training run will ask for. */
export interface TrainingPlanOptions {
  /** Room of the training pass, and of the pass that measures success between epochs. */
  train: PassCapacity;
  score: PassCapacity;
  /** Bytes of the anchor's distributions; 0 without. */
  softBytes: number;
  /** A copy of the initial weights is kept for averaging. */
  keepsInitial: boolean;
  saveBlocks: boolean;
}

/**
 * Device memory of training: the recordings themselves, made without a device, so it is what will be allocated and not
 * a second formula.
 */
export function planTraining(
  target: KernelTarget,
  spec: ModelSpec,
  options: TrainingPlanOptions,
): MemoryPlan {
  const parameters = new Parameters(spec);
  const gradients = new Map<string, Slot>();
  const gradient = ({ name, count }: Parameter): Slot => {
    let slot = gradients.get(name);
    if (!slot) gradients.set(name, slot = new Slot(count * 4, name));
    return slot;
  };
  const nothing = new Slot(16, "nothing");
  const soft: SoftTables = { ids: nothing, probabilities: nothing };
  const { saveBlocks } = options;
  const train = recordPass(target, parameters, {
    kind: "train",
    capacity: options.train,
    saveBlocks,
    gradient,
    soft,
  });
  const score = recordPass(target, parameters, { kind: "score", capacity: options.score });
  const optimizer = recordOptimizer(target, parameters.all, gradient, { weightDecay: 0, maxGradNorm: 1 });
  const parts = [
    { name: "weights", bytes: parameters.totalBytes },
    { name: "gradients", bytes: parameters.totalBytes },
    { name: "optimizer moments", bytes: optimizer.recorder.pool.totalBytes },
    { name: "initial weights", bytes: options.keepsInitial ? parameters.totalBytes : 0 },
    { name: "activations of a training pass", bytes: train.recorder.memoryBytes },
    { name: "activations of a measuring pass", bytes: score.recorder.memoryBytes },
    { name: "anchor distributions", bytes: options.softBytes },
  ].filter(({ bytes }) => bytes > 0);
  return { parts, totalBytes: parts.reduce((sum, { bytes }) => sum + bytes, 0) };
}
