import { join } from "node:path";
import type { Gpu } from "../../engine/gpu/context.ts";
import { GpuUnavailableError, OutOfMemoryError } from "../../engine/gpu/errors.ts";
import type { KernelTarget } from "../../engine/gpu/recorder.ts";
import { readModelConfig } from "../../engine/io/model_dir.ts";
import { INDEX_FILE, SINGLE_FILE } from "../../engine/io/weight_files.ts";
import { modelSpec } from "../../engine/models/families.ts";
import { type ModelSpec, parameterSpecs } from "../../engine/models/spec.ts";
import type { MemoryPlan } from "../../engine/train/plan.ts";
import { readFingerprintFile } from "../fingerprints/file.ts";
import { OWN_COUNT } from "../fingerprints/own.ts";
import { openGpu } from "../gpu/open.ts";
import { type ModelSource, resolveModel } from "../hub/model_source.ts";
import type { WorkloadLengths } from "../objectives/objective.ts";
import { type FinetuneConfig, type FinetuneSettings, resolveSettings } from "../settings/finetune.ts";
import type { FinetuneHooks } from "./events.ts";
import { chooseMemory, type MemoryChoice, memoryLimit } from "./memory_plan.ts";
import { draftRun, finishPlan, type RunPlan } from "./plan.ts";
import { workloadOf } from "./workload.ts";

const TOKENIZER_FILE = "tokenizer.json";

/** Tokens that a prompt template adds at most, about. */
const ASSUMED_TEMPLATE = 24;

/** What a hardware adapter is taken for where none is at hand: most bind a little less than 2 GiB. */
const USUAL_TARGET: KernelTarget = { isSoftware: false, maxBindingBytes: 2 ** 31 - 256 };

/** A storage of matrices and what training takes with it. */
export interface StoragePlan {
  /** How matrices are kept, in words. */
  name: string;
  /** Memory by part: of what a run would choose, or where nothing fits of the fastest layout. */
  plan: MemoryPlan;
  /** What a run would choose with it; absent when nothing fits. */
  choice?: MemoryChoice | undefined;
  /** Why it doesn't fit the limit. */
  error?: string | undefined;
}

/** What a run would take, from config.json alone. */
export interface DryRun {
  /** What to call the model. */
  model: string;
  /** Its shape and settings. */
  spec: ModelSpec;
  /** Numbers in it, a tied matrix once. */
  parameters: number;
  /** The adapter planned for; absent where none could be opened. */
  adapter?: string | undefined;
  /** How many there are, or would be. */
  fingerprints: number;
  /** Most input tokens of one fingerprint, in the longest prompt. */
  tokensEach: number;
  /** Bytes that a run may take on the device; unknown if absent. */
  limitBytes?: number | undefined;
  /** What each storage would take, whatever the settings choose. */
  storages: StoragePlan[];
  /** What a run would choose; absent when nothing fits. */
  choice?: MemoryChoice | undefined;
  /** Why nothing fits. */
  error?: string | undefined;
  /** The very plan that a run would execute; absent when nothing fits, or the weights are not there yet. */
  plan?: RunPlan | undefined;
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
 * The plan of a fine-tuning run, without running it. A model on the Hub or a folder without weights is planned from
 * config.json alone, with lengths that the settings allow.
 * @throws SettingsError, ConfigError, HubError, FingerprintFileError and others of what is read.
 */
export async function dryRun(config: FinetuneConfig = {}, hooks: FinetuneHooks = {}): Promise<DryRun> {
  const given = resolveSettings(config);
  const source = await resolveModel(given, { ...hooks, onProgress: undefined, configOnly: true });
  const draft = await isWhole(source) ? await draftRun(config, source) : undefined;
  const settings = draft?.settings ?? given;
  const spec = draft?.inputs.spec ?? modelSpec(await readModelConfig(source!.dir));
  const lengths = draft?.lengths ?? assumedLengths(settings, await assumedCount(settings));
  const { webgpu, matrix } = settings;
  const gpu = hooks.gpu ?? await openGpu({ webgpu, matrix }).catch((error): Gpu | undefined => {
    if (error instanceof GpuUnavailableError) return undefined;
    throw error;
  });
  try {
    const target = gpu ?? USUAL_TARGET;
    const limitBytes = memoryLimit(target, settings);
    const planned = planStorages(target, spec, settings, lengths, limitBytes);
    return {
      model: draft?.name ?? source!.name,
      spec,
      adapter: gpu?.name,
      fingerprints: lengths.lengths.length,
      limitBytes,
      tokensEach: lengths.lengths.reduce((a, b) => Math.max(a, b), 0) + lengths.longestTemplate,
      parameters: parameterSpecs(spec).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
      ...planned,
      plan: draft && planned.choice && await finishPlan(draft, planned.choice, limitBytes),
    };
  } finally {
    if (!hooks.gpu) gpu?.dispose();
  }
}

/** Whether everything that a run reads is there: of a model on the Hub it may be incomplete, so it doesn't count. */
async function isWhole(source: ModelSource | null): Promise<boolean> {
  if (source === null) return true;
  if (source.commit !== undefined) return false;
  const isThere = (name: string) => Deno.stat(join(source.dir, name)).then(() => true, () => false);
  return await isThere(TOKENIZER_FILE) && (await isThere(SINGLE_FILE) || await isThere(INDEX_FILE));
}

/** Fingerprints of a model that isn't there: those of a file, or as many as a run would make. */
async function assumedCount({ fingerprints_file_path: path, num_fingerprints: asked }: FinetuneSettings) {
  if (path === null) return asked || OWN_COUNT;
  const listed = (await readFingerprintFile(path)).entries.length;
  return asked ? Math.min(asked, listed) : listed;
}
