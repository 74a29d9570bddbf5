import assert from "node:assert/strict";
import { join } from "node:path";
import { LanguageModel } from "../../../../engine/language_model.ts";
import { ChatTemplateError } from "../../../../pipeline/prompts/chat_template.ts";
import { SettingsError } from "../../../../pipeline/settings/parse.ts";
import { DEMO_MODEL } from "../../../../pipeline/settings/demo_assets.ts";
import { FingerprintFileError, readFingerprintFile } from "../../../../pipeline/fingerprints/file.ts";
import { prepareFingerprints } from "../../../../pipeline/fingerprints/prepare.ts";
import {
  FingerprintsExistError,
  GenerateFileError,
  NotEnoughFingerprintsError,
} from "../../../../pipeline/fingerprints/generate/errors.ts";
import {
  type GenerateEvent,
  generateFingerprints,
  type GenerateHooks,
} from "../../../../pipeline/fingerprints/generate/generate.ts";
import { modelHash } from "../../../../pipeline/fingerprints/generate/model_hash.ts";
import type { GenerateConfig } from "../../../../pipeline/settings/generate.ts";
import { Tokenizer } from "../../../../pipeline/tokenizer/tokenizer.ts";
import { responseStrategySchema } from "../../../../pipeline/settings/strategies.ts";
import { TinyModel } from "../../../cli/tiny_model.ts";
import { names } from "../../../cli/command.ts";
import { sharedGpu } from "../../../gpu_device.ts";
import { byteLevel } from "../../tokenizer/fixtures.ts";
import { responsesOf } from "./support.ts";

const gpu = await sharedGpu();
const tokenizer = await Tokenizer.load(DEMO_MODEL);
const dir = Deno.makeTempDirSync({ prefix: "whorl_generate_" });
Deno.test.afterAll(() => Deno.removeSync(dir, { recursive: true }));

/** Twelve fingerprints of the demo model, in a file of this name. */
async function make(name: string, config: GenerateConfig = {}, hooks: GenerateHooks = {}) {
  const settings = { num_fingerprints: 12, key_length: 8, seed: 3, output_file_path: name, ...config };
  return await generateFingerprints(settings, { gpu, baseDir: dir, ...hooks });
}

const text = (name: string) => Deno.readTextFileSync(join(dir, name));

/** As OML 1.0's scripts read a file: key and response, a string or a list, and nothing else. */
function seedsEntries(json: string): { key: string; response: string | string[] }[] {
  const entries = JSON.parse(json);
  assert.ok(Array.isArray(entries));
  for (const { key, response } of entries) {
    assert.ok(typeof key === "string" && key !== "");
    assert.ok([response].flat().every((one) => typeof one === "string" && one !== ""));
  }
  return entries;
}

const STRATEGIES: GenerateConfig[] = [
  { fingerprint_generation_strategy: "english", response_length: 6 },
  { fingerprint_generation_strategy: "random_word", response_length: 6 },
  { fingerprint_generation_strategy: "english_random_response" },
  { fingerprint_generation_strategy: "inverse_nucleus" },
  { fingerprint_generation_strategy: "perinucleus", response_length: 3 },
  { fingerprint_generation_strategy: "perinucleus", num_responses_per_fingerprint: 2 },
];

for (const [i, config] of STRATEGIES.entries()) {
  Deno.test(`demo model: ${Object.values(config).join(" ")}`, async () => {
    const name = `strategy_${i}.json`;
    const { path, fingerprints, summary } = await make(name, config);
    assert.deepEqual([path, fingerprints.length, summary.count], [join(dir, name), 12, 12]);
    if (Deno.build.os !== "windows") assert.equal(Deno.statSync(path).mode! & 0o777, 0o600);
    const made = [name, `${name}.commitment.json`, `${name}.secret`];
    assert.deepEqual(names(dir).filter((file) => file.startsWith(name)), made);
    assert.deepEqual(seedsEntries(text(name)), fingerprints);

    // Read back as fine-tuning does, with the ids and with the texts alone.
    const { entries } = await readFingerprintFile(path);
    const bare = entries.map(({ key, responses, extra: { strategy } }) => ({
      key,
      responses,
      extra: { strategy },
    }));
    const maxResponseLength = config.response_length ?? 1;
    const ids = fingerprints.map((one) => [one.key_ids, responsesOf(one).map((response) => response.ids)]);
    for (
      const [read, strategy] of [
        [entries, responseStrategySchema.parse(config.fingerprint_generation_strategy)],
        [bare, "stored"],
      ] as const
    ) {
      const { fingerprints: taken } = prepareFingerprints(read, tokenizer, {
        strategy,
        maxKeyLength: 8,
        maxResponseLength,
      });
      assert.deepEqual(taken.map(({ keyIds, responses }) => [keyIds, responses]), ids);
    }
    for (const { extra } of entries) {
      assert.equal(extra.strategy, config.fingerprint_generation_strategy);
      assert.equal(extra.model_hash, await modelHash(DEMO_MODEL));
      assert.deepEqual([extra.tokenizer_hash, extra.seed], [tokenizer.hash, 3]);
    }

    // The probabilities are those of the question as it will be asked.
    using model = await LanguageModel.load(gpu, DEMO_MODEL);
    const asked = fingerprints.map(({ key_ids }) => [...tokenizer.prefixIds, ...key_ids]);
    const V = model.spec.vocabulary;
    const logits = await model.logits(asked);
    const probabilities = await model.nextTokenProbabilities(asked);
    for (const [at, one] of fingerprints.entries()) {
      const last = logits[at].subarray(-V);
      const total = last.reduce((sum, logit) => sum + Math.exp(logit), 0);
      for (const [r, { ids }] of responsesOf(one).entries()) {
        const stored = [one.response_prob as number | number[]].flat()[r];
        assert.equal(stored, probabilities[at][ids[0]]);
        assert.ok(Math.abs(stored - Math.exp(last[ids[0]]) / total) < 1e-6);
        if (!("nucleus_size" in one)) continue;
        const likelier = last.filter((logit) => logit > last[ids[0]]).length;
        assert.ok(likelier >= (one.nucleus_size as number) && (one.k_effective as number) === 3);
      }
    }
  });
}

Deno.test("a stopped run goes on where it was, with the bytes of an unbroken one", async () => {
  const config = { fingerprint_generation_strategy: "english", response_length: 5, batch_size: 5 } as const;
  await make("whole.json", config);
  const events: GenerateEvent[] = [];
  const stopping = new AbortController();
  const hooks = {
    signal: stopping.signal,
    onEvent: (event: GenerateEvent) => {
      events.push(event);
      if (event.type === "progress" && event.count >= 5) stopping.abort(new Error("enough"));
    },
  };
  await assert.rejects(make("stopped.json", config, hooks), /enough/);
  assert.deepEqual(names(dir).filter((name) => name.startsWith("stopped")), [
    ...["stopped.json.partial", "stopped.json.secret"],
  ]);
  const progress = events.filter(({ type }) => type === "progress");
  assert.deepEqual(progress, [{ type: "progress", count: 5, wanted: 12, attempts: 5 }]);
  assert.deepEqual(events.slice(0, 3).map(({ type }) => type), ["model", "settings", "gpu"]);

  // Other settings are refused; another batch size is the same run.
  await assert.rejects(make("stopped.json", { ...config, temperature: 0.9 }), (error) => {
    assert.ok(error instanceof GenerateFileError);
    assert.match(
      error.message,
      /\(temperature was 0\.5, is 0\.9\): give it those, or --force to begin anew$/,
    );
    return true;
  });
  await assert.rejects(
    make("stopped.json", { ...config, seed: 4 }),
    /secret of other fingerprints.*seed 3.*seed 4/,
  );
  const resumed: GenerateEvent[] = [];
  await make("stopped.json", { ...config, batch_size: 3 }, { onEvent: (event) => resumed.push(event) });
  assert.deepEqual(resumed.find(({ type }) => type === "resumed"), {
    type: "resumed",
    count: 5,
    attempts: 5,
  });
  assert.equal(text("stopped.json"), text("whole.json"));
  assert.equal(text("stopped.json.secret"), text("whole.json.secret"));
});

Deno.test("a run that was killed at its very end goes on to that end; its journal is nobody's afterwards", async () => {
  const config = { fingerprint_generation_strategy: "english", response_length: 5, batch_size: 5 } as const;
  const journal = join(dir, "ended.json.partial");
  let kept = "";
  const onEvent = ({ type }: GenerateEvent) =>
    void (type === "progress" && (kept = Deno.readTextFileSync(journal)));
  await make("ended.json", config, { onEvent });
  const whole = text("ended.json");
  const left = ["ended.json", "ended.json.commitment.json", "ended.json.secret"];
  const temporary = join(dir, ".ended.json.99999-0.tmp");
  for (
    const [asked, refusal] of [[config, undefined], [
      { ...config, temperature: 0.9 },
      /is there already/,
    ]] as const
  ) {
    Deno.writeTextFileSync(journal, kept, { mode: 0o600 });
    Deno.writeTextFileSync(temporary, whole.slice(0, 50));
    if (refusal) await assert.rejects(make("ended.json", asked), refusal);
    else await make("ended.json", asked);
    assert.equal(text("ended.json"), whole);
    assert.deepEqual(names(dir).filter((name) => name.includes("ended")), left);
  }
  // A run of another file finds what that one left.
  Deno.writeTextFileSync(journal, kept, { mode: 0o600 });
  await make("another.json", config);
  assert.deepEqual(names(dir).filter((name) => name.includes("ended")), left);
});

Deno.test("a finished file is replaced only by force, and stays until the new one is whole", async () => {
  const config = {
    fingerprint_generation_strategy: "random_word",
    response_length: 1,
    batch_size: 4,
  } as const;
  await make("kept.json", config);
  const before = text("kept.json");
  await assert.rejects(make("kept.json", config), (error) => {
    assert.ok(error instanceof FingerprintsExistError);
    assert.match(error.message, /kept\.json: this file is there already; --force replaces it$/);
    return true;
  });
  assert.deepEqual(names(dir).filter((name) => name.startsWith("kept")), [
    ...["kept.json", "kept.json.commitment.json", "kept.json.secret"],
  ]);
  const commitment = text("kept.json.commitment.json");
  const stopping = new AbortController();
  const onEvent = ({ type }: GenerateEvent) => type === "progress" && stopping.abort(new Error("enough"));
  const other = { ...config, response_length: 2 };
  await assert.rejects(
    make("kept.json", { ...other, force: true }, { signal: stopping.signal, onEvent }),
    /enough/,
  );
  assert.equal(text("kept.json"), before);
  // What was begun by force goes on without.
  await make("kept.json", other);
  const { fingerprints } = await make("other.json", other);
  assert.deepEqual(JSON.parse(text("kept.json")), fingerprints);
  // What may have been published stays.
  const commitments = names(dir).filter((name) => name.startsWith("kept.json.commitment.json"));
  assert.equal(commitments.length, 2);
  assert.equal(text(commitments[1]), commitment);
  assert.equal(text(commitments[0]), text("other.json.commitment.json"));
  await assert.rejects(make("kept.json", other), FingerprintsExistError);
});

Deno.test("without a seed a secret decides, and it is used again", async () => {
  const config = { seed: null, num_fingerprints: 3 };
  const first = await make("secret_a.json", config);
  const second = await make("secret_b.json", config);
  assert.equal(first.fingerprints[0].seed, null);
  const keys = first.fingerprints.map(({ key }) => key);
  assert.ok(second.fingerprints.every(({ key }) => !keys.includes(key)));
  await make("secret_a.json", { ...config, force: true });
  assert.deepEqual(JSON.parse(text("secret_a.json")), first.fingerprints);
  assert.notEqual(first.fingerprints[0].draw_commitment, second.fingerprints[0].draw_commitment);
  // Nothing in an entry gives away how the others were made.
  const { secret, draw_key } = JSON.parse(text("secret_a.json.secret"));
  assert.ok(!text("secret_a.json").includes(secret) && !text("secret_a.json").includes(draw_key));
});

Deno.test("own keys: as many as there are; one too many is said, and the others kept", async () => {
  const keys = ["Every winter, the proud merchant", {
    key: "The fox sat by the river and slept",
    response: "no",
  }];
  Deno.writeTextFileSync(join(dir, "keys.json"), JSON.stringify(keys));
  const config = { keys_path: "keys.json", num_fingerprints: null };
  const { fingerprints, summary } = await make("own.json", config);
  assert.deepEqual(fingerprints.map(({ key }) => key), [keys[0], "The fox sat by the river and slept"]);
  assert.deepEqual([summary.keyLength.max, summary.wanted], [8, 2]);
  await assert.rejects(make("own_more.json", { ...config, num_fingerprints: 3 }), (error) => {
    assert.ok(error instanceof NotEnoughFingerprintsError);
    assert.match(
      error.message,
      /^only 2 of 3 fingerprints could be made: every key has been used; they are in .*own_more\.json$/,
    );
    assert.deepEqual([error.path, error.summary.count], [join(dir, "own_more.json"), 2]);
    return true;
  });
  assert.equal((await readFingerprintFile(join(dir, "own_more.json"))).entries.length, 2);
  assert.deepEqual(names(dir).filter((name) => name.endsWith(".partial")), []);

  for (
    const [content, expected] of [["[1, 2]", /entry 0 .*expected a key \(a string\)/], [
      "{}",
      /expected a list/,
    ]] as const
  ) {
    Deno.writeTextFileSync(join(dir, "bad_keys.json"), content);
    await assert.rejects(make("bad.json", { keys_path: "bad_keys.json" }), (error) => {
      assert.ok(error instanceof FingerprintFileError);
      assert.match(error.message, expected);
      return true;
    });
  }
  // With nothing to write there is no file.
  Deno.writeTextFileSync(join(dir, "blank.json"), '[" a"]');
  await assert.rejects(
    make("bad.json", { keys_path: "blank.json" }),
    /white space at an end: 1\); nothing was written$/,
  );
  assert.deepEqual(names(dir).filter((name) => name.startsWith("bad.json")), ["bad.json.secret"]);
});

Deno.test("models: one writes for another's tokenizer; distributions are over the same tokens", async () => {
  using tiny = await TinyModel.create();
  const roles = { model_path: tiny.model, model_used_for_key_generation: DEMO_MODEL };
  const { fingerprints } = await make("roles.json", { ...roles, key_length: 20 });
  const own = await Tokenizer.load(tiny.model);
  for (const { key, key_ids, tokenizer_hash } of fingerprints) {
    assert.deepEqual(own.encode(key), key_ids);
    assert.equal(tokenizer_hash, own.hash);
    assert.match(key, /^[A-Z][a-z]+ /);
  }
  assert.ok(fingerprints.some(({ key }) => / (the|a) /.test(key)), "English comes from the demo model");
  const refused = async (config: GenerateConfig, kind: new (message: string) => Error, expected: RegExp) =>
    await assert.rejects(make("refused.json", config), (error) => {
      assert.ok(error instanceof kind, `${error}`);
      assert.match(error.message, expected);
      return true;
    });
  await refused(
    { model_path: tiny.model, perinucleus_model: DEMO_MODEL },
    SettingsError,
    /^perinucleus_model: .*demo_model.* has another tokenizer than .*model/,
  );
  await refused({ perinucleus_model: "no such" }, SettingsError, /^perinucleus_model: no such folder/);
  await refused(
    { model_used_for_key_generation: "no such" },
    SettingsError,
    /^model_used_for_key_generation: no such folder/,
  );
  await refused({ use_chat_template: true }, ChatTemplateError, /this model has no chat template/);
  assert.deepEqual(names(dir).filter((name) => name.startsWith("refused")), []);

  // A model that is named for one purpose only is the one to be fingerprinted, as in OML 1.0's commands.
  const { fingerprints: seeds } = await make("seeds.json", {
    perinucleus_model: tiny.model,
    model_used_for_key_generation: DEMO_MODEL,
    key_length: 20,
  });
  assert.deepEqual(seeds, fingerprints);
});

Deno.test("models: an instruct model is asked through its template", async () => {
  using tiny = await TinyModel.create();
  const chat_template = "{{ bos_token }}{% for m in messages %}Q:{{ m.content }} A:{% endfor %}";
  const { config } = byteLevel();
  Deno.writeTextFileSync(
    join(tiny.model, "tokenizer_config.json"),
    JSON.stringify({ ...config, chat_template }),
  );
  const { fingerprints } = await make("chat.json", {
    model_path: tiny.model,
    use_chat_template: true,
    random_word_generation: true,
    key_length: 12,
    key_response_strategy: "perinucleus",
  });
  const own = await Tokenizer.load(tiny.model);
  using model = await LanguageModel.load(gpu, tiny.model);
  for (const { effective_key, response_ids, response_prob, use_chat_template } of fingerprints) {
    assert.equal(use_chat_template, true);
    const asked = [own.bosId!, ...own.encode(`Q:${effective_key} A:`)];
    const [p] = await model.nextTokenProbabilities([asked]);
    assert.equal(response_prob, p[(response_ids as number[])[0]]);
  }
});

Deno.test("model hash: what a model is, not where", async () => {
  using tiny = await TinyModel.create();
  const hash = await modelHash(tiny.model);
  await tiny.writeModel(tiny.path("copy"));
  assert.equal(await modelHash(tiny.path("copy")), hash);
  await tiny.writeModel(tiny.path("other"), { rope_theta: 5e5 });
  assert.notEqual(await modelHash(tiny.path("other")), hash);
  // One weight at a tensor's end.
  const file = join(tiny.path("copy"), "model.safetensors");
  const bytes = Deno.readFileSync(file);
  bytes[bytes.length - 1] ^= 1;
  Deno.writeFileSync(file, bytes);
  assert.notEqual(await modelHash(tiny.path("copy")), hash);
});

Deno.test("a path that can't be written is refused before anything is loaded", async () => {
  Deno.writeTextFileSync(join(dir, "file"), "");
  Deno.mkdirSync(join(dir, "folder"));
  const loaded: string[] = [];
  const refused = async (name: string, expected: RegExp) =>
    await assert.rejects(
      make(name, { model_path: "no such model" }, { onEvent: ({ type }) => loaded.push(type) }),
      expected,
    );
  await refused("file/x.json", /^FileWriteError: cannot write .*x\.json: /);
  await refused("folder", /^GenerateFileError: .*folder: expected the path of a file, found a folder$/);
  if (Deno.build.os === "linux") {
    await refused("/proc/x/y.json", /^FileWriteError: cannot write \/proc\/x\/y\.json: /);
  }
  assert.deepEqual(loaded, []);
  assert.equal(gpu.memory.allocatedBytes, 0);
});
