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
export { openGpu } from "./pipeline/gpu.ts";
export type { ModelSpec } from "./engine/models/spec.ts";
export { ConfigError } from "./engine/models/config.ts";
export type { Example } from "./engine/train/examples.ts";
export { Model, type ModelOptions, type ScoredRow } from "./engine/train/model.ts";
export { type StepResult, Trainer, type TrainerOptions } from "./engine/train/trainer.ts";
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
