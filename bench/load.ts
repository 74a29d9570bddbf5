/** Loading a checkpoint, beside reading its files and doing nothing with them. */
import { join } from "node:path";
import { modelSpec } from "../engine/models/families.ts";
import { openModelDir } from "../engine/io/model_dir.ts";
import { loadParameters } from "../engine/model/load.ts";
import { Parameters, type StorageOptions } from "../engine/model/parameters.ts";
import { openGpu } from "../pipeline/gpu/open.ts";
import type { Benchmark, BenchOptions, BenchResult } from "./benchmark.ts";
import { MODEL_SHAPES } from "./model_shapes.ts";
import { writeRandomModel } from "./random_checkpoint.ts";
import { significant, type Spread, spread } from "./statistics.ts";

/** Four blocks of Llama-3.2-1B: 506 M parameters. */
const CONFIG = { ...MODEL_SHAPES["llama-3.2-1b"], num_hidden_layers: 4 };

const CASES: readonly { file: "F32" | "BF16"; storage: StorageOptions; title: string }[] = [
  { file: "F32", storage: { dtype: "f32", master: "f32" }, title: "F32 file into f32" },
  { file: "BF16", storage: { dtype: "f32", master: "f32" }, title: "BF16 file into f32" },
  { file: "BF16", storage: { dtype: "bf16", master: "f32" }, title: "BF16 file into bf16 with masters" },
  { file: "F32", storage: { dtype: "bf16", master: "f32" }, title: "F32 file into bf16 with masters" },
];

/** Empties the page cache, where this process may; tells whether it did. */
async function dropCaches(): Promise<boolean> {
  try {
    await new Deno.Command("sync").output();
    await Deno.writeTextFile("/proc/sys/vm/drop_caches", "3");
    return true;
  } catch {
    return false;
  }
}

/** Seconds of reading a file from end to end, 4 MiB at a time. */
function readSeconds(path: string): number {
  using file = Deno.openSync(path);
  const buffer = new Uint8Array(4 << 20);
  const began = performance.now();
  while (file.readSync(buffer)) { /* what was read is overwritten */ }
  return (performance.now() - began) / 1000;
}

/** Seconds of loading a folder. */
async function loadSeconds(dir: string, storage: StorageOptions): Promise<number> {
  using gpu = await openGpu();
  const { config, checkpoint } = await openModelDir(dir);
  const parameters = new Parameters(modelSpec(config), gpu, storage);
  try {
    const began = performance.now();
    await loadParameters(gpu, parameters, checkpoint);
    return (performance.now() - began) / 1000;
  } finally {
    parameters.dispose();
    checkpoint.close();
  }
}

async function run({ rounds, progress }: BenchOptions): Promise<BenchResult> {
  const root = await Deno.makeTempDir({ prefix: "whorl-load-" });
  try {
    const bytes: Record<string, number> = {};
    for (const dtype of ["F32", "BF16"] as const) {
      progress(`load: writing a random ${dtype} checkpoint`);
      await writeRandomModel(join(root, dtype), CONFIG, { seed: 1, dtype });
      bytes[dtype] = (await Deno.stat(join(root, dtype, "model.safetensors"))).size;
    }
    let isCold = true;
    const results = [];
    for (const { file, storage, title } of CASES) {
      const samples = { read: [] as number[], load: [] as number[], share: [] as number[] };
      for (let round = 0; round < rounds; round++) {
        progress(`load: ${title}, round ${round + 1} of ${rounds}`);
        isCold = await dropCaches() && isCold;
        const read = readSeconds(join(root, file, "model.safetensors"));
        await dropCaches();
        const load = await loadSeconds(join(root, file), storage);
        samples.read.push(bytes[file] / read / 1e6);
        samples.load.push(bytes[file] / load / 1e6);
        samples.share.push(100 * read / load);
      }
      results.push({
        title,
        read: spread(samples.read),
        load: spread(samples.load),
        share: spread(samples.share),
      });
    }
    const text = ({ median, min, max }: Spread) =>
      `${significant(median, 3)} (${significant(min, 3)}–${significant(max, 3)})`;
    return {
      method:
        "A random Llama of 506 M parameters (four blocks of Llama-3.2-1B) in one safetensors file. Each round reads " +
        "the file from end to end, 4 MiB at a time, and then loads it onto the device, " +
        (isCold
          ? "both from an empty page cache"
          : "both with whatever is in the page cache, which this process may not empty") +
        ". Medians (least–greatest) of the file's bytes in MB/s, and of the rounds' shares.",
      tables: [{
        title: `Loading, ${rounds} rounds`,
        columns: ["", "reading alone, MB/s", "loading, MB/s", "share, %"],
        rows: results.map(({ title, read, load, share }) => [title, text(read), text(load), text(share)]),
      }],
      data: { bytes, isCold, results },
    };
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

/** `deno task bench load`. */
export const loadBenchmark: Benchmark = {
  name: "load",
  what: "loading a checkpoint beside reading its file",
  onlyByName: true,
  run,
};
