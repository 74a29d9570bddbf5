import assert from "node:assert/strict";
import { join } from "node:path";
import { Checkpoint } from "../../../engine/io/safetensors.ts";
import { dryRun } from "../../../pipeline/run/dry_run.ts";
import type { FinetuneEvent } from "../../../pipeline/run/events.ts";
import { finetune } from "../../../pipeline/run/finetune.ts";
import { planRun } from "../../../pipeline/run/plan.ts";
import { ResultsExistError } from "../../../pipeline/run/results.ts";
import { type FinetuneConfig, resolveSettings } from "../../../pipeline/settings/finetune.ts";
import { dryRunText } from "../../../pipeline/report/report.ts";
import { names } from "../../cli/command.ts";
import { TinyModel } from "../../cli/tiny_model.ts";
import { sharedGpu } from "../../gpu_device.ts";

const gpu = await sharedGpu();

/** The quickest run there is. */
const quick = { num_train_epochs: 1, anchor_strength: 0, use_augmentation_prompts: false } as const;

/** Calls `body` and gives the reads of checkpoints meanwhile: bytes, and whether a sample was asked for, as hashing does. */
async function readsOf(body: () => Promise<unknown>): Promise<{ bytes: number; isSample: boolean }[]> {
  const original = Checkpoint.prototype.streamBytes;
  const reads: { bytes: number; isSample: boolean }[] = [];
  Checkpoint.prototype.streamBytes = function (name, pieceBytes, onPiece, part) {
    const { begin, end } = this.tensors.get(name)!;
    reads.push({ bytes: part?.bytes ?? end - begin, isSample: part?.bytes !== undefined });
    return original.call(this, name, pieceBytes, onPiece, part);
  };
  try {
    await body();
  } finally {
    Checkpoint.prototype.streamBytes = original;
  }
  return reads;
}

function isDeeplyFrozen(value: unknown): boolean {
  return typeof value !== "object" || value === null ||
    (Object.isFrozen(value) && Object.values(value).every(isDeeplyFrozen));
}

Deno.test("a plan settles everything that was left open, and nothing can change it", async () => {
  using tiny = await TinyModel.create();
  const config: FinetuneConfig = {
    model_path: tiny.model,
    fingerprints_file_path: tiny.fingerprints,
    output_dir: tiny.path("results"),
  };
  const { plan, inputs } = await planRun(config, gpu);
  assert.ok(isDeeplyFrozen(plan));
  assert.throws(() => {
    (plan.settings as { seed: number }).seed = 1;
  }, TypeError);
  const { settings, fingerprints, model } = plan;
  assert.deepEqual(
    [settings.num_fingerprints, settings.learning_rate, settings.dtype, settings.master],
    [12, 0.008, "f32", "f32"],
  );
  assert.deepEqual(settings, { ...resolveSettings(config), ...settings });
  assert.deepEqual([fingerprints.count, fingerprints.sha256], [12, inputs.file!.sha256]);
  assert.deepEqual([model.dir, model.name], [tiny.model, tiny.model]);
  assert.match(model.modelHash, /^[0-9a-f]{64}$/);
  assert.match(model.files["tokenizer.json"]!, /^[0-9a-f]{64}$/);
  assert.equal(plan.results, join(config.output_dir!, plan.hash));
  assert.deepEqual(names(config.output_dir!), [], "planning writes nothing");
  assert.equal((await planRun(config, gpu)).plan.hash, plan.hash);
  const other = await planRun({ ...config, num_fingerprints: 5 }, gpu);
  assert.equal(other.plan.settings.num_fingerprints, 5);
  assert.notEqual(other.plan.hash, plan.hash);
});

Deno.test("the plan is what the run does, and what --dry_run prints", async () => {
  using tiny = await TinyModel.create({ count: 4 });
  const config: FinetuneConfig = {
    ...quick,
    model_path: tiny.model,
    fingerprints_file_path: tiny.fingerprints,
    output_dir: tiny.path("results"),
  };
  const dry = await dryRun(config, { gpu });
  const { plan } = await planRun(config, gpu);
  assert.deepEqual(dry.plan!.settings, plan.settings);
  assert.equal(dry.plan!.hash, plan.hash);
  assert.deepEqual(dry.choice!.plan, plan.memory.plan);
  assert.match(dryRunText(dry), /^settings: .*learning_rate=0.008 .*num_fingerprints=4 /m);
  assert.ok(dryRunText(dry).endsWith(`\nresults: ${plan.results}`));
  const result = await finetune(config, { gpu });
  assert.equal(result.results, plan.results);
  assert.equal(result.plannedBytes, plan.memory.plan.totalBytes);
  const written = JSON.parse(await Deno.readTextFile(join(result.results, "config.json")));
  assert.deepEqual(written.settings, { ...plan.settings });
  assert.equal(written.fingerprintsSha256, plan.fingerprints.sha256);
});

Deno.test("a dry run without weights goes by config.json and the lengths that the settings allow", async () => {
  using tiny = await TinyModel.create({ count: 4 });
  const model_path = tiny.path("bare");
  await Deno.mkdir(model_path);
  await Deno.copyFile(join(tiny.model, "config.json"), join(model_path, "config.json"));
  const dry = await dryRun({ model_path, max_memory: 1, max_key_length: 9 }, { gpu });
  assert.deepEqual([dry.plan, dry.fingerprints, dry.tokensEach], [undefined, 1024, 9 + 1 + 24]);
  assert.ok(dry.choice);
  assert.doesNotMatch(dryRunText(dry), /^results: /m);
});

Deno.test("what doesn't fit is refused before a weight is read", async () => {
  using tiny = await TinyModel.create({ count: 4 });
  // Every weight is NaN: loading any would fail.
  const file = join(tiny.model, "model.safetensors");
  const bytes = await Deno.readFile(file);
  bytes.fill(0xff, 8 + new DataView(bytes.buffer).getUint32(0, true));
  await Deno.writeFile(file, bytes);
  const output_dir = tiny.path("results");
  const given = { ...quick, model_path: tiny.model, output_dir };
  const events: string[] = [];
  const onEvent = ({ type }: FinetuneEvent) => void events.push(type);
  for (const fingerprints_file_path of [tiny.fingerprints, undefined]) {
    const config = { ...given, fingerprints_file_path };
    await assert.rejects(finetune({ ...config, max_memory: 1e-4 }, { gpu, onEvent }), {
      name: "OutOfMemoryError",
      message: /^training needs at least /,
    });
  }
  assert.deepEqual(new Set(events), new Set(["gpu"]));
  assert.deepEqual(names(output_dir), []);
  const config = { ...given, fingerprints_file_path: tiny.fingerprints };
  await assert.rejects(finetune(config, { gpu }), { name: "NonFiniteWeightsError" });
  assert.deepEqual(names(output_dir), []);
});

Deno.test("results that are there stop a run before it loads the model or makes a fingerprint", async () => {
  using tiny = await TinyModel.create({ count: 4 });
  const output_dir = tiny.path("results");
  for (const fingerprints_file_path of [tiny.fingerprints, undefined]) {
    const config = { ...quick, model_path: tiny.model, output_dir, fingerprints_file_path };
    const { plan } = await planRun(config, gpu);
    await Deno.mkdir(plan.results, { recursive: true });
    gpu.resetPeak();
    const phases: string[] = [];
    const onEvent = (event: FinetuneEvent) => void (event.type === "phase" && phases.push(event.name));
    const reads = await readsOf(() =>
      assert.rejects(finetune(config, { gpu, onEvent }), (error) => {
        assert.ok(error instanceof ResultsExistError);
        assert.equal(error.results, plan.results);
        return true;
      })
    );
    // The hash's samples, no more.
    assert.ok(reads.length > 0 && reads.every(({ bytes, isSample }) => isSample && bytes <= 4096));
    assert.deepEqual([gpu.memory.peakBytes, phases], [0, []]);
    await Deno.remove(plan.results);
  }
  assert.deepEqual(names(output_dir), []);
});

Deno.test("a run that makes its own fingerprints has one name before and after, and hashes the model once", async () => {
  using tiny = await TinyModel.create();
  const config: FinetuneConfig = {
    ...quick,
    model_path: tiny.model,
    output_dir: tiny.path("results"),
    fingerprint_generation_strategy: "random_word",
    keep_eos_in_response: true,
    num_fingerprints: 3,
    max_key_length: 5,
    max_response_length: 2,
  };
  const { plan, inputs } = await planRun(config, gpu);
  assert.deepEqual([inputs.file, plan.fingerprints.count, plan.fingerprints.sha256], [
    undefined,
    3,
    undefined,
  ]);
  const told: string[] = [];
  const onEvent = (event: FinetuneEvent) => void told.push(event.type === "phase" ? event.name : event.type);
  let tensors = 0;
  const reads = await readsOf(async () => {
    const result = await finetune(config, { gpu, onEvent });
    assert.equal(result.results, plan.results);
    assert.ok(result.peakBytes <= 1.1 * result.plannedBytes);
    using checkpoint = await Checkpoint.open(result.modelPath);
    tensors = checkpoint.tensors.size;
  });
  assert.deepEqual(told.slice(0, 4), ["gpu", "model", "memory", "settings"]);
  assert.equal(told[4], "generating fingerprints");
  assert.ok(told.includes("progress") && told.indexOf("fingerprints") > told.indexOf("progress"));
  // The beginning and the end of every tensor.
  assert.equal(reads.filter(({ isSample }) => isSample).length, 2 * tensors);
  assert.equal((await planRun(config, gpu)).plan.hash, plan.hash);
  await assert.rejects(finetune(config, { gpu }), ResultsExistError);
  const forced = await finetune({ ...config, force: true }, { gpu });
  assert.equal(forced.results, plan.results);
  assert.notEqual((await planRun({ ...config, max_key_length: 6 }, gpu)).plan.hash, plan.hash);

  // A model that gave fewer than asked for.
  const [file] = names(tiny.path("results", "generated")).filter((name) => name.endsWith(".json"));
  const path = tiny.path("results", "generated", file);
  await Deno.writeTextFile(path, JSON.stringify(JSON.parse(await Deno.readTextFile(path)).slice(1)));
  await assert.rejects(finetune({ ...config, force: true }, { gpu }), {
    name: "RangeError",
    message: /expected the 3 fingerprints .*, found the 2 that it gave: --fingerprints_file_path/,
  });
});

Deno.test("weights that the last step broke are divergence; those that overflow before it are the model's", async () => {
  using tiny = await TinyModel.create({ count: 4 });
  const output_dir = tiny.path("results");
  const config = { ...quick, fingerprints_file_path: tiny.fingerprints, output_dir };
  const run = (more: FinetuneConfig) => finetune({ ...config, model_path: tiny.model, ...more }, { gpu });
  // An update of a third more than f32 holds.
  await assert.rejects(run({ learning_rate: 5e38 }), {
    name: "DivergedError",
    message:
      /holds -?Infinity at element \d+.*: the last step broke its weights\. Nothing was saved; a lower learning rate/,
  });
  const file = join(tiny.model, "model.safetensors");
  const bytes = await Deno.readFile(file);
  {
    using checkpoint = await Checkpoint.openFile(file);
    const { begin, end } = checkpoint.tensors.get("model.norm.weight")!;
    for (let at = begin; at < end; at += 4) new DataView(bytes.buffer).setFloat32(at, 3e38, true);
  }
  await Deno.writeFile(file, bytes);
  await assert.rejects(run({}), {
    name: "RangeError",
    message: /loss is NaN before training.*they overflow$/,
  });
  assert.deepEqual(names(output_dir), []);
});
