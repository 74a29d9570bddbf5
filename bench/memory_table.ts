/**
 * The README's table of what training published models takes, computed by the memory plan:
 *
 *     deno run -A bench/memory_table.ts
 */
import { modelSpec } from "../engine/models/families.ts";
import { parameterSpecs } from "../engine/models/spec.ts";
import { resolveSettings } from "../pipeline/settings/finetune.ts";
import { assumedLengths } from "../pipeline/run/dry_run.ts";
import { memoryLayouts } from "../pipeline/run/memory_plan.ts";
import { workloadOf } from "../pipeline/run/workload.ts";
import { MODEL_SHAPES } from "./model_shapes.ts";

/** As most GPUs bind. */
const TARGET = { isSoftware: false, maxBindingBytes: 2 ** 31 - 256 };
const FINGERPRINTS = 1024;

/** Markdown: for each shape the memory of the fastest and the smallest layout, f32 and bf16 alone, in GiB. */
export function memoryTable(): string {
  const settings = resolveSettings({});
  const work = workloadOf(assumedLengths(settings, FINGERPRINTS), settings);
  const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  const rows = Object.entries(MODEL_SHAPES).map(([name, config]) => {
    const spec = modelSpec(config);
    const parameters = parameterSpecs(spec).reduce((sum, { shape }) => {
      return sum + shape.reduce((product, size) => product * size, 1);
    }, 0);
    const range = (storage: Parameters<typeof memoryLayouts>[4]) => {
      const totals = Array.from(
        memoryLayouts(TARGET, spec, settings, work, storage),
        ({ plan }) => plan.totalBytes,
      );
      return `${gib(Math.min(...totals))} … ${gib(totals[0])}`;
    };
    return [
      name,
      parameters.toLocaleString("en-US"),
      range({ dtype: "f32", master: "f32" }),
      range({ dtype: "bf16", master: "none" }),
    ];
  });
  const table = [["model", "parameters", "f32, or bf16 with masters", "bf16 alone"], ...rows];
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
  const line = (row: string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [line(table[0]), rule, ...table.slice(1).map(line)].join("\n");
}

if (import.meta.main) console.log(memoryTable());
