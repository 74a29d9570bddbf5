import type { PassCapacity } from "../../engine/model/batch.ts";
import { OBJECTIVES } from "../objectives/list.ts";
import type { ObjectiveKind, WorkloadLengths } from "../objectives/objective.ts";
import type { FinetuneSettings } from "../settings/finetune.ts";
import type { Workload } from "./memory_plan.ts";

/** What the passes of a run would fill, so that they are recorded and planned once; a sum over its objectives. */
export function workloadOf(
  lengths: WorkloadLengths,
  settings: FinetuneSettings,
  kinds: readonly ObjectiveKind[] = OBJECTIVES,
): Workload {
  const active = kinds.filter((kind) => kind.isActive(settings));
  const loads = active.map((kind) => kind.workload(lengths, settings));
  const round = (value: number) => Math.ceil(value / 64) * 64;
  const capacity = (of: (field: keyof PassCapacity) => number): PassCapacity => ({
    tokens: round(of("tokens")),
    rows: round(of("rows")),
  });
  return {
    train: capacity((field) => loads.reduce((sum, { step }) => sum + step[field], 0)),
    score: { tokens: Infinity, rows: Infinity },
    longest: capacity((field) => loads.reduce((most, { longest }) => Math.max(most, longest[field]), 0)),
    tables: (spec) => active.flatMap((kind) => kind.tables?.(spec, settings) ?? []),
  };
}
