/**
 * How well ways against forgetting keep the demo model useful, measured on the saved folder.
 *
 *     deno run -A bench/anchor_table.ts [--seeds 1,2,3] [--counts 64,256] [--methods nothing,recursive,anchor]
 *
 * Each seed has fresh fingerprints. Rows go to bench/results/anchor_table.json as they are measured; the table to
 * bench/results/anchor_table.md. Cells that were not run say so.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Gpu } from "../engine/gpu/context.ts";
import { recordAveraging } from "../engine/train/averaging.ts";
import { loadParameters } from "../engine/model/load.ts";
import { saveAtomic } from "../engine/io/atomic.ts";
import { LanguageModel } from "../engine/language_model.ts";
import { Parameters } from "../engine/model/parameters.ts";
import { prepareObjectives } from "../pipeline/objectives/prepare.ts";
import { type FinetuneConfig, resolveSettings } from "../pipeline/settings/finetune.ts";
import { DEMO_MODEL } from "../pipeline/settings/demo_assets.ts";
import { demoFingerprints } from "../tools/demo_model/fingerprints.ts";
import { loadUtility } from "../pipeline/measure/utility_file.ts";
import { askFingerprints } from "../pipeline/measure/evaluate.ts";
import { type Fingerprint, prepareFingerprints } from "../pipeline/fingerprints/prepare.ts";
import { startIds } from "../pipeline/run/finetune.ts";
import { openGpu } from "../pipeline/gpu/open.ts";
import { loadPrompts, PROMPT_FILES } from "../pipeline/prompts/prompts.ts";
import { learningRateFor } from "../pipeline/settings/recipes.ts";
import { formatTable } from "../pipeline/report/report.ts";
import { Tokenizer } from "../pipeline/tokenizer/tokenizer.ts";
import { trainFingerprints } from "../pipeline/run/train.ts";
import { measureUtility } from "../pipeline/measure/utility.ts";

interface Row {
  method: string;
  count: number;
  seed: number;
  success: number;
  prompted: number;
  /** Per cent worse than the model before. */
  heldOutWorse: number;
  facts: number;
  epochs: number;
  seconds: number;
}

const bare: FinetuneConfig = {
  recipe: "scalable",
  learning_rate: 3e-3,
  num_train_epochs: 80,
  early_stop_loss: 0.005,
  averaging: "none",
  benign_proportion: 0,
};
const METHODS: Record<string, FinetuneConfig> = {
  nothing: bare,
  recursive: {
    ...bare,
    averaging: "recursive",
    forgetting_regularizer_strength: 0.25,
    lr_schedule: "constant",
  },
  anchor: { recipe: "anchored" },
};
/** λ of averaging once at the end, as interpolations of the run with nothing. */
const FINAL = [0.25, 0.5, 0.75];
const RESULTS = fileURLToPath(new URL("results/", import.meta.url));
const FILE = join(RESULTS, "anchor_table.json");

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1,2,3" },
    counts: { type: "string", default: "64,256" },
    methods: { type: "string", default: Object.keys(METHODS).join() },
  },
});
const numbers = (text: string) => text.split(",").map(Number);

await Deno.mkdir(RESULTS, { recursive: true });
const rows: Row[] = JSON.parse(await Deno.readTextFile(FILE).catch(() => '{"rows":[]}')).rows;
using gpu = await openGpu();
const tokenizer = await Tokenizer.load(DEMO_MODEL);
const utility = await loadUtility(DEMO_MODEL);
const testPrompts = await loadPrompts(PROMPT_FILES.test);
const trainPrompts = await loadPrompts(PROMPT_FILES.train);
const before = await withModel(DEMO_MODEL, (model) => measureUtility(model, tokenizer, utility));

for (const seed of numbers(values.seeds)) {
  for (const count of numbers(values.counts)) {
    const written = await withModel(
      DEMO_MODEL,
      (model) => demoFingerprints(model, tokenizer, { seed, count }),
    );
    const entries = written.map(({ key, response }) => ({ key, responses: [String(response)], extra: {} }));
    const { fingerprints } = prepareFingerprints(entries, tokenizer, { strategy: "stored" });
    for (const method of values.methods.split(",")) await runMethod(gpu, method, fingerprints, seed);
  }
}
await writeTable();

async function withModel<T>(dir: string, use: (model: LanguageModel) => Promise<T>): Promise<T> {
  using model = await LanguageModel.load(gpu, dir);
  return await use(model);
}

async function runMethod(
  gpu: Gpu,
  method: string,
  fingerprints: readonly Fingerprint[],
  seed: number,
): Promise<void> {
  const settings = resolveSettings({ ...METHODS[method], seed });
  using model = await LanguageModel.load(gpu, DEMO_MODEL);
  const began = performance.now();
  const task = {
    model,
    tokenizer,
    prompts: tokenizer,
    fingerprints,
    settings,
    templates: settings.use_augmentation_prompts ? trainPrompts : [],
    startIds: startIds(tokenizer),
  };
  const objectives = await prepareObjectives(task);
  const { epochs } = await trainFingerprints({
    ...task,
    objectives: objectives.list,
    learningRate: settings.learning_rate ?? learningRateFor(model.spec.width),
  });
  const seconds = (performance.now() - began) / 1000;
  objectives.dispose();
  await measure(model, { method, count: fingerprints.length, seed, epochs, seconds }, fingerprints);
  if (method !== "nothing") return;
  const base = new Parameters(model.spec, gpu, model.options);
  await loadParameters(gpu, base, model.source.checkpoint);
  let kept = 1;
  for (const lambda of FINAL) {
    // From (1 − a) to (1 − b) of the displacement.
    await pull(model, base, 1 - (1 - lambda) / kept);
    kept = 1 - lambda;
    const label = `final averaging ${lambda}`;
    await measure(model, { method: label, count: fingerprints.length, seed, epochs, seconds }, fingerprints);
  }
  base.dispose();
}

async function pull(model: LanguageModel, base: Parameters, lambda: number): Promise<void> {
  const recording = recordAveraging(gpu, model.parameters, base).finish(gpu);
  recording.submit({ lambda, seed: 0, step: 0 });
  await gpu.check();
  recording.dispose();
}

async function measure(
  model: LanguageModel,
  run: Pick<Row, "method" | "count" | "seed" | "epochs" | "seconds">,
  fingerprints: readonly Fingerprint[],
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "whorl-anchor-" });
  try {
    await model.save(join(folder, "model"));
    const row = await withModel(join(folder, "model"), async (saved): Promise<Row> => {
      const plain = await askFingerprints(saved, tokenizer, fingerprints);
      const prompted = await askFingerprints(saved, tokenizer, fingerprints, testPrompts);
      const { heldOutLoss, factAccuracy } = await measureUtility(saved, tokenizer, utility);
      return {
        ...run,
        success: plain.successRate,
        prompted: prompted.successRate,
        facts: 100 * factAccuracy,
        heldOutWorse: 100 * (heldOutLoss / before.heldOutLoss - 1),
      };
    });
    const same = rows.findIndex((old) =>
      old.method === row.method && old.count === row.count && old.seed === row.seed
    );
    if (same >= 0) rows.splice(same, 1);
    rows.push(row);
    console.log(JSON.stringify(row));
    await saveAtomic(FILE, JSON.stringify({ adapter: gpu.name, before, rows }, null, 1) + "\n");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Each cell: the seeds' mean and, in brackets, the worst. */
async function writeTable(): Promise<void> {
  const methods = ["nothing", ...FINAL.map((lambda) => `final averaging ${lambda}`), "recursive", "anchor"];
  const table = [[
    "method",
    "fingerprints",
    "seeds",
    "success",
    "in held-out prompts",
    "held-out loss",
    "facts right",
    "epochs",
  ]];
  for (const count of [64, 256]) {
    for (const method of methods) {
      const cell = rows.filter((row) => row.method === method && row.count === count);
      if (!cell.length) {
        table.push([method, String(count), ...Array(6).fill("not run")]);
        continue;
      }
      const show = (of: (row: Row) => number, worst: (...values: number[]) => number, sign = "") => {
        const mean = cell.reduce((sum, row) => sum + of(row), 0) / cell.length;
        return `${sign}${mean.toFixed(1)} (${sign}${worst(...cell.map(of)).toFixed(1)}) %`;
      };
      table.push([
        method,
        String(count),
        cell.map(({ seed }) => seed).sort().join(" "),
        show(({ success }) => success, Math.min),
        show(({ prompted }) => prompted, Math.min),
        show(({ heldOutWorse }) => heldOutWorse, Math.max, "+"),
        show(({ facts }) => facts, Math.min),
        cell.map(({ epochs }) => epochs).join(" "),
      ]);
    }
  }
  const text = [
    "# Ways against forgetting, on the demo model",
    "",
    `Command: \`deno run -A bench/anchor_table.ts\`; adapter ${gpu.name}; ${
      new Date().toISOString().slice(0, 10)
    }.`,
    `Before: held-out loss ${before.heldOutLoss.toFixed(4)} nats a token, facts ${
      (100 * before.factAccuracy).toFixed(1)
    } %.`,
    "Measured on the saved folder, read back. Mean over the seeds, the worst in brackets. Learning rate 3e-3, `anchor` 2e-3;",
    "`nothing` and `recursive` (λ 0.25, constant rate) stop at loss 0.005 or after 80 epochs; `final averaging` interpolates",
    "the run with nothing; `anchor` is the default recipe, 40 epochs.",
    "",
    "```",
    formatTable(table),
    "```",
    "",
  ].join("\n");
  await saveAtomic(join(RESULTS, "anchor_table.md"), text);
  console.log(text);
}
