/**
 * The plan of a run: flags become settings, settings a plan, once, before a weight is loaded or a fingerprint made.
 * @module
 */
import { join } from "node:path";
import type { KernelTarget } from "../../engine/gpu/recorder.ts";
import { type OwnFingerprints, ownFingerprints } from "../fingerprints/own.ts";
import type { HubProgress } from "../hub/hub.ts";
import { type ModelSource, resolveModel } from "../hub/model_source.ts";
import { fingerprintLengths } from "../objectives/fingerprints.ts";
import type { WorkloadLengths } from "../objectives/objective.ts";
import { DEMO_MODEL } from "../settings/demo_assets.ts";
import { type FinetuneConfig, type FinetuneSettings, resolveSettings } from "../settings/finetune.ts";
import { SettingsError } from "../settings/parse.ts";
import { learningRateFor } from "../settings/recipes.ts";
import { identifyModel, type ModelIdentity, runHash } from "./identity.ts";
import { readInputs, type RunInputs } from "./inputs.ts";
import { chooseMemory, type MemoryChoice, memoryLimit } from "./memory_plan.ts";
import { OpenedFiles } from "./opened_files.ts";
import { workloadOf } from "./workload.ts";

/** Everything that is decided about a run before it starts; frozen, so that nothing changes it on the way. */
export interface RunPlan {
  /** All settings, none left open: what the run's config.json holds. */
  readonly settings: FinetuneSettings;
  /** The original model: its folder, what to call it, and what it is by content. */
  readonly model: ModelIdentity & { readonly dir: string; readonly name: string };
  /** Peak learning rate. */
  readonly learningRate: number;
  /** How many fingerprints there are, and the SHA-256 (hex) of their file; or what the run asks of the model for them. */
  readonly fingerprints: {
    readonly count: number;
    readonly sha256?: string | undefined;
    readonly own?: OwnFingerprints | undefined;
  };
  /** SHA-256, hex, of the file of benign texts, if any. */
  readonly benignSha256?: string | undefined;
  /** How memory is laid out. */
  readonly memory: Readonly<MemoryChoice>;
  /** Bytes that the run may take on the device; unknown if absent. */
  readonly limitBytes?: number | undefined;
  /** Name of the run, of what it computes. */
  readonly hash: string;
  /** Where its results go: `<output_dir>/<hash>`. */
  readonly results: string;
}

/** A plan before memory and identity are settled. */
export interface RunDraft {
  /** What to call the model. */
  readonly name: string;
  readonly settings: FinetuneSettings;
  readonly inputs: RunInputs;
  readonly lengths: WorkloadLengths;
  readonly learningRate: number;
}

/** Ways to follow and stop planning. */
export interface PlanHooks {
  signal?: AbortSignal | undefined;
  /** The folder that a relative `model_path` is in; default the process's. */
  baseDir?: string | undefined;
  onDownload?: ((progress: HubProgress) => void) | undefined;
}

/**
 * Plans a run. A model on the Hub is downloaded; nothing is loaded, made or written.
 * @throws SettingsError, FingerprintFileError, RangeError and others of what is read
 * @throws OutOfMemoryError where the run doesn't fit
 */
export async function planRun(
  config: FinetuneConfig,
  target: KernelTarget,
  { onDownload, ...hooks }: PlanHooks = {},
): Promise<{ plan: RunPlan; inputs: RunInputs; source: ModelSource | null; opened: OpenedFiles }> {
  const given = resolveSettings(config);
  const source = await resolveModel(given, { ...hooks, onProgress: onDownload });
  const opened = await OpenedFiles.look(source?.dir ?? DEMO_MODEL, given);
  const draft = await draftRun(config, source);
  const { settings, inputs, lengths } = draft;
  const limitBytes = memoryLimit(target, settings);
  const memory = chooseMemory(target, inputs.spec, settings, workloadOf(lengths, settings), limitBytes);
  return { plan: await finishPlan(draft, memory, limitBytes), inputs, source, opened };
}

/** Reads what a run works on, and how long its sequences are. Throws as {@link planRun}. */
export async function draftRun(config: FinetuneConfig, source: ModelSource | null): Promise<RunDraft> {
  const { settings, inputs } = await readInputs(config, source);
  const { tokenizer, prompts, templates, file } = inputs;
  const name = source?.name ?? "the demo model";
  const learningRate = settings.learning_rate ?? learningRateFor(inputs.spec.width);
  const lengths = file
    ? fingerprintLengths(tokenizer, file.fingerprints, templates, prompts)
    : ownLengths(settings, inputs);
  const num_fingerprints = lengths.lengths.length;
  const decided: FinetuneSettings = { ...settings, num_fingerprints, learning_rate: learningRate };
  return { name, settings: decided, inputs, lengths, learningRate };
}

/** Settles what a run is called. */
export async function finishPlan(
  { name, settings: drafted, inputs, learningRate }: RunDraft,
  memory: MemoryChoice,
  limitBytes?: number,
): Promise<RunPlan> {
  const { dtype, master } = memory;
  const settings: FinetuneSettings = { ...drafted, dtype, master };
  const model = { dir: inputs.modelPath, name, ...await identifyModel(inputs.modelPath) };
  const own = inputs.file ? undefined : ownFingerprints(settings, model.modelHash);
  const sha256 = inputs.file?.sha256;
  const benignSha256 = inputs.benignFile?.sha256;
  const hash = runHash(settings, model, sha256 ?? own!.identity, benignSha256);
  return deepFreeze({
    settings,
    model,
    learningRate,
    fingerprints: { count: settings.num_fingerprints!, sha256, own },
    benignSha256,
    memory,
    limitBytes,
    hash,
    results: join(settings.output_dir, hash),
  });
}

/** Lengths of fingerprints that are still to be made: the most that the settings allow. */
function ownLengths(
  settings: FinetuneSettings,
  { tokenizer, prompts, templates, spec }: RunInputs,
): WorkloadLengths {
  const { asked } = ownFingerprints(settings, "");
  const probe = { key: "a", keyIds: tokenizer.encode("a") };
  // What a chat template puts around a key; across the seam tokens may merge, but never into more than apart and one.
  const around = prompts.askedIds(probe).length - probe.keyIds.length;
  const question = prompts.prefixIds.length + settings.max_key_length + (around > 0 ? around + 1 : 0);
  const response = settings.max_response_length + Number(settings.keep_eos_in_response);
  const length = question + response - 1;
  if (length > spec.maxPositions) {
    throw new SettingsError(
      `max_key_length, max_response_length: expected at most ${spec.maxPositions} tokens together, as config.json says by ` +
        `"max_position_embeddings", found ${length}`,
    );
  }
  return {
    ...fingerprintLengths(tokenizer, [], templates, prompts),
    lengths: new Array(asked.num_fingerprints).fill(length),
    rows: new Array(asked.num_fingerprints).fill(response),
  };
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  for (const part of Object.values(value)) deepFreeze(part);
  return Object.freeze(value);
}
