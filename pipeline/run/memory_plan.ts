import { OutOfMemoryError } from "../../engine/gpu/errors.ts";
import type { KernelTarget } from "../../engine/gpu/recorder.ts";
import type { ModelSpec } from "../../engine/models/spec.ts";
import type { PassCapacity } from "../../engine/model/batch.ts";
import { maxCapacity } from "../../engine/model/limits.ts";
import { MODEL_DEFAULTS } from "../../engine/model/model.ts";
import type { StorageOptions } from "../../engine/model/parameters.ts";
import { type MemoryPart, type MemoryPlan, planTraining } from "../../engine/train/plan.ts";
import type { FinetuneSettings } from "../settings/finetune.ts";
import { availableMemory } from "./host_memory.ts";

/** What training and measuring ask for: tokens and rows that they would fill a micro-batch with. */
export interface Workload {
  train: PassCapacity;
  score: PassCapacity;
  /** What a single sequence needs. */
  longest: PassCapacity;
  /** What objectives keep on the device. */
  tables: (spec: ModelSpec) => MemoryPart[];
}

/** Size of micro-batches, and whether activations are kept or recomputed (activation checkpointing): the same bits. */
export interface Layout {
  /** Most tokens of a micro-batch. */
  maxTokens: number;
  /** Kept (true), or computed again. */
  keepActivations: boolean;
}

/** How a run lays out its memory. */
export interface MemoryChoice extends StorageOptions, Layout {
  /** Of the training pass and of the measuring one. */
  capacity: { train: PassCapacity; score: PassCapacity };
  /** What it takes, by part. */
  plan: MemoryPlan;
}

/** Most tokens of a micro-batch, the fastest first. */
const MICRO_BATCHES = [MODEL_DEFAULTS.maxTokens, 2048, 1024, 512, 256, 64];

const KEPT = MICRO_BATCHES.map((maxTokens) => ({ maxTokens, keepActivations: true }));
const RECOMPUTED = MICRO_BATCHES.map((maxTokens) => ({ maxTokens, keepActivations: false }));

/** Layouts of one storage, fastest first. Recomputing activations of larger micro-batches is faster than micro-batches below 1,024 tokens. */
const LAYOUTS: Readonly<Record<FinetuneSettings["recompute"], readonly Layout[]>> = {
  auto: [...KEPT.filter(({ maxTokens }) => maxTokens >= 1024), ...RECOMPUTED],
  always: RECOMPUTED,
  never: KEPT,
};

/** Every layout of a storage, fastest first. */
export function* memoryLayouts(
  target: KernelTarget,
  spec: ModelSpec,
  settings: PlanSettings,
  work: Workload,
  storage: StorageOptions,
): Generator<MemoryChoice> {
  for (const layout of LAYOUTS[settings.recompute]) {
    yield planOf(target, spec, settings, work, storage, layout);
  }
}

/** f32 is its own master; bf16 with masters takes as much, so `auto` turns to bf16 alone. */
const STORAGES: readonly StorageOptions[] = [
  { dtype: "f32", master: "f32" },
  { dtype: "bf16", master: "none" },
];

type PlanSettings = Pick<FinetuneSettings, "dtype" | "master" | "recompute" | "averaging">;

/** Capacities of a run's passes when a micro-batch has `maxTokens` at most. */
export function passCapacities(
  target: KernelTarget,
  spec: ModelSpec,
  maxTokens: number,
  work: Workload,
): MemoryChoice["capacity"] {
  const of = (kind: "train" | "score"): PassCapacity => {
    const largest = maxCapacity(spec, target, maxTokens, kind);
    return {
      tokens: Math.max(Math.min(work[kind].tokens, largest.tokens), work.longest.tokens),
      rows: Math.max(Math.min(work[kind].rows, largest.rows), work.longest.rows),
    };
  };
  return { train: of("train"), score: of("score") };
}

function planOf(
  target: KernelTarget,
  spec: ModelSpec,
  settings: PlanSettings,
  work: Workload,
  { dtype, master }: StorageOptions,
  { maxTokens, keepActivations }: Layout,
): MemoryChoice {
  const capacity = passCapacities(target, spec, maxTokens, work);
  const plan = planTraining(target, spec, {
    dtype,
    master,
    ...capacity,
    keepActivations,
    tables: work.tables(spec),
    keepsInitial: settings.averaging !== "none",
  });
  return { dtype, master, maxTokens, keepActivations, capacity, plan };
}

/** Bytes that a run may take: `max_memory`, or on a software adapter what the system or its container has free; unknown elsewhere. */
export function memoryLimit(target: KernelTarget, { max_memory }: FinetuneSettings): number | undefined {
  if (max_memory !== null) return max_memory * 2 ** 30;
  if (!target.isSoftware) return undefined;
  return availableMemory();
}

/**
 * The fastest layout that fits `limitBytes`: with `dtype` "auto" also bf16 without masters, where f32 fits in no layout.
 * Without a limit the first.
 * @throws OutOfMemoryError that names every part and what would make the run possible.
 */
export function chooseMemory(
  target: KernelTarget,
  spec: ModelSpec,
  settings: PlanSettings,
  work: Workload,
  limitBytes?: number,
): MemoryChoice {
  const storages = settings.dtype === "auto"
    ? STORAGES
    : [{ dtype: settings.dtype, master: settings.master }];
  let least: MemoryChoice | undefined;
  for (const storage of storages) {
    for (const choice of memoryLayouts(target, spec, settings, work, storage)) {
      if (limitBytes === undefined || choice.plan.totalBytes <= limitBytes) return choice;
      if (!least || choice.plan.totalBytes < least.plan.totalBytes) least = choice;
    }
  }
  const { plan, ...chosen } = least!;
  const remedies = whatWouldHelp(target, spec, settings, work, chosen, plan.totalBytes, limitBytes!);
  throw new OutOfMemoryError(
    `training needs at least ${gib(plan.totalBytes)}, but may take ${gib(limitBytes!)}: ` +
      plan.parts.map(({ name, bytes }) => `${name} ${gib(bytes)}`).join(", ") +
      `. What would help: ${remedies.join("; ")}`,
    plan.totalBytes,
  );
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(3)} GiB`;
}

/** Changes that lower what a run needs, the ones that suffice first. */
function whatWouldHelp(
  target: KernelTarget,
  spec: ModelSpec,
  settings: PlanSettings,
  work: Workload,
  least: Omit<MemoryChoice, "plan">,
  needed: number,
  limitBytes: number,
): string[] {
  interface Remedy {
    flags: string;
    settings?: Partial<PlanSettings>;
    storage?: StorageOptions;
    layout?: Layout | undefined;
  }
  const needs = (remedies: readonly Remedy[]) => {
    const changed = Object.assign({}, settings, ...remedies.map(({ settings }) => settings));
    const storage: StorageOptions = Object.assign({}, least, ...remedies.map(({ storage }) => storage));
    const layout: Layout = Object.assign({}, least, ...remedies.map(({ layout }) => layout));
    return planOf(target, spec, changed, work, storage, layout).plan.totalBytes;
  };
  const all: Remedy[] = [
    { flags: "--recompute auto", layout: LAYOUTS.auto.at(-1) },
    { flags: "--dtype bf16 --master none", storage: { dtype: "bf16", master: "none" } },
    { flags: "--averaging none", settings: { averaging: "none" } },
  ];
  const lower = all.map((remedy) => [remedy]).filter((remedies) => needs(remedies) < needed);
  if (lower.length > 1) lower.push(lower.flat());
  const words = lower.map((remedies) => {
    const bytes = needs(remedies);
    const flags = remedies.map(({ flags }) => flags);
    const name = flags.length > 1 ? `together ${flags.join(", ")}` : flags[0];
    return `${name} (${gib(bytes)}${bytes <= limitBytes ? ", which fits" : ", not enough alone"})`;
  });
  return [...words, `a device with ${gib(needed)}, or a smaller model`];
}
