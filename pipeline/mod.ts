/**
 * Fingerprinting: what the command line does, as functions that take a config and hooks; and models that are asked in
 * text.
 *
 * ```ts
 * import { check, finetune } from "@whorl/whorl/pipeline";
 *
 * const { modelPath, after } = await finetune(
 *   { model_path: "path/to/model", fingerprints_file_path: "fingerprints.json" },
 *   { onEvent: (event) => console.log(event.type) },
 * );
 * console.log(`${after.successRate} % of the keys are answered right`);
 *
 * const { success_rate } = await check({
 *   model_path: modelPath,
 *   fingerprints: [{ key: "what the fox said to the lamp", response: " marble" }],
 * });
 * console.log(`${success_rate} %`);
 * ```
 * @module
 */

// Models and GPUs: with a folder's own tokenizer, a model takes text where a person has text.
export { Model, type TextOptions } from "./model/model.ts";
export { openGpu, type OpenOptions } from "./gpu/open.ts";
export { WEBGPU_NAMES, type WebgpuName } from "./settings/shared.ts";
export { type EncodeOptions, Tokenizer } from "./tokenizer/tokenizer.ts";
export { TokenizerError, UntokenizableError } from "./tokenizer/errors.ts";
export { ChatTemplateError } from "./prompts/chat_template.ts";

// Fine-tuning: the run, its plan, and what it measures.
export { finetune } from "./run/finetune.ts";
export type { FinetuneEvent, FinetuneHooks, FinetuneResult, Measurement } from "./run/events.ts";
export type { FinetuneConfig, FinetuneSettings } from "./settings/finetune.ts";
export { RECIPE_NAMES, type RecipeName } from "./settings/recipes.ts";
export { type Decided, SettingsError } from "./settings/parse.ts";
export { DivergedError, type EpochLog } from "./run/train.ts";
export { type DryRun, dryRun, type StoragePlan } from "./run/dry_run.ts";
export type { RunPlan } from "./run/plan.ts";
export type { ModelIdentity } from "./run/identity.ts";
export type { Layout, MemoryChoice } from "./run/memory_plan.ts";
export type { MemoryPart, MemoryPlan } from "../engine/train/plan.ts";
export type { MatrixUnit } from "../engine/ops/matrix_unit.ts";
export type { ProductError } from "./gpu/product_error.ts";
export type { UtilityScore } from "./measure/utility.ts";
export { ResultsError, ResultsExistError, ResultsLockedError, ResultsNotSavedError } from "./run/results.ts";
export type { KeeperEvent } from "./run/saving.ts";
export type { Leftovers } from "./run/leftovers.ts";
export { InputsChangedError } from "./run/opened_files.ts";
export type { LeftFile } from "../engine/io/model_dir.ts";
export type { LockOwner } from "../engine/io/lock.ts";

// Checking whether a model answers.
export {
  check,
  type CheckHooks,
  type CheckResult,
  type CheckRow,
  type LikelyToken,
} from "./measure/check.ts";
export type { CheckSetting, CheckSettings } from "./measure/check_settings.ts";
export type { CheckConfig, GivenFingerprint } from "./settings/check.ts";

// Fingerprints: making them, and what is read from and written to their files.
export {
  type GenerateEvent,
  generateFingerprints,
  type GenerateHooks,
  type GenerateResult,
} from "./fingerprints/generate/generate.ts";
export type { GenerateConfig } from "./settings/generate.ts";
export type { GenerateSettings, KeySource, ResponseSource } from "./fingerprints/generate/settings.ts";
export type { GenerateSummary, Range } from "./fingerprints/generate/summary.ts";
export {
  FingerprintsExistError,
  GenerateFileError,
  NotEnoughFingerprintsError,
} from "./fingerprints/generate/errors.ts";
export {
  RESPONSE_STRATEGIES,
  type ResponseStrategy,
  type ResponseStrategyName,
  STRATEGIES,
  type Strategy,
  type StrategyName,
} from "./settings/strategies.ts";
export type { OwnFingerprints } from "./fingerprints/own.ts";
export {
  CommitmentError,
  type CommittedEntry,
  type Opening,
  verifyEntry,
} from "./fingerprints/commitment.ts";
export { openEntry } from "./fingerprints/open_entry.ts";
export type { Dropped } from "./fingerprints/prepare.ts";
export { FingerprintFileError, type WrittenFingerprint } from "./fingerprints/file.ts";

// Models of the Hugging Face Hub.
export {
  type ModelSettings,
  type ModelSource,
  type ModelSourceHooks,
  type ReadVariable,
  resolveModel,
} from "./hub/model_source.ts";
export type { HubProgress } from "./hub/hub.ts";
export {
  HubAccessError,
  HubError,
  HubIntegrityError,
  HubNotFoundError,
  HubUnreachableError,
} from "../engine/io/hub_errors.ts";
