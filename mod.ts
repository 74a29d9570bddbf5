/**
 * Whorl fingerprints language models on any GPU: the public API.
 * @module
 */
export { Gpu, type GpuLimits, type GpuOptions } from "./engine/gpu/context.ts";
export {
  DeviceLostError,
  GpuUnavailableError,
  GpuValidationError,
  OutOfMemoryError,
} from "./engine/gpu/errors.ts";
export { openGpu, type OpenOptions } from "./pipeline/gpu.ts";
export type { ModelSpec } from "./engine/models/spec.ts";
export { ConfigError } from "./engine/models/config.ts";
export type { Example } from "./engine/train/examples.ts";
export type { ModelOptions, PreparedBackward, ScoredRow } from "./engine/train/model.ts";
export { Model } from "./engine/infer/model.ts";
export type { GenerateOptions } from "./engine/infer/generate.ts";
export {
  type PendingStep,
  type SequencesResult,
  type StepOptions,
  type StepResult,
  Trainer,
  type TrainerOptions,
} from "./engine/train/trainer.ts";
export { DivergedError, type EpochLog } from "./pipeline/train_fingerprints.ts";
export {
  check,
  type CheckConfig,
  type CheckHooks,
  type CheckResult,
  type CheckRow,
} from "./pipeline/check.ts";
export { type FinetuneConfig, type FinetuneSettings, SettingsError } from "./pipeline/config.ts";
export {
  finetune,
  type FinetuneEvent,
  type FinetuneHooks,
  type FinetuneResult,
  type Measurement,
} from "./pipeline/finetune.ts";
export type { GenerateConfig, GenerateSettings } from "./pipeline/generate/settings.ts";
export {
  FingerprintsExistError,
  GenerateFileError,
  NotEnoughFingerprintsError,
} from "./pipeline/generate/errors.ts";
export {
  type GenerateEvent,
  generateFingerprints,
  type GenerateHooks,
  type GenerateResult,
} from "./pipeline/generate/generate.ts";
export type { GenerateSummary } from "./pipeline/generate/summary.ts";
export { type DryRun, dryRun } from "./pipeline/dry_run.ts";
export { type ModelSource, resolveModel } from "./pipeline/model_source.ts";
export {
  HubAccessError,
  HubError,
  HubIntegrityError,
  HubNotFoundError,
  type HubProgress,
  HubUnreachableError,
} from "./engine/io/hub.ts";
export { CheckpointMismatchError } from "./engine/train/load.ts";
export { FileWriteError } from "./engine/io/atomic.ts";
export { JsonFileError, ModelDirError } from "./engine/io/model_dir.ts";
export { SafetensorsError } from "./engine/io/safetensors.ts";
export { FingerprintFileError } from "./pipeline/fingerprint_file.ts";
export { ResultsError, ResultsExistError } from "./pipeline/results.ts";
export { ChatTemplateError } from "./pipeline/chat_template.ts";
export { TokenizerError } from "./pipeline/tokenizer.ts";
