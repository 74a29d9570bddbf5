import { type KernelSpan, sumByKernel } from "../../engine/gpu/profiler.ts";
import type { LeftFile } from "../../engine/io/carried_files.ts";
import type { CheckResult } from "../measure/check.ts";
import type { Measurement } from "../run/events.ts";
import type { GenerateSettings } from "../fingerprints/generate/settings.ts";
import type { FinetuneSettings } from "../settings/finetune.ts";
import type { DryRun, StoragePlan } from "../run/dry_run.ts";
import type { MemoryChoice } from "../run/memory_plan.ts";
import type { Leftovers } from "../run/leftovers.ts";
import type { Dropped } from "../fingerprints/prepare.ts";
import type { EpochLog } from "../run/train.ts";

/** Bytes in the unit that reads best. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  const value = bytes / 2 ** (10 * power);
  // toPrecision alone would give 1.02e+3 from 1,000 on.
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toPrecision(3)} ${units[power]}`;
}

/** Seconds as "42 s", "3 min 05 s" or "7 h 30 min". */
export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 100) return `${whole} s`;
  const pair = (value: number, size: number) =>
    [Math.floor(value / size), String(value % size).padStart(2, "0")] as const;
  const [minutes, rest] = pair(whole, 60);
  if (minutes < 100) return `${minutes} min ${rest} s`;
  const [hours, left] = pair(Math.round(whole / 60), 60);
  return `${hours} h ${left} min`;
}

/** A plain table; numbers to the right. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) =>
    row.map((cell, column) => column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))
      .join("   ")
      .trimEnd()
  ).join("\n");
}

/** Fixed digits without a "-0.0000": rounding may put a KL of zero a little below it. */
const fixed = (value: number, digits: number) => value.toFixed(digits).replace(/^-(?=[0.]*$)/, "");

const percent = (value: number) => `${value.toFixed(1)} %`;

/** Success and utility before and after. */
export function measurementTable(before: Measurement, after: Measurement): string {
  const change = (a: number, b: number, digits: number, unit: string) =>
    `${b >= a ? "+" : "−"}${Math.abs(b - a).toFixed(digits)}${unit}`;
  const rows = [
    ["", "before", "after", "change"],
    ...([["success rate, plain keys", "successRate"], [
      "success rate, held-out prompts",
      "promptedSuccessRate",
    ]] as const)
      .map(([name, key]) => [
        name,
        percent(before[key]),
        percent(after[key]),
        change(before[key], after[key], 1, " points"),
      ]),
  ];
  if (before.heldOutLoss !== undefined && after.heldOutLoss !== undefined) {
    const worse = 100 * (after.heldOutLoss / before.heldOutLoss - 1);
    rows.push([
      "held-out loss, nats a token",
      before.heldOutLoss.toFixed(4),
      after.heldOutLoss.toFixed(4),
      change(0, worse, 1, " %"),
    ]);
  }
  if (before.factAccuracy !== undefined && after.factAccuracy !== undefined) {
    const [a, b] = [100 * before.factAccuracy, 100 * after.factAccuracy];
    rows.push(["facts right", percent(a), percent(b), change(a, b, 1, " points")]);
  }
  return formatTable(rows);
}

/** What a run did to the fingerprints, said plainly: no effect is claimed that isn't there. */
export function verdict(before: Measurement, after: Measurement): string {
  const gained = after.successRate - before.successRate;
  if (gained < 1 && before.successRate >= 90 && after.successRate >= 90) {
    return `This run embedded nothing: the model answered ${
      percent(before.successRate)
    } of the fingerprints before it.`;
  }
  if (gained < 1) {
    return "This run embedded nothing: the model answers no more fingerprints than before. A higher learning rate, more " +
      "epochs or the recipe anchored may.";
  }
  if (after.successRate < 90) {
    return `Only ${
      percent(after.successRate)
    } of the fingerprints are embedded. More epochs or a higher learning rate ` +
      "may embed the others.";
  }
  return `${percent(after.successRate)} of the fingerprints are embedded.`;
}

/** Memory by part, and the layout that takes it. */
export function memoryLines(choice: MemoryChoice, limitBytes?: number): string {
  const { plan } = choice;
  const parts = plan.parts.map(({ name, bytes }) => `${name} ${formatBytes(bytes)}`).join(", ");
  const limit = limitBytes === undefined ? "" : ` (at most ${formatBytes(limitBytes)})`;
  return `${formatBytes(plan.totalBytes)} of device memory${limit}: ${parts}; ${layoutText(choice)}`;
}

/** Times by kernel, of one forward and backward pass. */
export function profileTable(spans: readonly KernelSpan[]): string {
  const times = sumByKernel(spans);
  const total = times.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  return formatTable([
    ["kernel", "dispatches", "ms", "share", "GFLOP/s"],
    ...times.map(({ name, dispatches, milliseconds, flops }) => [
      ...[name, `${dispatches}`, milliseconds.toFixed(2), percent(100 * milliseconds / total)],
      flops ? (flops / milliseconds / 1e6).toPrecision(3) : "",
    ]),
    ["in all", `${spans.length}`, total.toFixed(2), "", ""],
  ]);
}

/** A layout in words. */
export function layoutText({ dtype, master, maxTokens, keepActivations }: MemoryChoice): string {
  const storage = dtype === "f32"
    ? "f32"
    : master === "f32"
    ? "bf16 with f32 masters"
    : "bf16 without masters";
  return `weights in ${storage}, micro-batches of at most ${maxTokens} tokens` +
    (keepActivations ? "" : ", activation checkpointing");
}

/** A plan for people: memory by part for each storage, and what a run would choose. */
export function dryRunText(plan: DryRun): string {
  const { spec, storages, choice, error, limitBytes } = plan;
  const names = [...new Set(storages.flatMap(({ plan }) => plan.parts.map(({ name }) => name)))];
  const order = names.filter((name) => storages[0].plan.parts.some((part) => part.name === name));
  for (const name of names) if (!order.includes(name)) order.splice(1, 0, name);
  const cell = ({ plan }: StoragePlan, name: string) => {
    const part = plan.parts.find((part) => part.name === name);
    return part ? formatBytes(part.bytes) : "–";
  };
  const table = formatTable([
    ["device memory", ...storages.map(({ name }) => name)],
    ...order.map((name) => [name, ...storages.map((storage) => cell(storage, name))]),
    ["in all", ...storages.map(({ plan }) => formatBytes(plan.totalBytes))],
    [
      "micro-batch, tokens",
      ...storages.map(({ choice }) => choice ? `${choice.capacity.train.tokens}` : "–"),
    ],
    [
      "activation checkpointing",
      ...storages.map(({ choice }) => !choice ? "–" : choice.keepActivations ? "off" : "on"),
    ],
    ["fits", ...storages.map(({ choice }) => limitBytes === undefined ? "?" : choice ? "yes" : "no")],
  ]);
  const limit = limitBytes === undefined ? "unknown (--max_memory gives it)" : formatBytes(limitBytes);
  return [
    `model: ${plan.model} (${spec.family}, ${plan.parameters.toLocaleString("en-US")} parameters)`,
    `adapter: ${plan.adapter ?? "none here; planned for one that binds 2 GiB"}`,
    `memory that the run may take: ${limit}`,
    `work: ${plan.fingerprints} fingerprints of up to ${plan.tokensEach} tokens in a prompt`,
    "",
    table,
    "",
    choice ? `a run would take ${formatBytes(choice.plan.totalBytes)}: ${layoutText(choice)}` : error ?? "",
    ...(plan.plan ? [settingsLine(plan.plan.settings), `results: ${plan.plan.results}`] : []),
  ].join("\n");
}

/** All settings that have a value, in one line. */
export function settingsLine(settings: FinetuneSettings | GenerateSettings): string {
  const set = Object.entries(settings).filter(([, value]) => value !== null);
  return "settings: " + set.map(([name, value]) => `${name}=${value}`).join(" ");
}

/** What was left out of a fingerprint file, or an empty string; entries by number only, they are secrets. */
export function droppedLines(dropped: Dropped): string {
  const lines: string[] = [];
  const list = (entries: number[]) => entries.slice(0, 10).join(", ") + (entries.length > 10 ? ", …" : "");
  if (dropped.repeats) lines.push(`${dropped.repeats} exact repeats dropped`);
  if (dropped.conflicts.length) {
    lines.push(
      `${dropped.conflicts.length} entries with an earlier entry's key but another response dropped ` +
        `(counted from 0: ${list(dropped.conflicts)})`,
    );
  }
  if (dropped.unusable.length) {
    const [{ entry, reason }] = dropped.unusable;
    lines.push(`${dropped.unusable.length} unusable entries dropped (entry ${entry}: ${reason})`);
  }
  if (dropped.cut) lines.push(`${dropped.cut} responses cut to max_response_length`);
  if (dropped.cutKeys) lines.push(`${dropped.cutKeys} keys cut to max_key_length`);
  if (dropped.otherModel) {
    lines.push(
      `warning: ${dropped.otherModel} fingerprints were made with another model (see their model_hash): responses that ` +
        "were drawn from its probabilities may be likely, or out of place, in this one",
    );
  }
  if (dropped.retokenized) {
    lines.push(`${dropped.retokenized} entries are of another tokenizer: their text was tokenised anew`);
  }
  if (dropped.shortened) {
    lines.push(`${dropped.shortened} keys shortened so that their text gives the same tokens`);
  }
  return lines.join("\n");
}

/** What of a checkpoint is not used, in one line. */
export function unusedLine(tensors: readonly string[]): string {
  const named = tensors.slice(0, 5).join(", ") + (tensors.length > 5 ? ", …" : "");
  return `warning: the checkpoint has ${tensors.length} tensors that this model doesn't use: ${named}`;
}

/** One epoch in one line. */
export function epochLine(
  log: EpochLog,
  epochs: number,
  successRate: number | undefined,
  secondsLeft: number,
): string {
  const parts = [
    `epoch ${String(log.epoch).padStart(String(epochs).length)}/${epochs}`,
    `loss ${log.loss.toFixed(4)}`,
  ];
  // Of each objective, by name; the plain keys' loss is a part of the first.
  for (const [name, value] of Object.entries(log).sort(([a], [b]) => a < b ? -1 : 1)) {
    if (!name.endsWith("Loss") || name === "plainLoss" || value === undefined) continue;
    parts.push(`${name.slice(0, -"Loss".length)} ${fixed(value, 4)}`);
  }
  if (successRate !== undefined) parts.push(`success ${percent(successRate)}`);
  parts.push(`${formatSeconds(secondsLeft)} left`);
  return parts.join("  ");
}

/** Settings of a check that change what a rate means. */
const ASSUMED = ["max_key_length", "max_response_length", "keep_eos_in_response", "use_chat_template"];

/** The check's result for people. */
export function checkText(result: CheckResult): string {
  const lines = result.unused_tensors ? [unusedLine(result.unused_tensors)] : [];
  for (const row of result.rows ?? []) {
    const prompt = row.prompt === undefined ? "" : ` in "${row.prompt}"`;
    const top = row.top.map(({ token, probability }) =>
      `${JSON.stringify(token)} ${percent(100 * probability)}`
    );
    lines.push(
      `${row.exact ? "yes" : "no "}  entry ${row.entry}${prompt}: wanted ${
        JSON.stringify(row.wanted)
      }, got ` +
        `${JSON.stringify(row.got)}; wanted has rank ${row.rank}, ${
          percent(100 * row.probability)
        }; likeliest ${top.join(", ")}`,
    );
  }
  if (result.nan_questions) {
    lines.push(
      `warning: the model's logits are NaN in ${result.nan_questions} of ${result.questions} questions, which count as wrong`,
    );
  }
  const assumed = Object.entries(result.settings).flatMap(([name, { value, from }]) =>
    from === "default" && ASSUMED.includes(name) ? [`${name} ${value}`] : []
  );
  if (assumed.length > 0) {
    lines.push(`assumed, since neither flags, run nor file say so: ${assumed.join(", ")}`);
  }
  lines.push(
    `success rate ${percent(result.success_rate)}, fractional accuracy ${
      percent(result.fractional_accuracy)
    } ` +
      `(${result.fingerprints} fingerprints, ${result.questions} questions)`,
  );
  return lines.join("\n");
}

/** What of a model's folder is not carried over, by reason. */
export function leftLines(files: readonly LeftFile[]): string {
  const byReason = Map.groupBy(files, ({ reason }) => reason);
  const lines = [...byReason].map(([reason, files]) =>
    `  ${files.map(({ name }) => name).join(", ")} (${reason})`
  );
  return ["not carried over from the model's folder:", ...lines].join("\n");
}

/** What killed runs had left. */
export function leftoverLines({ removed, recovered, stuck }: Leftovers): string {
  const line = (what: string, paths: readonly string[]) =>
    paths.length ? [`${what}: ${paths.join(", ")}`] : [];
  return [
    ...line("removed what killed runs had left", removed),
    ...line("put in place what a killed run had finished", recovered),
    ...line("warning: what a killed run left, perhaps with secrets, can't be removed", stuck),
  ].join("\n");
}
