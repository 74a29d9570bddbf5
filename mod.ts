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
export { openGpu, type OpenOptions } from "./pipeline/gpu/open.ts";
export type { ModelSpec } from "./engine/models/spec.ts";
export { ConfigError } from "./engine/models/config.ts";
export type { Example } from "./engine/model/examples.ts";
export type { ModelOptions } from "./engine/model/model.ts";
export type { ScoredRow } from "./engine/model/score.ts";
export type { PreparedBackward } from "./engine/train/backward.ts";
export { LanguageModel as Model } from "./engine/language_model.ts";
export type { GenerateOptions } from "./engine/infer/generate.ts";
export {
  type PendingStep,
  type SequencesResult,
  type StepOptions,
  type StepResult,
  Trainer,
  type TrainerOptions,
} from "./engine/train/trainer.ts";
export { DivergedError, type EpochLog } from "./pipeline/run/train.ts";
export { check, type CheckHooks, type CheckResult, type CheckRow } from "./pipeline/measure/check.ts";
export type { FinetuneConfig, FinetuneSettings } from "./pipeline/settings/finetune.ts";
export type { CheckConfig } from "./pipeline/settings/check.ts";
export { SettingsError } from "./pipeline/settings/parse.ts";
export type { RecipeName } from "./pipeline/settings/recipes.ts";
export type { WebgpuName } from "./pipeline/settings/shared.ts";
export type { ResponseStrategyName, Strategy, StrategyName } from "./pipeline/settings/strategies.ts";
export {
  finetune,
  type FinetuneEvent,
  type FinetuneHooks,
  type FinetuneResult,
  type Measurement,
} from "./pipeline/run/finetune.ts";
export type { GenerateConfig } from "./pipeline/settings/generate.ts";
export type {
  GenerateSettings,
  KeySource,
  ResponseSource,
} from "./pipeline/fingerprints/generate/settings.ts";
export type { OwnFingerprints } from "./pipeline/fingerprints/own.ts";
export {
  FingerprintsExistError,
  GenerateFileError,
  NotEnoughFingerprintsError,
} from "./pipeline/fingerprints/generate/errors.ts";
export {
  type GenerateEvent,
  generateFingerprints,
  type GenerateHooks,
  type GenerateResult,
} from "./pipeline/fingerprints/generate/generate.ts";
export type { GenerateSummary } from "./pipeline/fingerprints/generate/summary.ts";
export { type DryRun, dryRun } from "./pipeline/run/dry_run.ts";
export type { ModelIdentity } from "./pipeline/run/identity.ts";
export type { RunPlan } from "./pipeline/run/plan.ts";
export { type ModelSource, resolveModel } from "./pipeline/hub/model_source.ts";
export {
  HubAccessError,
  HubError,
  HubIntegrityError,
  HubNotFoundError,
  type HubProgress,
  HubUnreachableError,
} from "./pipeline/hub/hub.ts";
export { CheckpointMismatchError } from "./engine/model/load.ts";
export { FileWriteError } from "./engine/io/atomic.ts";
export { JsonFileError, ModelDirError } from "./engine/io/model_dir.ts";
export { SafetensorsError } from "./engine/io/safetensors.ts";
export { FingerprintFileError } from "./pipeline/fingerprints/file.ts";
export { ResultsError, ResultsExistError } from "./pipeline/run/results.ts";
export { ChatTemplateError } from "./pipeline/prompts/chat_template.ts";
export { TokenizerError } from "./pipeline/tokenizer/tokenizer.ts";
