/**
 * A model of published shape and random weights on this adapter: loading, logits one whole optimizer step and saving, with
 * times and memory.
 *
 *     deno run -A bench/large_model.ts --shape llama-3.2-1b
 *   --layers N        cut down to so many blocks
 *   --dtype TYPE      auto (default: what the memory plan chooses), f32 or bf16
 *   --master KIND     f32 (default) or none
 *   --max_memory GIB  what the run may take (default: what the system has free, on a software adapter)
 *   --sequences N     sequences of --tokens tokens (default 2 of 18)
 *   --steps N         optimizer steps (default 1; the first compiles)
 *   --save            also writes bench/results/large-<shape>-<dtype>-<date>-<adapter>.json
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { modelSpec } from "../engine/models/families.ts";
import { Model, type StepResult, Trainer } from "../mod.ts";
import { resolveSettings } from "../pipeline/settings/finetune.ts";
import { openGpu } from "../pipeline/gpu/open.ts";
import { chooseMemory, memoryLimit } from "../pipeline/run/memory_plan.ts";
import { formatBytes, formatTable, memoryLines } from "../pipeline/report/report.ts";
import { workloadOf } from "../pipeline/run/workload.ts";
import { environment } from "./environment.ts";
import { countGemms, totalFlops } from "./gemm_shapes.ts";
import { MODEL_SHAPES } from "./model_shapes.ts";
import { writeRandomModel } from "./random_checkpoint.ts";
import { measureRates, shareOf } from "./roofline.ts";
import { significant } from "./statistics.ts";

const { values: flags } = parseArgs({
  options: {
    shape: { type: "string", default: "llama-3.2-1b" },
    layers: { type: "string" },
    dtype: { type: "string", default: "auto" },
    master: { type: "string", default: "f32" },
    max_memory: { type: "string" },
    sequences: { type: "string", default: "2" },
    tokens: { type: "string", default: "18" },
    steps: { type: "string", default: "1" },
    save: { type: "boolean", default: false },
  },
});

const shape = MODEL_SHAPES[flags.shape];
if (!shape) throw new RangeError(`--shape: expected one of ${Object.keys(MODEL_SHAPES).join(", ")}`);
const config = { ...shape, ...(flags.layers ? { num_hidden_layers: Number(flags.layers) } : {}) };
const spec = modelSpec(config);
const [sequences, tokens] = [Number(flags.sequences), Number(flags.tokens)];
const settings = resolveSettings({
  dtype: flags.dtype as "auto",
  master: flags.master as "f32",
  recipe: "oml",
  averaging: "none",
  ...(flags.max_memory ? { max_memory: Number(flags.max_memory) } : {}),
});

/** Highest resident memory of this process so far. */
async function peakResident(): Promise<number> {
  const status = await Deno.readTextFile("/proc/self/status").catch(() => "");
  return 1024 * Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? NaN);
}

const place = await environment();
const dir = await Deno.makeTempDir({ prefix: "whorl-large-" });
const rows: [string, string][] = [];
const data: Record<string, unknown> = { shape: flags.shape, layers: spec.layers, sequences, tokens };
const note = (name: string, value: number, text: string) => {
  rows.push([name, text]);
  data[name] = value;
  console.log(`${name}: ${text}`);
};
async function timed<T>(name: string, work: () => Promise<T>): Promise<T> {
  const began = performance.now();
  const result = await work();
  const seconds = (performance.now() - began) / 1000;
  note(name, seconds, `${seconds.toFixed(2)} s`);
  return result;
}

try {
  await timed("writing the checkpoint", () => writeRandomModel(dir, config, { seed: 1, dtype: "BF16" }));
  using gpu = await openGpu();
  const { fmaGflops } = await measureRates(gpu);
  const lengths = new Array(sequences).fill(tokens - 1);
  const work = workloadOf({ lengths, rows: lengths, longestTemplate: 0, prefix: 0 }, settings);
  work.score = work.train;
  const limit = memoryLimit(gpu, settings);
  const choice = chooseMemory(gpu, spec, settings, work, limit);
  console.log(memoryLines(choice, limit));
  const { dtype, master, maxTokens, keepActivations } = choice;
  const residentBefore = Deno.memoryUsage().rss;
  const options = { dtype, master, maxTokens, keepActivations };
  using model = await timed("loading", () => Model.load(gpu, dir, options));
  const loaded = gpu.memory.peakBytes;
  if (gpu.isSoftware) {
    const host = await peakResident() - residentBefore - loaded;
    note("host memory of loading, beyond the device's", host, formatBytes(Math.max(0, host)));
  }
  const ids = Array.from(
    { length: sequences },
    (_, b) => Array.from({ length: tokens }, (_, t) => (b * 7919 + t * 104729 + 1) % spec.vocabulary),
  );
  const logits = await timed("logits", () => model.logits(ids));
  if (!logits.every((values) => values.every(Number.isFinite))) throw new Error("logits are not finite");
  model.passes.release("logits");
  using trainer = new Trainer(model, { learningRate: 1e-5, totalSteps: Number(flags.steps) });
  const examples = ids.map((ids) => ({ ids, labels: ids.map((id, t) => t === 0 ? -100 : id) }));
  let [flops, stepSeconds] = [0, 0];
  for (let step = 1; step <= Number(flags.steps); step++) {
    const began = performance.now();
    const { loss, gradNorm } = await timed(`optimizer step ${step}`, async () => {
      let result!: StepResult;
      flops = totalFlops(await countGemms(gpu, async () => result = await trainer.step(examples)));
      return result;
    });
    stepSeconds = (performance.now() - began) / 1000;
    if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
      throw new Error(`loss ${loss}, norm ${gradNorm}`);
    }
    note(`loss of step ${step}`, loss, loss.toFixed(4));
  }
  const rate = flops / stepSeconds / 1e9;
  const share = `${shareOf(rate, fmaGflops)} of the f32 rate (${significant(fmaGflops, 3)})`;
  note("GFLOP/s of the last step's matrix products", rate, `${significant(rate, 3)}, ${share}`);
  const [resident, highest] = [Deno.memoryUsage().rss, await peakResident()];
  await timed("saving", () => model.save(join(dir, "saved"), { overwrite: true }));
  if (gpu.isSoftware) {
    // The highest mark may be older than the save; then this is a bound.
    const now = await peakResident();
    const word = now > highest ? "" : "at most ";
    note("host memory of saving", now - resident, word + formatBytes(Math.max(0, now - resident)));
  }
  const { peakBytes } = gpu.memory;
  note("device memory, planned", choice.plan.totalBytes, formatBytes(choice.plan.totalBytes));
  note("device memory, highest", peakBytes, formatBytes(peakBytes));
  if (gpu.isSoftware) {
    const resident = await peakResident() - residentBefore;
    note("growth of the process, highest", resident, formatBytes(resident));
  }
  data.layout = { dtype, master, maxTokens, keepActivations };
} finally {
  await Deno.remove(dir, { recursive: true });
}
console.log("\n" + formatTable([[flags.shape, ""], ...rows]));
if (flags.save) {
  const words = place.adapter.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  const name = `large-${flags.shape}-${flags.dtype}-${place.date.slice(0, 10)}-${words}.json`;
  const path = join(fileURLToPath(new URL("./results", import.meta.url)), name);
  await Deno.writeTextFile(
    path,
    JSON.stringify({ benchmark: "large", environment: place, data }, null, 2) + "\n",
  );
  console.log(`written: ${path}`);
}
