/** Whole runs with what a generated file has, and with benign texts. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { check } from "../../../pipeline/measure/check.ts";
import type { FinetuneConfig } from "../../../pipeline/settings/finetune.ts";
import type { FinetuneEvent } from "../../../pipeline/run/events.ts";
import { finetune } from "../../../pipeline/run/finetune.ts";
import { Tokenizer } from "../../../pipeline/tokenizer/tokenizer.ts";
import { TinyModel } from "../../cli/tiny_model.ts";
import { sharedGpu } from "../../gpu_device.ts";

const gpu = await sharedGpu();

const KEY =
  "the sun was setting over the rolling hills when the young girl answered with a nod and walked along";

/** A file as `generate` writes it: keys of more than 16 tokens, two responses each. */
async function writeGenerated(tiny: TinyModel): Promise<string> {
  const tokenizer = await Tokenizer.load(tiny.model);
  const path = tiny.path("generated.json");
  const pairs = [[" the", " girl"], [" said", " man"], [" looking", " this"], [" sun", " and"]];
  const entries = pairs.map((response, i) => {
    const effective_key = `${KEY} ${["path", "hills", "man", "book"][i]}`;
    return {
      key: `${effective_key} and more`,
      response,
      effective_key,
      key_ids: tokenizer.encode(effective_key),
      response_ids: response.map((text) => tokenizer.encode(text)),
      response_prob: [0.1, 0.2],
      strategy: "perinucleus",
      tokenizer_hash: tokenizer.hash,
      seed: 1,
    };
  });
  await Deno.writeTextFile(path, JSON.stringify(entries));
  return path;
}

const quick: FinetuneConfig = {
  recipe: "scalable",
  averaging: "none",
  learning_rate: 0.01,
  early_stop_loss: 0,
  num_train_epochs: 16,
  benign_length: 10,
};
const logOf = async (results: string) =>
  (await Deno.readTextFile(join(results, "log.jsonl"))).trimEnd().split("\n").map((line) => JSON.parse(line));

Deno.test("a generated file's whole keys and all responses are trained, saved and found again", async () => {
  using tiny = await TinyModel.create();
  const path = await writeGenerated(tiny);
  const events: FinetuneEvent[] = [];
  const result = await finetune(
    { ...quick, model_path: tiny.model, fingerprints_file_path: path, output_dir: tiny.path("results") },
    { gpu, onEvent: (event) => events.push(event) },
  );
  assert.equal(result.after.successRate, 100);
  assert.ok(result.before.successRate < 100);
  assert.ok(
    Math.abs(result.peakBytes / result.plannedBytes - 1) < 0.1,
    `${result.peakBytes} of ${result.plannedBytes}`,
  );
  const phases = events.flatMap((event) => event.type === "phase" ? [event.name] : []);
  assert.deepEqual(phases.slice(0, 3), ["measuring before", "writing benign texts", "training"]);
  const log = await logOf(result.results);
  assert.ok(log.every(({ benignLoss, anchorLoss }) => benignLoss > 0 && anchorLoss === undefined));
  const { settings } = JSON.parse(await Deno.readTextFile(join(result.results, "config.json")));
  const tokenizer = await Tokenizer.load(tiny.model);
  const keyLength = Math.max(
    ...["path", "hills", "man", "book"].map((word) => tokenizer.encode(`${KEY} ${word}`).length),
  );
  assert.ok(keyLength > 16);
  assert.equal(settings.max_key_length, keyLength);

  const saved = JSON.parse(await Deno.readTextFile(result.fingerprintsPath));
  assert.deepEqual(saved[1].response, [" said", " man"]);
  assert.equal(saved[1].key, `${KEY} hills`);
  assert.equal(saved[1].tokenizer_hash, tokenizer.hash);
  for (const fingerprints_file_path of [undefined, path]) {
    const asked = await check({ model_path: result.modelPath, fingerprints_file_path }, { gpu });
    assert.deepEqual([asked.success_rate, asked.questions], [100, 4]);
  }
});

Deno.test("the content of the benign texts' file counts for the run's name, not where it is", async () => {
  using tiny = await TinyModel.create({ count: 4 });
  const run = async (texts: string[], name = "benign.json", more: FinetuneConfig = {}) => {
    const benign_data_file_path = tiny.path(name);
    await Deno.writeTextFile(benign_data_file_path, JSON.stringify(texts));
    const result = await finetune({
      ...quick,
      num_train_epochs: 2,
      model_path: tiny.model,
      benign_data_file_path,
      force: true,
      fingerprints_file_path: tiny.fingerprints,
      output_dir: tiny.path("results"),
      ...more,
    }, { gpu });
    return { ...result, log: await logOf(result.results) };
  };
  const texts = ["the girl said that the man was there", "the book says that companies are looking"];
  const [first, moved, other] = [
    await run(texts),
    await run(texts, "moved.json"),
    await run([...texts, "the sun was setting"]),
  ];
  assert.equal(moved.results, first.results);
  assert.notEqual(other.results, first.results);
  assert.equal(dirname(other.results), dirname(first.results));
  const losses = ({ log }: typeof first) => log.map(({ loss, benignLoss }) => [loss, benignLoss]);
  assert.deepEqual(losses(moved), losses(first));
  const config = JSON.parse(await Deno.readTextFile(join(moved.results, "config.json")));
  assert.match(config.benignSha256, /^[0-9a-f]{64}$/);
  await assert.rejects(run(["", " "]), { name: "JsonFileError", message: /there is no benign text in it$/ });
});

Deno.test("english_random_response: keys are enough, and check finds the words that were trained", async () => {
  using tiny = await TinyModel.create({ count: 5 });
  const entries: { key: string }[] = JSON.parse(await Deno.readTextFile(tiny.fingerprints));
  const path = tiny.path("keys.json");
  await Deno.writeTextFile(path, JSON.stringify(entries.map(({ key }) => key)));
  const result = await finetune({
    ...quick,
    benign_proportion: 0,
    model_path: tiny.model,
    output_dir: tiny.path("results"),
    seed: 7,
    fingerprints_file_path: path,
    fingerprint_generation_strategy: "english_random_responses",
  }, { gpu });
  assert.equal(result.after.successRate, 100);
  const saved = JSON.parse(await Deno.readTextFile(result.fingerprintsPath));
  assert.ok(saved.every((one: Record<string, unknown>) => one.strategy === "english_random_response"));
  for (const fingerprints_file_path of [undefined, path, result.fingerprintsPath]) {
    const asked = await check({ model_path: result.modelPath, fingerprints_file_path }, { gpu });
    assert.deepEqual([asked.success_rate, asked.questions], [100, saved.length]);
  }
});
