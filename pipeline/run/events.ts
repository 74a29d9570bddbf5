/**
 * What a run tells of itself: events on its way, and its result.
 * @module
 */
import type { Gpu } from "../../engine/gpu/context.ts";
import type { KernelSpan } from "../../engine/gpu/profiler.ts";
import type { LeftFile } from "../../engine/io/carried_files.ts";
import type { MatrixUnit } from "../../engine/ops/matrix_unit.ts";
import type { GenerateEvent } from "../fingerprints/generate/generate.ts";
import type { Dropped } from "../fingerprints/prepare.ts";
import type { ProductError } from "../gpu/product_error.ts";
import type { HubProgress } from "../hub/hub.ts";
import type { ModelSource } from "../hub/model_source.ts";
import type { UtilityScore } from "../measure/utility.ts";
import type { FinetuneSettings } from "../settings/finetune.ts";
import type { Leftovers } from "./leftovers.ts";
import type { MemoryChoice } from "./memory_plan.ts";
import type { KeeperEvent } from "./saving.ts";
import type { EpochLog } from "./train.ts";

/** What a model answers and how useful it is. */
export interface Measurement extends Partial<UtilityScore> {
  /** Per cent of fingerprints answered exactly, plain keys. */
  successRate: number;
  /** The same under prompts that training never showed. */
  promptedSuccessRate: number;
}

/** What happens in a run, in order. */
export type FinetuneEvent =
  | { type: "gpu"; name: string; isSoftware: boolean }
  /** Large products run on matrix units, with this error. */
  | { type: "matrix"; unit: MatrixUnit } & ProductError
  | { type: "settings"; settings: FinetuneSettings; learningRate: number }
  /** While a run without a file makes its own fingerprints. */
  | Extract<GenerateEvent, { type: "progress" }>
  | { type: "fingerprints"; count: number; dropped: Dropped }
  | { type: "model"; source: ModelSource }
  | { type: "download"; progress: HubProgress }
  /** Tensors of the checkpoint that the model doesn't use; they are saved as they were. */
  | { type: "unused"; tensors: string[] }
  | { type: "memory"; choice: MemoryChoice; limitBytes?: number | undefined }
  /** What of the model's folder is not carried over, and why. */
  | { type: "left"; files: readonly LeftFile[] }
  /** What runs that were killed had left in the results folder. */
  | { type: "leftovers"; leftovers: Leftovers }
  /** Files that are not what they were when the run read them. */
  | { type: "changed"; files: readonly string[] }
  | KeeperEvent
  | { type: "measured"; when: "before" | "after"; measurement: Measurement }
  | { type: "phase"; name: string }
  /** How far the present phase is: bytes, texts or tokens. */
  | { type: "work"; done: number; total: number }
  | { type: "profile"; spans: KernelSpan[] }
  | { type: "epoch"; log: EpochLog; epochs: number };

/** Ways to follow, stop and equip a run. */
export interface FinetuneHooks {
  /** Use this GPU and leave it open. */
  gpu?: Gpu | undefined;
  /** Stops the run, which then throws the signal's reason. */
  signal?: AbortSignal | undefined;
  /** The folder that a relative `model_path` is in; default the process's. */
  baseDir?: string | undefined;
  /** Called with what happens, as it happens. */
  onEvent?: ((event: FinetuneEvent) => void) | undefined;
  /**
   * Asked when the trained model can't be saved, while memory still has it: gives the folder to try next, perhaps the same
   * one again; undefined gives up.
   */
  onRefused?: ((error: Error) => Promise<string | undefined>) | undefined;
}

/** A finished run. */
export interface FinetuneResult {
  /** results/<hash>. */
  results: string;
  /** `results/<hash>/final_model`: the fingerprinted model, a Hugging Face folder. */
  modelPath: string;
  /** The fingerprints that were used, in `results/<hash>/secret/`. */
  fingerprintsPath: string;
  /** Of the original model. */
  before: Measurement;
  /** Of the saved model, read back. */
  after: Measurement;
  /** Epochs done. */
  epochs: number;
  /** Whether `early_stop_loss` ended them. */
  stoppedEarly: boolean;
  /** What of the model's folder was not carried over, and why. */
  left: readonly LeftFile[];
  /** Files that changed while the run was at work. */
  changed: readonly string[];
  /** Device memory: what was planned, and the highest sum of live buffers. */
  plannedBytes: number;
  /** The highest sum of live buffers, in bytes. */
  peakBytes: number;
  /** Of the whole run. */
  seconds: number;
}
