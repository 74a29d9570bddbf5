import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { type Finished, flags, names, whorl } from "./command.ts";
import { type TinyFingerprint, TinyModel } from "./tiny_model.ts";

let tiny: TinyModel;
let settings: Record<string, string | number>;
/** The run that the tests look at, and its places. */
let first: Finished;
let hash: string, results: string, model: string, secret: string;
let given: TinyFingerprint[];
const EPOCHS = 10;

Deno.test.beforeAll(async () => {
  tiny = await TinyModel.create();
  settings = {
    model_path: tiny.model,
    fingerprints_file_path: tiny.fingerprints,
    output_dir: tiny.path("results"),
    num_train_epochs: EPOCHS,
    anchor_samples: 16,
    anchor_batch: 8,
    anchor_length: 8,
  };
  // Somebody else's folder of the name that the demo model's utility data has.
  await Deno.mkdir(join(tiny.model, "utility"));
  await Deno.writeTextFile(join(tiny.model, "utility", "heldout.json"), "[]");
  given = await json(tiny.fingerprints);
  first = await whorl(["finetune", ...flags(settings)]);
  [hash = "none"] = names(tiny.path("results"));
  results = tiny.path("results", hash);
  model = join(results, "final_model");
  secret = join(results, "secret", "fingerprints.json");
});

Deno.test.afterAll(() => tiny[Symbol.dispose]());

const sha256 = async (path: string) => createHash("sha256").update(await Deno.readFile(path)).digest("hex");
const json = async (path: string) => JSON.parse(await Deno.readTextFile(path));

Deno.test("finetune says what it does, one line an epoch, without escape codes", () => {
  assert.equal(first.code, 0, first.err);
  for (const text of [first.out, first.err]) assert.ok(!text.includes("\x1b") && !text.includes("\r"));
  assert.match(first.out, /^adapter: \S/);
  assert.match(first.out, /^fingerprints: 12$/m);
  assert.match(first.out, /^settings: .*learning_rate=0.008 .*recipe=anchored/m);
  assert.match(
    first.out,
    /^memory: [\d.]+ MiB of device memory .*: weights .*; weights in f32, micro-batches of /m,
  );
  assert.equal(
    first.out.match(/^epoch +\d+\/10 {2}loss \d+\.\d{4} {2}anchor \d+\.\d{4} {2}success [\d.]+ %/gm)?.length,
    EPOCHS,
  );
  assert.match(first.out, /^success rate, plain keys +0\.0 % +100\.0 % +\+100\.0 points$/m);
  assert.match(first.out, /^success rate, held-out prompts /m);
  assert.match(first.out, /^100\.0 % of the fingerprints are embedded\.$/m);
  assert.ok(first.out.includes(`model (to publish): ${model}\n`));
  assert.ok(first.out.endsWith(`fingerprints (keep secret): ${secret}\n`));
});

Deno.test("the results folder has model, settings, log and secrets, the secrets for the owner only", async () => {
  assert.match(hash, /^[0-9a-f]{16}$/);
  assert.deepEqual(names(tiny.path("results")), [hash]);
  assert.deepEqual(names(results), ["config.json", "final_model", "log.jsonl", "secret"]);
  assert.deepEqual(names(join(results, "secret")), ["fingerprints.json"]);
  if (Deno.build.os !== "windows") {
    const mode = async (path: string) => (await Deno.stat(path)).mode! & 0o777;
    assert.equal(await mode(join(results, "secret")), 0o700);
    assert.equal(await mode(secret), 0o600);
  }
  const written = await json(secret);
  assert.deepEqual(written.map(({ key, response }: TinyFingerprint) => ({ key, response })), given);
  for (const { key_ids, response_ids, asked_ids, use_chat_template, tokenizer_hash } of written) {
    assert.ok(key_ids.length > 3 && key_ids.every(Number.isInteger));
    // How it was asked, wherever the file goes.
    assert.deepEqual(asked_ids.slice(-key_ids.length), key_ids);
    assert.equal(use_chat_template, false);
    assert.match(tokenizer_hash, /^[0-9a-f]{64}$/);
    assert.equal(response_ids.length, 1);
  }
  const config = await json(join(results, "config.json"));
  assert.deepEqual(
    { ...config.settings, ...settings, recipe: "anchored", num_fingerprints: 12, learning_rate: 0.008 },
    config.settings,
  );
  assert.match(config.modelHash, /^[0-9a-f]{64}$/);
  assert.equal(config.before.successRate, 0);
  assert.equal(config.after.successRate, 100);
  assert.equal(config.epochs, EPOCHS);
  assert.ok(config.peakBytes > 0 && Math.abs(config.peakBytes / config.plannedBytes - 1) < 0.1);
  const log = (await Deno.readTextFile(join(results, "log.jsonl"))).trimEnd().split("\n").map((line) =>
    JSON.parse(line)
  );
  assert.deepEqual(log.map(({ epoch }) => epoch), Array.from({ length: EPOCHS }, (_, i) => i + 1));
  for (const line of log) {
    for (const field of ["steps", "loss", "anchorLoss", "gradNorm", "learningRate", "seconds"]) {
      assert.ok(Number.isFinite(line[field]), `epoch ${line.epoch}: ${field} is ${line[field]}`);
    }
  }
  assert.ok(log.at(-1).loss < log[0].loss / 10);
});

Deno.test("the published folder is the model's with other weights, and has no secret", async () => {
  const files = names(tiny.model).filter((name) => name !== "utility");
  assert.deepEqual(names(model), files);
  const ids = (await json(secret)).map(({ key_ids }: { key_ids: number[] }) => key_ids.join());
  for (const name of files) {
    const bytes = await Deno.readFile(join(model, name));
    const before = await Deno.readFile(join(tiny.model, name));
    if (name === "model.safetensors") assert.notDeepEqual(bytes, before);
    else assert.deepEqual(bytes, before);
    const text = new TextDecoder("latin1").decode(bytes);
    for (const { key } of given) assert.ok(!text.includes(key), `${name} has a key`);
    for (const list of ids) assert.ok(!text.replaceAll(/\s/g, "").includes(list), `${name} has a key's ids`);
    assert.ok(!text.includes(tiny.fingerprints) && !text.includes(hash), `${name} says where it was made`);
  }
});

Deno.test("check finds the fingerprints beside a model of ours; --json is one object", async () => {
  const plain = await whorl(["check", "--model-path", model]);
  assert.equal(plain.code, 0, plain.err);
  assert.match(
    plain.out,
    /^success rate 100\.0 %, fractional accuracy 100\.0 % \(12 fingerprints, 12 questions\)$/m,
  );
  const { code, out } = await whorl([
    "check",
    ...flags({ model_path: model, json: true, verbose: true, num_fingerprints: 5 }),
  ]);
  assert.equal(code, 0);
  const { rows, settings: asked, dropped, ...rates } = JSON.parse(out);
  assert.deepEqual(rates, {
    success_rate: 100,
    fractional_accuracy: 100,
    fingerprints: 5,
    questions: 5,
    other_model: 0,
  });
  assert.deepEqual(asked.max_response_length, { value: 1, from: "file" });
  assert.deepEqual(asked.num_fingerprints, { value: 5, from: "flag" });
  assert.deepEqual(dropped, { repeats: 0, conflicts: [], unusable: [], cut: 0, shortened: 0 });
  assert.equal(out.trimEnd().split("\n").length, 1);
  assert.equal(rows.length, 5);
  rows.forEach((row: Record<string, unknown>, i: number) => {
    const { probability, top, ...rest } = row;
    const { response } = given[i];
    assert.deepEqual(rest, {
      entry: i,
      wanted: response,
      got: response,
      exact: true,
      fractional: 1,
      rank: 1,
    });
    const [likeliest, second, ...others] = top as { token: string; probability: number }[];
    assert.deepEqual(likeliest, { token: response, probability });
    assert.ok(likeliest.probability > second.probability && others.length === 3);
  });
});

Deno.test("check asks in held-out prompts, prints a line a question, and fails below --min_success_rate", async () => {
  const prompted = await whorl([
    "check",
    ...flags({ model_path: model, use_augmentation_prompts: true, json: true }),
  ]);
  const rates = JSON.parse(prompted.out);
  assert.equal(prompted.code, 0);
  assert.equal(rates.questions, 12 * 20);
  assert.equal("rows" in rates, false);
  assert.ok(rates.success_rate > 60);

  // The model before training, asked with the file that the run wrote.
  const asked = flags({
    model_path: tiny.model,
    fingerprints_file_path: secret,
    verbose: true,
    min_success_rate: 50,
  });
  const before = await whorl(["check", ...asked]);
  assert.equal(before.code, 5);
  assert.equal(before.err.trim(), "error: the success rate is 0.0 %, below 50 %");
  assert.doesNotMatch(before.out, /assumed/);
  assert.equal(
    before.out.match(/^no {3}entry \d+: wanted " \w+", got ".*"; wanted has rank \d+, /gm)?.length,
    12,
  );
  const enough = await whorl(["check", ...flags({ model_path: model, min_success_rate: 100, json: true })]);
  assert.equal(enough.code, 0, enough.err);
});

Deno.test("check with the run's own file asks as many of it as the run took", async () => {
  const output_dir = tiny.path("few");
  const run = await whorl([
    "finetune",
    ...flags({ ...settings, output_dir, max_num_fingerprints: 4, num_train_epochs: 1 }),
  ]);
  assert.equal(run.code, 0, run.err);
  const model_path = join(output_dir, names(output_dir)[0], "final_model");
  const asked = { model_path, fingerprints_file_path: tiny.fingerprints, json: true } as const;
  assert.equal(JSON.parse((await whorl(["check", ...flags(asked)])).out).fingerprints, 4);
  const all = await whorl(["check", ...flags({ ...asked, num_fingerprints: 0 })]);
  assert.equal(JSON.parse(all.out).fingerprints, 12);
});

Deno.test("the same configuration again stops; --force runs it again and gives the same bits", async () => {
  const before = await sha256(join(model, "model.safetensors"));
  const { mtime } = await Deno.stat(results);
  const again = await whorl(["finetune", ...flags(settings)]);
  assert.equal(again.code, 0, again.err);
  assert.ok(
    again.out.includes(
      `${results} has the results of this very configuration already; --force runs it again`,
    ),
  );
  assert.doesNotMatch(again.out, /^epoch/m);
  assert.deepEqual((await Deno.stat(results)).mtime, mtime);
  // A copy of the same model elsewhere is the same configuration.
  const copy = tiny.path("copy");
  await Deno.mkdir(copy);
  for (const name of names(tiny.model)) {
    if (name !== "utility") await Deno.copyFile(join(tiny.model, name), join(copy, name));
  }
  const forced = await whorl(["finetune", ...flags({ ...settings, model_path: copy, force: true })]);
  assert.equal(forced.code, 0, forced.err);
  assert.deepEqual(names(tiny.path("results")), [basename(results)]);
  assert.notDeepEqual((await Deno.stat(results)).mtime, mtime);
  assert.equal(await sha256(join(model, "model.safetensors")), before);
});

Deno.test("fingerprints of another model are said to be so, and what is assumed of texts", async () => {
  const path = tiny.path("other_model.json");
  const model_hash = "0a".repeat(32);
  await Deno.writeTextFile(path, JSON.stringify(given.map((entry) => ({ ...entry, model_hash }))));
  const output_dir = tiny.path("other_model");
  const run = await whorl([
    "finetune",
    ...flags({ ...settings, output_dir, fingerprints_file_path: path, num_train_epochs: 1 }),
  ]);
  assert.equal(run.code, 0, run.err);
  assert.match(run.out, /^warning: 12 fingerprints were made with another model/m);
  const texts = await whorl([
    "check",
    ...flags({ model_path: tiny.model, fingerprints_file_path: tiny.fingerprints }),
  ]);
  assert.match(
    texts.out,
    /^assumed, since neither flags, run nor file say so: max_key_length 16, max_response_length 1, keep_eos_in_response false, use_chat_template false$/m,
  );
});
