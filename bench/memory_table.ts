/**
 * What training published models takes, computed by the memory plan: the table of docs/memory.md, and the README's of
 * what fits on which GPU.
 *
 *     ./whorl deno run -A bench/memory_table.ts
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

/** Memory sizes that GPUs are sold with, in GiB. */
const GPU_SIZES = [8, 12, 16, 24, 48, 80];
/** Share of a GPU's memory that a run may take: the rest is for the driver, a desktop and what pools round up. */
const USABLE = 0.9;

/** Bytes of the smallest layout and of the fastest. */
interface Range {
  least: number;
  fastest: number;
}

/** What training one published model takes. */
interface ShapeMemory {
  name: string;
  parameters: number;
  f32: Range;
  bf16: Range;
}

/** Every shape of {@link MODEL_SHAPES}, for 1,024 fingerprints and the default recipe. */
export function shapeMemory(): ShapeMemory[] {
  const settings = resolveSettings({});
  const work = workloadOf(assumedLengths(settings, FINGERPRINTS), settings);
  return Object.entries(MODEL_SHAPES).map(([name, config]) => {
    const spec = modelSpec(config);
    const parameters = parameterSpecs(spec).reduce((sum, { shape }) => {
      return sum + shape.reduce((product, size) => product * size, 1);
    }, 0);
    const range = (storage: Parameters<typeof memoryLayouts>[4]): Range => {
      const totals = Array.from(
        memoryLayouts(TARGET, spec, settings, work, storage),
        ({ plan }) => plan.totalBytes,
      );
      return { least: Math.min(...totals), fastest: totals[0] };
    };
    return {
      name,
      parameters,
      f32: range({ dtype: "f32", master: "f32" }),
      bf16: range({ dtype: "bf16", master: "none" }),
    };
  });
}

/** Markdown: for each shape the memory of the smallest and the fastest layout, f32 and bf16 alone, in GiB. */
export function memoryTable(shapes: readonly ShapeMemory[]): string {
  const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  const text = ({ least, fastest }: Range) => `${gib(least)} … ${gib(fastest)}`;
  return markdown([
    ["model", "parameters", "f32, or bf16 with f32 masters", "bf16 alone"],
    ...shapes.map(({ name, parameters, f32, bf16 }) => {
      return [name, parameters.toLocaleString("en-US"), text(f32), text(bf16)];
    }),
  ]);
}

/** Markdown: for each size of GPU the models whose smallest layout fits there and not on the size before. */
export function gpuTable(shapes: readonly ShapeMemory[]): string {
  const fitting = (kind: "f32" | "bf16", from: number, to: number) => {
    const names = shapes.filter(({ [kind]: { least } }) => {
      return least > from * USABLE * 2 ** 30 && least <= to * USABLE * 2 ** 30;
    }).map(({ name }) => name);
    return names.join(", ") || "–";
  };
  return markdown([
    ["GPU memory", "bf16 alone", "f32, or bf16 with f32 masters"],
    ...GPU_SIZES.map((size, i) => {
      const before = GPU_SIZES[i - 1] ?? 0;
      return [`${size} GB`, fitting("bf16", before, size), fitting("f32", before, size)];
    }),
  ]);
}

function markdown(table: string[][]): string {
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
  const line = (row: string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [line(table[0]), rule, ...table.slice(1).map(line)].join("\n");
}

if (import.meta.main) {
  const shapes = shapeMemory();
  console.log(`${memoryTable(shapes)}\n\n${gpuTable(shapes)}`);
}
