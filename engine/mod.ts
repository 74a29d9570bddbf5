/**
 * The engine alone: decoder-only language models on any GPU, as token ids and numbers. It knows no tokenizer, no
 * fingerprint and no Hub, prints nothing and asks nothing of its process.
 *
 * ```ts
 * import { Model, openGpu, Trainer } from "@whorl/whorl/engine";
 *
 * const gpu = await openGpu();
 * const model = await Model.load(gpu, "path/to/model");
 * // Labels are not shifted; −100 is not supervised.
 * const example = { ids: [1, 2, 3, 4], labels: [-100, -100, -100, 4] };
 *
 * const trainer = new Trainer(model, { learningRate: 1e-3, totalSteps: 10 });
 * for (let step = 0; step < 10; step++) await trainer.step([example]);
 * const [continuation] = await model.generate([[1, 2, 3]], { maxNewTokens: 8 });
 * console.log(continuation);
 * await model.save("path/to/new/model");
 *
 * trainer.dispose();
 * model.dispose();
 * gpu.dispose();
 * ```
 * @module
 */

// The GPU: opening one, what it is, and what goes wrong with it.
export { Gpu, type GpuLimits, type GpuOptions } from "./gpu/context.ts";
export { type KernelForce, openGpu, type OpenOptions } from "./ops/target.ts";
export type { MatrixType } from "./ops/matrix_unit.ts";
export type { KernelSpan } from "./gpu/profiler.ts";
export { DeviceLostError, GpuUnavailableError, GpuValidationError, OutOfMemoryError } from "./gpu/errors.ts";

// Models: loading, asking, saving. A `Model` is a `Decoder` that also has gradients and texts.
export { LanguageModel as Model } from "./language_model.ts";
export { type LoadedOptions, Model as Decoder, type ModelOptions } from "./model/model.ts";
export type { ParameterOptions, StorageOptions } from "./model/parameters.ts";
export { CheckpointMismatchError, type LoadProgress } from "./model/load.ts";
export { NonFiniteWeightsError } from "./model/finite.ts";
export type { LeftFile, SavedModelDir, SaveModelDirOptions } from "./io/model_dir.ts";
export type { WriteCheckpointOptions } from "./io/safetensors_writer.ts";
export type { SaveProgress, WriteOptions } from "./io/weight_files.ts";
export type { FloatDtype } from "./tensor/dtype.ts";
export { FileWriteError } from "./io/atomic.ts";
export { LockedError } from "./io/lock.ts";
export { FileReadError } from "./io/read_file.ts";
export { JsonFileError, ModelDirError } from "./io/model_dir.ts";
export { SafetensorsError } from "./io/safetensors.ts";

// What a model is, read from its config.json.
export type {
  Activation,
  LinearNames,
  ModelSpec,
  ModelTensors,
  NormNames,
  NormSettings,
  RopeSpec,
} from "./models/spec.ts";
export { ConfigError } from "./models/config.ts";

// What goes in and comes out: examples, sequences with weighted rows, scores, continuations.
export { type Example, IGNORE } from "./model/examples.ts";
export type { CachedTokens, PassCapacity, Sequence, SequenceRow } from "./model/batch.ts";
export type { RowTarget, SoftKind } from "./ops/cross_entropy.ts";
export type { SoftTables } from "./model/head.ts";
export type { ScoredRow, WorkProgress } from "./model/score.ts";
export type { GenerateOptions } from "./infer/generate.ts";
export type { Sampling } from "./infer/sample.ts";

// Training: steps, and the stages that they are made of.
export {
  type DecidedOptions,
  type PendingStep,
  type SequencesResult,
  type StepOptions,
  type StepResult,
  type TrainableModel,
  Trainer,
  type TrainerOptions,
} from "./train/trainer.ts";
export { learningRateAt, type Schedule } from "./train/schedule.ts";
export type { StateTensor, TrainerState } from "./train/state.ts";
export { Backward, type BackwardOptions, type PreparedBackward } from "./train/backward.ts";
export { Gradients } from "./model/gradients.ts";
export type { GradientShards } from "./model/context.ts";

// Optimizers: AdamW, and what another one in a file of its own is written with.
export { adamw, type AdamWOptions } from "./train/adamw.ts";
export type { Optimizer, OptimizerTensor, Update, UpdatedShard } from "./train/optimizer.ts";
export type { Parameter, ParameterShard } from "./model/parameters.ts";
export type { ParameterSpec } from "./models/spec.ts";
export type { RowShard } from "./tensor/sharded.ts";
export type { Storage, Stored } from "./tensor/stored.ts";
export { Slot } from "./gpu/pool.ts";
export { type Binding, type KernelTarget, Recorder } from "./gpu/recorder.ts";
export { defineKernel, type KernelDefinition } from "./gpu/kernel.ts";
export type { Kernel, KernelBinding, KernelVariant, Launch, ParamField } from "./gpu/variant.ts";
export type { ExpandedSource, TemplateConstants } from "./gpu/template.ts";
export {
  roundingKey,
  weightBindings,
  type WeightConstants,
  weightConstants,
  weightGroups,
  weightIncludes,
} from "./ops/weight_io.ts";
