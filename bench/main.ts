/**
 * `deno task bench [name…]`: runs all benchmarks or the named ones and prints their tables as Markdown. Two run
 * only by name: `tune` takes minutes and writes engine/ops/gemm_table.ts, `load` writes 3 GB of files.
 *   (bench/anchor_table.ts, which takes half an hour, is a program of its own)
 *   --json FILE       also writes the figures with their circumstances; only for one benchmark
 *   --save            the same to bench/results/<name>-<date>-<adapter>.json
 *   --rounds N        measured rounds (default 7)
 *   --python PATH     a Python with PyTorch for the peers (or WHORL_PYTHON; else python3 on PATH)
 *   --threads N       CPU threads of the contenders (default: all)
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Benchmark, BenchResult } from "./benchmark.ts";
import { type Environment, environment } from "./environment.ts";
import { gemmBenchmark } from "./gemm.ts";
import { generateBenchmark } from "./generate.ts";
import { growthBenchmark } from "./growth.ts";
import { loadBenchmark } from "./load.ts";
import { memoryBenchmark } from "./memory.ts";
import { rooflineBenchmark } from "./roofline.ts";
import { stepBenchmark } from "./step.ts";
import { tuneBenchmark } from "./tune.ts";

const BENCHMARKS: Benchmark[] = [
  rooflineBenchmark,
  stepBenchmark,
  gemmBenchmark,
  generateBenchmark,
  memoryBenchmark,
  growthBenchmark,
  loadBenchmark,
  tuneBenchmark,
];

function usage(problem: string): never {
  console.error(problem);
  console.error(
    "usage: deno task bench [name…] [--json FILE] [--save] [--rounds N] [--python PATH] [--threads N]",
  );
  for (const { name, what } of BENCHMARKS) console.error(`  ${name.padEnd(8)} ${what}`);
  Deno.exit(2);
}

function readFlags(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        json: { type: "string" },
        save: { type: "boolean", default: false },
        rounds: { type: "string", default: "7" },
        python: { type: "string" },
        threads: { type: "string", default: String(navigator.hardwareConcurrency) },
      },
    });
  } catch (error) {
    usage((error as Error).message);
  }
}

function positiveCount(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) {
    usage(`--${name} is "${text}", expected a positive whole number`);
  }
  return value;
}

function printResult(name: string, place: Environment, { method, tables }: BenchResult): void {
  console.log(`\n## ${name}\n\n${method}\n`);
  const { adapter, driver, deno, os, cpu, cpus, load, commit, date } = place;
  console.log(
    `${adapter}; ${driver}; ${cpus} × ${cpu}; ${os}; Deno ${deno}; commit ${commit}; ${date}; ` +
      `load average before: ${load.toFixed(2)}`,
  );
  for (const { title, columns, rows } of tables) {
    const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
    console.log(`\n${title}\n\n${line(columns)}\n${line(columns.map((_, i) => i ? "---:" : "---"))}`);
    for (const row of rows) console.log(line(row));
  }
}

async function store(path: string, name: string, place: Environment, result: BenchResult): Promise<void> {
  const { method, tables, data } = result;
  const json = JSON.stringify({ benchmark: name, environment: place, method, tables, data }, null, 2);
  await Deno.writeTextFile(path, json + "\n");
  console.error(`written: ${path}`);
}

function resultPath(name: string, { date, adapter }: Environment): string {
  const words = adapter.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  const file = `${name}-${date.slice(0, 10)}-${words}.json`;
  return join(fileURLToPath(new URL("./results", import.meta.url)), file);
}

const args = Deno.args[0] === "--" ? Deno.args.slice(1) : Deno.args;
const { values: flags, positionals } = readFlags(args);
for (const name of positionals) {
  if (!BENCHMARKS.some((benchmark) => benchmark.name === name)) usage(`there is no benchmark "${name}"`);
}
const chosen = BENCHMARKS.filter(({ name, onlyByName }) =>
  positionals.length ? positionals.includes(name) : !onlyByName
);
if (flags.json && chosen.length > 1) usage("--json takes the figures of one benchmark: name it");

const threads = positiveCount("threads", flags.threads);
// lavapipe reads it when its device is made.
Deno.env.set("LP_NUM_THREADS", String(threads));
for (const { name, run } of chosen) {
  const place = await environment();
  const result = await run({
    rounds: positiveCount("rounds", flags.rounds),
    python: flags.python,
    threads,
    progress: (text) => console.error(text),
  });
  printResult(name, place, result);
  if (flags.json) await store(flags.json, name, place, result);
  if (flags.save) {
    await Deno.mkdir(fileURLToPath(new URL("./results", import.meta.url)), { recursive: true });
    await store(resultPath(name, place), name, place, result);
  }
}
