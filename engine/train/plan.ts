import { Pool, Slot } from "../gpu/pool.ts";
import type { KernelTarget } from "../gpu/recorder.ts";
import type { ModelSpec } from "../models/spec.ts";
import type { PassCapacity } from "../model/batch.ts";
import { Gradients } from "../model/gradients.ts";
import { type SoftTables, VOCABULARY_CHUNK } from "../model/head.ts";
import { adamw } from "./adamw.ts";
import { recordClip } from "./clip.ts";
import { OptimizerState, recordUpdate } from "./optimizer.ts";
import { type Parameter, type ParameterOptions, Parameters } from "../model/parameters.ts";
import { ownBytes, recordPass } from "../model/pass.ts";

/** Device memory that is for one thing, in bytes. */
export interface MemoryPart {
  /** What it is for. */
  name: string;
  /** Bytes of all of its buffers. */
  bytes: number;
}

/** Device memory of a training run by part, in bytes. */
export interface MemoryPlan {
  /** Every part that takes any. */
  parts: MemoryPart[];
  /** Their sum. */
  totalBytes: number;
}

/** What a training run will ask for. */
export interface TrainingPlanOptions extends ParameterOptions {
  /** Capacity of the training pass, and of the pass that measures success between epochs. */
  train: PassCapacity;
  score: PassCapacity;
  /** What objectives keep beside the model: tables of soft targets. */
  tables: readonly MemoryPart[];
  /** A copy of the initial weights is kept for averaging. */
  keepsInitial: boolean;
  keepActivations: boolean;
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
  const parameters = new Parameters(spec, target, options);
  const gradients = new Gradients();
  const gradient = (parameter: Parameter) => gradients.of(parameter);
  const nothing = new Slot(16, "nothing");
  const soft: SoftTables = { kinds: [], ids: nothing, probabilities: nothing };
  const { keepActivations } = options;
  const arena = new Pool();
  const train = recordPass(target, parameters, {
    kind: "train",
    capacity: options.train,
    keepActivations,
    gradient,
    soft,
    arena,
  });
  const pass = arena.totalBytes + ownBytes(train);
  const score = recordPass(target, parameters, { kind: "score", capacity: options.score, arena });
  const measuring = arena.totalBytes + ownBytes(train) + ownBytes(score) - pass;
  const adam = adamw({ betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0 });
  const state = new OptimizerState(adam, parameters.trainable, gradient);
  const updating = recordUpdate(target, state).memoryBytes + recordClip(target, state, 1).memoryBytes;
  const { weights, masters } = parameters.bytes;
  // All alive at once when backward begins, so they are slots of their own.
  const inputs = spec.layers * options.train.tokens * spec.width * 4;
  const logits = options.train.rows * Math.min(spec.vocabulary, VOCABULARY_CHUNK) * 4;
  const parts = [
    { name: "weights", bytes: weights },
    { name: "masters", bytes: masters },
    { name: "gradients", bytes: gradients.totalBytes },
    { name: "optimizer moments", bytes: state.totalBytes + updating },
    { name: "initial weights", bytes: options.keepsInitial ? weights + masters : 0 },
    { name: "block inputs (checkpoints)", bytes: inputs },
    { name: "head chunk", bytes: logits },
    {
      name: keepActivations ? "activations of blocks" : "activations of one block",
      bytes: pass - inputs - logits,
    },
    { name: "measuring pass", bytes: measuring },
    ...options.tables,
  ].filter(({ bytes }) => bytes > 0);
  return { parts, totalBytes: parts.reduce((sum, { bytes }) => sum + bytes, 0) };
}
