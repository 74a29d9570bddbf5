import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { Checkpoint } from "../../engine/io/safetensors.ts";
import { flags, names, whorl } from "./command.ts";
import { TinyModel } from "./tiny_model.ts";

let tiny: TinyModel;
let runs = 0;

Deno.test.beforeAll(async () => {
  tiny = await TinyModel.create();
});
Deno.test.afterAll(() => tiny[Symbol.dispose]());

/** One run's output and what it wrote. */
interface Run {
  out: string;
  results: string;
  log: { epoch: number; steps: number; loss: number; gradNorm: number; learningRate: number }[];
  settings: Record<string, unknown>;
  model: string;
  weights: Map<string, Float32Array>;
}

type Values = Record<string, string | number | true>;

async function finetune(values: Values, paths: Values = {}): Promise<Run> {
  const output_dir = tiny.path(`results${runs++}`);
  const where = { model_path: tiny.model, fingerprints_file_path: tiny.fingerprints, output_dir, ...paths };
  const { code, out, err } = await whorl(["finetune", ...flags({ ...where, ...values })]);
  assert.equal(code, 0, err);
  const results = join(output_dir, names(output_dir)[0]);
  const model = join(results, "final_model");
  const config = JSON.parse(await Deno.readTextFile(join(results, "config.json")));
  const log = (await Deno.readTextFile(join(results, "log.jsonl"))).trimEnd().split("\n");
  return {
    out,
    results,
    log: log.map((line) => JSON.parse(line)),
    settings: config.settings,
    model,
    weights: await weightsOf(model),
  };
}

async function weightsOf(folder: string): Promise<Map<string, Float32Array>> {
  using checkpoint = await Checkpoint.open(folder);
  const weights = new Map<string, Float32Array>();
  for (const name of checkpoint.tensors.keys()) weights.set(name, await checkpoint.read(name));
  return weights;
}

/** Largest distance of any weight from what `expected` says, as a share of the largest weight of its tensor. */
function distance(found: Map<string, Float32Array>, expected: (name: string, i: number) => number): number {
  let worst = 0;
  for (const [name, values] of found) {
    const scale = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    values.forEach((value, i) => worst = Math.max(worst, Math.abs(value - expected(name, i)) / scale));
  }
  return worst;
}

/** A run that embeds everything in little time. */
const quick = { recipe: "scalable", learning_rate: 0.012, early_stop_loss: 0, num_train_epochs: 6 };

Deno.test("a recipe that embeds nothing says so, and its settings are those printed and saved", async () => {
  for (
    const [recipe, expected] of Object.entries({
      oml: {
        learning_rate: 1e-5,
        fingerprint_generation_strategy: "english",
        keep_eos_in_response: true,
        averaging: "final",
        forgetting_regularizer_strength: 0.75,
        use_augmentation_prompts: false,
      },
      scalable: {
        learning_rate: 5e-5,
        fingerprint_generation_strategy: "perinucleus",
        keep_eos_in_response: false,
        averaging: "final",
        forgetting_regularizer_strength: 0.75,
        early_stop_loss: 0.005,
      },
    })
  ) {
    const { out, settings, log } = await finetune({ recipe });
    assert.match(out, /^This run embedded nothing: /m);
    assert.doesNotMatch(out, /are embedded/);
    assert.deepEqual({ ...settings, ...expected, recipe }, settings);
    for (const [name, value] of Object.entries(expected)) assert.ok(out.includes(` ${name}=${value}`), name);
    assert.equal(log.length, recipe === "oml" ? 10 : 30);
    assert.ok(log.every((line) => !("anchorLoss" in line)));
  }
});

Deno.test("averaging: final is the mean with the initial weights, recursive pulls after each epoch", async () => {
  const initial = await weightsOf(tiny.model);
  const none = await finetune({ ...quick, averaging: "none" });
  const half = { ...quick, forgetting_regularizer_strength: 0.25 };
  const final = await finetune({ ...half, averaging: "final" });
  assert.deepEqual(final.log.map(({ loss }) => loss), none.log.map(({ loss }) => loss));
  const at = (weights: Map<string, Float32Array>, name: string, i: number) => weights.get(name)![i];
  const mean = (name: string, i: number) => 0.75 * at(none.weights, name, i) + 0.25 * at(initial, name, i);
  assert.ok(distance(final.weights, mean) < 1e-6);
  assert.ok(distance(none.weights, (name, i) => at(initial, name, i)) > 0.01);

  const recursive = await finetune({ ...half, averaging: "recursive", lr_schedule: "constant" });
  assert.ok(recursive.log.every(({ learningRate }) => Math.abs(learningRate - 0.012) < 1e-9));
  assert.notEqual(recursive.log[1].loss, none.log[1].loss);

  // Nothing but the initial model is left, and nothing is claimed.
  const all = await finetune({ ...quick, averaging: "recursive", forgetting_regularizer_strength: 1 });
  assert.equal(distance(all.weights, (name, i) => at(initial, name, i)), 0);
  assert.match(all.out, /^This run embedded nothing: /m);
  assert.ok(all.log.every(({ loss }) => Math.abs(loss / all.log[0].loss - 1) < 1e-5));
});

Deno.test("--batch_size changes nothing beyond rounding", async () => {
  const anchored = { num_train_epochs: 2, anchor_samples: 8, anchor_batch: 4, anchor_length: 8 };
  const one = await finetune(anchored);
  const pieces = await finetune({ ...anchored, batch_size: 5 });
  for (const field of ["loss", "anchorLoss", "gradNorm"] as const) {
    one.log.forEach((line, i) => {
      const [a, b] = [line, pieces.log[i]].map((each) => (each as unknown as Record<string, number>)[field]);
      assert.ok(Math.abs(a - b) <= 1e-3 * Math.abs(a) + 1e-6, `epoch ${i + 1}: ${field} ${a} and ${b}`);
    });
  }
});

Deno.test("--recompute changes memory and no bit; where keeping doesn't fit, the error names the way out", async () => {
  const [always, never] = [
    await finetune({ ...quick, recompute: "always" }),
    await finetune({ ...quick, recompute: "never" }),
  ];
  assert.match(always.out, /^memory: .*, activation checkpointing$/m);
  assert.doesNotMatch(never.out, /activation checkpointing/);
  assert.deepEqual(always.log.map(({ loss }) => loss), never.log.map(({ loss }) => loss));
  assert.deepEqual(always.weights, never.weights);
  assert.equal(basename(always.results), basename(never.results), "it is the same run by its hash");

  const given = { model_path: tiny.model, fingerprints_file_path: tiny.fingerprints, ...quick };
  const told = async (values: Values) => await whorl(["finetune", ...flags({ ...given, ...values })]);
  const dry = await told({ recompute: "always", dry_run: true });
  assert.match(dry.out, /^activation checkpointing +on +on +on$/m);
  const refused = await told({ recompute: "never", max_memory: 1e-4, output_dir: tiny.path("none") });
  assert.equal(refused.code, 4);
  assert.match(refused.err, /^error: training needs .* What would help: --recompute auto \(/m);
});

Deno.test("fewer fingerprints a step, early stop and another dtype, by the flags' other names", async () => {
  const run = await finetune(
    {
      ...quick,
      max_num_fingerprints: 7,
      fingerprints_per_step: 3,
      early_stop_loss: 1,
      num_train_epochs: 30,
      save_dtype: "BF16",
    },
    { averaging: "none" },
  );
  assert.match(run.out, /^fingerprints: 7$/m);
  assert.match(run.out, / \d+ epochs \(stopped early\)$/m);
  assert.ok(run.log.length < 30);
  run.log.forEach(({ epoch, steps }) => assert.equal(steps, 3 * epoch));
  assert.ok(run.log.at(-1)!.loss < 1 && run.log.slice(0, -1).every(({ loss }) => loss >= 1));
  const config = JSON.parse(await Deno.readTextFile(join(run.model, "config.json")));
  assert.equal(config.torch_dtype, "bfloat16");
  using checkpoint = await Checkpoint.open(run.model);
  assert.ok([...checkpoint.tensors.values()].every(({ dtype }) => dtype === "BF16"));

  const dashes = await whorl([
    ...["check", "--model-path", run.model, "--min-success-rate=80", "--use-augmentation-prompts=false"],
  ]);
  assert.equal(dashes.code, 0, dashes.err);
});
