/**
 * How many fingerprints the demo model takes, and what they cost: success and usefulness against their number, for plain
 * fine-tuning, with averaging, and with the anchor. The seeds' scalability figure, at toy scale.
 *
 *     deno run -A bench/scalability.ts [--counts 16,64,256,1024] [--methods nothing,recursive,anchor] [--seed 1]
 *     deno run -A bench/scalability.ts --draw        only the table and the plot, from the rows that are there
 *
 * Fingerprints are generated first (perinucleus, from the demo model). Rows are added to bench/results/scalability.json;
 * the table and the plot are made from all of them.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { saveAtomic } from "../engine/io/atomic.ts";
import type { FinetuneConfig } from "../pipeline/settings/finetune.ts";
import type { Measurement } from "../pipeline/run/events.ts";
import { finetune } from "../pipeline/run/finetune.ts";
import { generateFingerprints } from "../pipeline/fingerprints/generate/generate.ts";
import { openGpu } from "../pipeline/gpu/open.ts";
import { formatTable } from "../pipeline/report/report.ts";
import { type Environment, environment } from "./environment.ts";
import { scalabilityPlot } from "./scalability_plot.ts";

/** One run. */
interface ScalabilityRow {
  method: string;
  count: number;
  before: Measurement;
  after: Measurement;
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
const RESULTS = fileURLToPath(new URL("results/", import.meta.url));
const FILE = join(RESULTS, "scalability.json");

const { values } = parseArgs({
  options: {
    counts: { type: "string", default: "16,64,256,1024" },
    methods: { type: "string", default: Object.keys(METHODS).join() },
    seed: { type: "string", default: "1" },
    draw: { type: "boolean", default: false },
  },
});
const counts = values.counts.split(",").map(Number);
const { rows, environment: measuredOn }: { rows: ScalabilityRow[]; environment: Environment } = JSON.parse(
  await Deno.readTextFile(FILE).catch(() => '{"rows":[]}'),
);
if (values.draw) {
  await write(measuredOn);
  Deno.exit();
}
const place = await environment();
const folder = await Deno.makeTempDir({ prefix: "whorl-scalability-" });
try {
  using gpu = await openGpu();
  const file = join(folder, "fingerprints.json");
  const many = Math.max(...counts);
  const { summary } = await generateFingerprints({
    key_response_strategy: "perinucleus",
    num_fingerprints: many,
    key_length: 8,
    seed: Number(values.seed),
    output_file_path: file,
  }, { gpu });
  console.log(`generated ${summary.count} fingerprints`);
  for (const count of counts) {
    for (const method of values.methods.split(",")) {
      const { before, after, epochs, seconds } = await finetune({
        fingerprints_file_path: file,
        num_fingerprints: count,
        output_dir: join(folder, method),
        max_key_length: 8,
        seed: Number(values.seed),
        force: true,
        ...METHODS[method],
      }, { gpu });
      const row = { method, count, before, after, epochs, seconds };
      const old = rows.findIndex((one) => one.method === method && one.count === count);
      if (old < 0) rows.push(row);
      else rows[old] = row;
      console.log(`${method}, ${count}: ${after.successRate.toFixed(1)} % in ${seconds.toFixed(0)} s`);
      await write(place);
    }
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}

async function write(where: Environment): Promise<void> {
  rows.sort((a, b) =>
    a.count - b.count || Object.keys(METHODS).indexOf(a.method) - Object.keys(METHODS).indexOf(b.method)
  );
  const { adapter, date, commit } = where;
  const data = { environment: where, seed: Number(values.seed), rows };
  await saveAtomic(FILE, JSON.stringify(data, null, 2) + "\n");
  const table = formatTable([
    ["method", "fingerprints", "success", "in held-out prompts", "held-out loss", "facts right", "seconds"],
    ...rows.map(({ method, count, before, after, seconds }) => [
      ...[
        method,
        `${count}`,
        `${after.successRate.toFixed(1)} %`,
        `${after.promptedSuccessRate.toFixed(1)} %`,
      ],
      `${worse({ before, after }).toFixed(1)} %`,
      ...[`${(100 * after.factAccuracy!).toFixed(1)} %`, seconds.toFixed(0)],
    ]),
  ]);
  const text = `# Fingerprints in the demo model, by their number\n\n` +
    `\`deno run -A bench/scalability.ts\` on ${adapter}, ${
      date.slice(0, 10)
    }, commit ${commit}, seed ${values.seed}. Perinucleus ` +
    `fingerprints of 8 tokens, generated by the demo model. "nothing" is plain fine-tuning, "recursive" averages with ` +
    `the initial weights (0.25) after each epoch, "anchor" is the default recipe. Held-out loss is how much worse it ` +
    `got.\n\n\`\`\`\n${table}\n\`\`\`\n\n![Success and usefulness against the number of fingerprints](scalability.svg)\n`;
  await saveAtomic(join(RESULTS, "scalability.md"), text);
  await saveAtomic(join(RESULTS, "scalability.svg"), scalabilityPlot(rows));
}

/** Per cent by which the held-out loss grew. */
function worse({ before, after }: Pick<ScalabilityRow, "before" | "after">): number {
  return 100 * (after.heldOutLoss! / before.heldOutLoss! - 1);
}
