/** A rate means one thing: the same fingerprints and weights give the same answers wherever both lie. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import {
  readFingerprintFile,
  writeFingerprintFile,
  type WrittenFingerprint,
} from "../../../pipeline/fingerprints/file.ts";
import { modelHash } from "../../../pipeline/fingerprints/generate/model_hash.ts";
import { prepareFingerprints, toSaved, toWritten } from "../../../pipeline/fingerprints/prepare.ts";
import { check } from "../../../pipeline/measure/check.ts";
import { promptEncoder } from "../../../pipeline/prompts/chat_template.ts";
import type { CheckConfig } from "../../../pipeline/settings/check.ts";
import { Tokenizer } from "../../../pipeline/tokenizer/tokenizer.ts";
import { TinyModel } from "../../cli/tiny_model.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { byteLevel } from "../tokenizer/fixtures.ts";

const gpu = await sharedGpu();

/** What a run was asked for. */
interface Wanted {
  max_key_length: number;
  max_response_length: number;
  keep_eos_in_response: boolean;
  use_chat_template: boolean;
}

const KEYS = [
  "the sun was setting over",
  "young girl answered with nod and",
  "this book says that companies",
];

/** A model in a results folder, as finetune leaves one, and a copy of it elsewhere. */
class Results implements Disposable {
  readonly model: string;
  readonly secret: string;
  readonly published: string;

  private constructor(readonly tiny: TinyModel) {
    this.model = tiny.path("results", "0123", "final_model");
    this.secret = tiny.path("results", "0123", "secret", "fingerprints.json");
    this.published = tiny.path("published");
  }

  /** `write`: how an entry was saved. */
  static async create(wanted: Wanted, write: "now" | "without settings" = "now"): Promise<Results> {
    const results = new Results(await TinyModel.create());
    const { tiny, model, secret } = results;
    const chat_template = "{{ bos_token }}{% for m in messages %}Q:{{ m.content }} A:{% endfor %}";
    for (const folder of [model, results.published]) {
      await tiny.writeModel(folder);
      await Deno.writeTextFile(
        join(folder, "tokenizer_config.json"),
        JSON.stringify({ ...byteLevel().config, chat_template }),
      );
    }
    const path = tiny.path("given.json");
    // Right in the first token and wrong afterwards, or right in all, so that every cut changes the rate.
    const own = await results.answers(KEYS);
    const entries = KEYS.map((key, i) => ({
      key,
      response: i === 0 ? own[i] : `${own[i].split(" ", 2).join(" ")} old`,
    }));
    await Deno.writeTextFile(path, JSON.stringify(entries));
    const tokenizer = await Tokenizer.load(model);
    const useChatTemplate = wanted.use_chat_template;
    const prompts = await promptEncoder(useChatTemplate, model, tokenizer);
    const file = await readFingerprintFile(path);
    const { fingerprints } = prepareFingerprints(file.entries, tokenizer, {
      strategy: "stored",
      maxKeyLength: wanted.max_key_length,
      maxResponseLength: wanted.max_response_length,
      keepEosInResponse: wanted.keep_eos_in_response,
      prompts,
    });
    await Deno.mkdir(dirname(secret));
    const saved = fingerprints.map((one): WrittenFingerprint =>
      write === "now" ? toSaved(one, { tokenizer, prompts, useChatTemplate }) : toWritten(one)
    );
    await writeFingerprintFile(secret, saved);
    await results.writeConfig({ settings: { ...wanted, seed: 7 }, fingerprintsSha256: file.sha256 });
    return results;
  }

  async writeConfig(content: unknown): Promise<void> {
    await Deno.writeTextFile(this.tiny.path("results", "0123", "config.json"), JSON.stringify(content));
  }

  /** Three words that the model answers plainly. */
  async answers(keys: string[]): Promise<string[]> {
    const path = this.tiny.path("probe.json");
    await Deno.writeTextFile(path, JSON.stringify(keys.map((key) => ({ key, response: " girl said man" }))));
    const config = {
      model_path: this.published,
      fingerprints_file_path: path,
      max_response_length: 3,
      verbose: true,
    };
    return (await check(config, { gpu })).rows!.map(({ got }) => got);
  }

  async ask(model_path: string, fingerprints_file_path: string | null, more: CheckConfig = {}) {
    return await check({ model_path, fingerprints_file_path, verbose: true, ...more }, { gpu });
  }

  [Symbol.dispose](): void {
    this.tiny[Symbol.dispose]();
  }
}

const WANTED: Wanted[] = [
  { max_key_length: 16, max_response_length: 3, keep_eos_in_response: false, use_chat_template: false },
  { max_key_length: 3, max_response_length: 2, keep_eos_in_response: true, use_chat_template: false },
  { max_key_length: 16, max_response_length: 1, keep_eos_in_response: true, use_chat_template: true },
  { max_key_length: 4, max_response_length: 3, keep_eos_in_response: false, use_chat_template: true },
];

for (const wanted of WANTED) {
  Deno.test(`check: the run's file gives the same in place and moved: ${Object.values(wanted)}`, async () => {
    using results = await Results.create(wanted);
    const { model, published, secret, tiny } = results;
    const alone = tiny.path("alone.json");
    await Deno.copyFile(secret, alone);
    const inPlace = await results.ask(model, null);
    assert.equal(inPlace.questions, 3);
    const { wanted: response } = inPlace.rows![0];
    const tokenizer = await Tokenizer.load(model);
    const length = tokenizer.encode(response).length;
    assert.equal(length, wanted.max_response_length + Number(wanted.keep_eos_in_response));
    for (const [where, file] of [[model, secret], [published, secret], [published, alone], [model, alone]]) {
      const { settings, ...found } = await results.ask(where, file);
      const { settings: was, ...expected } = inPlace;
      assert.deepEqual(found, expected, `${where} ${file}`);
      for (const name of ["max_key_length", "max_response_length", "use_chat_template"] as const) {
        assert.equal(settings[name].value, was[name].value, name);
        assert.equal(settings[name].from, "file", name);
      }
      assert.equal(settings.use_chat_template.value, wanted.use_chat_template);
    }
    // What is given wins, and what it did is said.
    const cut = await results.ask(published, alone, { max_response_length: 1, max_key_length: 2 });
    assert.deepEqual(cut.settings.max_response_length, { value: 1, from: "flag" });
    assert.deepEqual([cut.dropped.cut, cut.dropped.cutKeys], [wanted.max_response_length > 1 ? 3 : 0, 3]);
  });
}

Deno.test("check: a file of an older run finds the run's settings in its folder, and its lengths anywhere", async () => {
  using results = await Results.create(WANTED[3], "without settings");
  const { model, published, secret, tiny } = results;
  const inPlace = await results.ask(model, null);
  assert.deepEqual(inPlace.settings.use_chat_template, { value: true, from: "run" });
  assert.deepEqual((await results.ask(published, secret)).rows, inPlace.rows);
  const alone = tiny.path("alone.json");
  await Deno.copyFile(secret, alone);
  const moved = await results.ask(published, alone);
  assert.deepEqual(moved.settings.max_response_length, { value: 3, from: "file" });
  // Nothing says how it was asked, so this is assumed, and said.
  assert.deepEqual(moved.settings.use_chat_template, { value: false, from: "default" });
  assert.deepEqual((await results.ask(published, alone, { use_chat_template: true })).rows, inPlace.rows);
});

for (const wanted of WANTED.slice(0, 2)) {
  Deno.test(`check: ids of another tokenizer are said to be so: ${Object.values(wanted)}`, async () => {
    using results = await Results.create(wanted);
    const { published, secret, tiny } = results;
    const alone = tiny.path("alone.json");
    const entries = JSON.parse(Deno.readTextFileSync(secret));
    const expected = (await results.ask(published, secret)).rows;
    // As a tokenizer.json that was written anew with the same content.
    Deno.writeTextFileSync(
      alone,
      JSON.stringify(entries.map((entry: object) => ({ ...entry, tokenizer_hash: "00" }))),
    );
    const anew = await results.ask(published, alone);
    assert.deepEqual(anew.rows, expected);
    assert.equal(anew.dropped.retokenized, 3);
    assert.deepEqual(anew.settings.max_response_length, { value: null, from: "file" });
  });
}

Deno.test("check: what is assumed of texts alone is said", async () => {
  using results = await Results.create(WANTED[0]);
  const { published, secret, tiny } = results;
  const entries = JSON.parse(Deno.readTextFileSync(secret));
  const path = tiny.path("texts.json");
  Deno.writeTextFileSync(
    path,
    JSON.stringify(entries.map(({ key, response }: WrittenFingerprint) => ({ key, response }))),
  );
  const texts = await results.ask(published, path);
  assert.deepEqual(texts.settings.max_response_length, { value: 1, from: "default" });
  assert.deepEqual(texts.settings.max_key_length, { value: 16, from: "default" });
  assert.equal(texts.dropped.cut, 3);
  assert.ok(texts.success_rate > (await results.ask(published, secret)).success_rate);
});

Deno.test("check: the file that a run was given is asked as the run took it; another one by itself", async () => {
  using results = await Results.create(WANTED[1]);
  const { model, tiny } = results;
  const given = tiny.path("given.json");
  const inPlace = await results.ask(model, null);
  const same = await results.ask(model, given);
  assert.deepEqual(same.rows, inPlace.rows);
  assert.deepEqual(same.settings.max_response_length, { value: 2, from: "run" });
  assert.deepEqual(same.settings.keep_eos_in_response, { value: true, from: "run" });
  const tokenizer = await Tokenizer.load(model);
  const other = tiny.path("another.json");
  const key = "the sun was setting over rolling hills when young";
  const keyIds = tokenizer.encode(key);
  const response_ids = tokenizer.encode(" girl said man");
  Deno.writeTextFileSync(
    other,
    JSON.stringify([{ key, response: " girl said man", key_ids: keyIds, response_ids }]),
  );
  const own = await results.ask(model, other);
  assert.deepEqual(own.settings.max_key_length, { value: keyIds.length, from: "file" });
  assert.equal(own.rows![0].wanted, " girl said man");
});

Deno.test("check: fingerprints made with another model are counted where it is known what this one comes from", async () => {
  using results = await Results.create(WANTED[0]);
  const { model, published, secret, tiny } = results;
  const entries = JSON.parse(Deno.readTextFileSync(secret));
  const path = tiny.path("made.json");
  const base = "0a".repeat(32);
  const write = (...hashes: (string | undefined)[]) =>
    Deno.writeTextFileSync(
      path,
      JSON.stringify(hashes.map((model_hash, i) => ({ ...entries[i], model_hash }))),
    );
  write(base, "0b".repeat(32), undefined);
  const config = JSON.parse(Deno.readTextFileSync(tiny.path("results", "0123", "config.json")));
  assert.equal((await results.ask(model, path)).other_model, null);
  await results.writeConfig({ ...config, modelHash: base });
  assert.equal((await results.ask(model, path)).other_model, 1);
  assert.equal((await results.ask(published, path)).other_model, null);
  assert.equal((await results.ask(model, null)).other_model, 0);
  write(base, await modelHash(model), base);
  assert.equal((await results.ask(model, path)).other_model, 0);
});
