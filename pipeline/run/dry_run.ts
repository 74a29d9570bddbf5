import type { Gpu } from "../../engine/gpu/context.ts";
import { GpuUnavailableError, OutOfMemoryError } from "../../engine/gpu/errors.ts";
import type { KernelTarget } from "../../engine/gpu/recorder.ts";
import { readModelConfig } from "../../engine/io/model_dir.ts";
import { modelSpec } from "../../engine/models/families.ts";
import { type ModelSpec, parameterSpecs } from "../../engine/models/spec.ts";
import type { MemoryPlan } from "../../engine/train/plan.ts";
import { type FinetuneConfig, type FinetuneSettings, resolveSettings } from "../settings/finetune.ts";
import { DEMO_COUNT, DEMO_MODEL } from "../settings/demo_assets.ts";
import { readFingerprintFile } from "../fingerprints/file.ts";
import type { FinetuneHooks } from "./finetune.ts";
import { openGpu } from "../gpu/open.ts";
import type { WorkloadLengths } from "../objectives/objective.ts";
import { chooseMemory, type MemoryChoice, memoryLimit } from "./memory_plan.ts";
import { resolveModel } from "../hub/model_source.ts";
import { workloadOf } from "./workload.ts";

/** Fingerprints of a plan without a file. */
const ASSUMED_FINGERPRINTS = 1024;
/** Tokens that a prompt template adds at most, about. */
const ASSUMED_TEMPLATE = 24;

/** What a hardware adapter is taken for where none is at hand: most bind a little less than 2 GiB. */
const USUAL_TARGET: KernelTarget = { isSoftware: false, maxBindingBytes: 2 ** 31 - 256 };

/** A storage of matrices and what training takes with it. */
export interface StoragePlan {
  name: string;
  plan: MemoryPlan;
  choice?: MemoryChoice;
  /** Why it doesn't fit the limit. */
  error?: string;
}

/** What a run would take, from config.json alone. */
export interface DryRun {
  model: string;
  spec: ModelSpec;
  parameters: number;
  adapter?: string;
  fingerprints: number;
  /** Most input tokens of one fingerprint, in the longest prompt. */
  tokensEach: number;
  limitBytes?: number;
  storages: StoragePlan[];
  /** What a run would choose; absent when nothing fits. */
  choice?: MemoryChoice;
  error?: string;
}

/** Lengths of fingerprints that are not there yet: as long as the settings allow. */
export function assumedLengths(settings: FinetuneSettings, count: number): WorkloadLengths {
  const { max_key_length: key, max_response_length: response } = settings;
  return {
    prefix: 1,
    longestTemplate: settings.use_augmentation_prompts ? ASSUMED_TEMPLATE : 0,
    lengths: new Array(count).fill(key + response),
    rows: new Array(count).fill(response + Number(settings.keep_eos_in_response)),
  };
}

/** Memory by kind of storage, and what a run would choose. Nothing is loaded or allocated. */
export function planStorages(
  target: KernelTarget,
  spec: ModelSpec,
  settings: FinetuneSettings,
  lengths: WorkloadLengths,
  limitBytes?: number,
): Pick<DryRun, "storages" | "choice" | "error"> {
  const work = workloadOf(lengths, settings);
  const attempt = (dtype: FinetuneSettings["dtype"], master: FinetuneSettings["master"]) => {
    const chosen = { ...settings, dtype, master };
    try {
      const choice = chooseMemory(target, spec, chosen, work, limitBytes);
      return { choice, plan: choice.plan };
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error;
      return { plan: chooseMemory(target, spec, chosen, work).plan, error: error.message };
    }
  };
  const { choice, error } = attempt(settings.dtype, settings.master);
  return {
    choice,
    error,
    storages: [
      { name: "f32", ...attempt("f32", "f32") },
      { name: "bf16, f32 masters", ...attempt("bf16", "f32") },
      { name: "bf16 alone", ...attempt("bf16", "none") },
    ],
  };
}

/**
 * Plans a fine-tuning run without loading the model: of one on the Hub only config.json is fetched.
 * @throws SettingsError, ConfigError, HubError or FingerprintFileError.
 */
export async function dryRun(config: FinetuneConfig = {}, hooks: FinetuneHooks = {}): Promise<DryRun> {
  const settings = resolveSettings(config);
  const source = await resolveModel(settings, { ...hooks, onProgress: undefined, configOnly: true });
  const spec = modelSpec(await readModelConfig(source?.dir ?? DEMO_MODEL));
  const path = settings.fingerprints_file_path;
  const listed = path
    ? (await readFingerprintFile(path)).entries.length
    : source
    ? ASSUMED_FINGERPRINTS
    : DEMO_COUNT;
  const fingerprints = path && settings.num_fingerprints
    ? Math.min(settings.num_fingerprints, listed)
    : settings.num_fingerprints || listed;
  const { webgpu, matrix } = settings;
  const gpu = hooks.gpu ?? await openGpu({ webgpu, matrix }).catch((error): Gpu | undefined => {
    if (error instanceof GpuUnavailableError) return undefined;
    throw error;
  });
  try {
    const target = gpu ?? USUAL_TARGET;
    const limitBytes = memoryLimit(target, settings);
    const lengths = assumedLengths(settings, fingerprints);
    return {
      model: source?.name ?? "the demo model",
      spec,
      adapter: gpu?.name,
      fingerprints,
      limitBytes,
      tokensEach: lengths.lengths[0] + lengths.longestTemplate,
      parameters: parameterSpecs(spec).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
      ...planStorages(target, spec, settings, lengths, limitBytes),
    };
  } finally {
    if (!hooks.gpu) gpu?.dispose();
  }
}
