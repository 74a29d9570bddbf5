import assert from "node:assert/strict";
import { join } from "node:path";
import { writeSafetensors } from "../../../engine/io/safetensors_writer.ts";
import { Checkpoint } from "../../../engine/io/safetensors.ts";
import { FingerprintFileError } from "../../../pipeline/fingerprints/file.ts";
import { check } from "../../../pipeline/measure/check.ts";
import { checkText } from "../../../pipeline/report/report.ts";
import { type CheckConfig, checkConfigSchema, savedSchema } from "../../../pipeline/settings/check.ts";
import { SettingsError } from "../../../pipeline/settings/parse.ts";
import { Tokenizer } from "../../../pipeline/tokenizer/tokenizer.ts";
import { TinyModel } from "../../cli/tiny_model.ts";
import { sharedGpu } from "../../gpu_device.ts";

const gpu = await sharedGpu();

/** A copy of a tiny model with every number of one tensor the same. */
async function filled(tiny: TinyModel, tensor: string, value: number): Promise<string> {
  const model_path = tiny.path(String(value));
  await tiny.writeModel(model_path);
  using source = await Checkpoint.open(tiny.model);
  const tensors = [];
  for (const { name, shape } of source.tensors.values()) {
    const values = new Float32Array(await source.read(name));
    tensors.push({
      name,
      shape,
      dtype: "F32" as const,
      values: name === tensor ? values.fill(value) : values,
    });
  }
  await writeSafetensors(join(model_path, "model.safetensors"), tensors);
  return model_path;
}

Deno.test("a model whose logits overflow answers nothing, and result, text and rows say so", async () => {
  using tiny = await TinyModel.create({ count: 3 });
  const model_path = await filled(tiny, "model.norm.weight", 3e38);
  const dropped: unknown[] = [];
  const result = await check(
    { model_path, fingerprints_file_path: tiny.fingerprints, verbose: true },
    { gpu, onDropped: (what) => dropped.push(what) },
  );
  assert.deepEqual(dropped, [{ repeats: 0, conflicts: [], unusable: [], cut: 0, shortened: 0 }]);
  assert.deepEqual([result.success_rate, result.fractional_accuracy, result.questions], [0, 0, 3]);
  assert.equal(result.nan_questions, 3);
  assert.match(checkText(result), /^warning: the model's logits are NaN in 3 of 3 questions/m);
  for (const row of result.rows!) assert.deepEqual([row.got, row.exact, row.fractional], ["", false, 0]);
  assert.deepEqual([gpu.memory.allocatedBytes, "rows" in result], [0, true]);
});

Deno.test("a model with weights that aren't finite has no success rate", async () => {
  using tiny = await TinyModel.create({ count: 3 });
  for (const value of [NaN, Infinity]) {
    const model_path = await filled(tiny, "model.norm.weight", value);
    await assert.rejects(check({ model_path, fingerprints_file_path: tiny.fingerprints }, { gpu }), {
      name: "NonFiniteWeightsError",
      message: new RegExp(
        `^${model_path}/model.safetensors: tensor "model.norm.weight" holds ${value} at`,
      ),
    });
  }
});

Deno.test("tensors that the model doesn't use are in the result and in the text", async () => {
  using tiny = await TinyModel.create({ count: 2 });
  const model_path = tiny.path("more");
  const more = Array.from({ length: 7 }, (_, i) => `mtp.${i}.weight`);
  await tiny.writeModel(model_path, {}, undefined, Object.fromEntries(more.map((name) => [name, 8])));
  const ask = (model_path: string) =>
    check({ model_path, fingerprints_file_path: tiny.fingerprints }, { gpu });
  const result = await ask(model_path);
  assert.deepEqual(result.unused_tensors, more);
  assert.match(
    checkText(result),
    /^warning: the checkpoint has 7 tensors .*: mtp\.0\.weight, .*, mtp\.4\.weight, …$/m,
  );
  const { unused_tensors, ...rest } = result;
  assert.deepEqual([unused_tensors!.length, rest], [7, await ask(tiny.model)]);
});

Deno.test("longer responses: fractional accuracy counts positions, and any accepted response is right", async () => {
  using tiny = await TinyModel.create({ count: 2 });
  const path = tiny.path("long.json");
  const base = { model_path: tiny.model, fingerprints_file_path: path };
  const key = "the sun was setting";
  await Deno.writeTextFile(path, JSON.stringify([{ key, response: " girl said man" }]));
  const ask = async (more: Partial<CheckConfig> = {}) =>
    await check({ ...base, max_response_length: 3, verbose: true, ...more }, { gpu });
  const [{ got, wanted }] = (await ask()).rows!;
  assert.equal(wanted, " girl said man");
  // The model's own answer, alone and as the second accepted one, with one wrong position, and cut.
  const rates = async (response: string | string[], more: Partial<CheckConfig> = {}) => {
    await Deno.writeTextFile(path, JSON.stringify([{ key, response }]));
    const { success_rate, fractional_accuracy } = await ask(more);
    return [success_rate, Math.round(fractional_accuracy)];
  };
  assert.deepEqual(await rates([" girl said man", got]), [100, 100]);
  const [{ got: first }] = (await ask({ max_response_length: 1 })).rows!;
  assert.deepEqual(await rates(`${first} girl man`), [0, 33]);
  assert.deepEqual(await rates(`${first} girl man`, { max_response_length: 1 }), [100, 100]);
  assert.deepEqual(await rates([" girl", " man"], { max_response_length: 1 }), [0, 0]);
});

Deno.test("a generated file is asked by its own ids: whole keys, any of its responses", async () => {
  using tiny = await TinyModel.create();
  const tokenizer = await Tokenizer.load(tiny.model);
  const path = tiny.path("generated.json");
  const same =
    "the sun was setting over the rolling hills when the young girl answered with a nod and walked";
  const keys = [`${same} along`, `${same} that`];
  assert.ok(tokenizer.encode(same).length > 16);
  const write = async (response: string | string[], more: Record<string, unknown> = {}) =>
    await Deno.writeTextFile(
      path,
      JSON.stringify(keys.map((key) => ({
        key,
        response,
        effective_key: key,
        key_ids: tokenizer.encode(key),
        response_ids: Array.isArray(response)
          ? response.map((text) => tokenizer.encode(text))
          : tokenizer.encode(response),
        strategy: "perinucleus",
        tokenizer_hash: tokenizer.hash,
        ...more,
      }))),
    );
  const ask = async (more: Partial<CheckConfig> = {}) =>
    await check(
      { model_path: tiny.model, fingerprints_file_path: path, verbose: true, ...more },
      { gpu },
    );
  await write(" said");
  const { fingerprints, rows } = await ask();
  assert.deepEqual([fingerprints, rows![0].wanted], [2, " said"]);
  // Cut to what OML 1.0 cuts to they are one key.
  assert.equal((await ask({ max_key_length: 16 })).fingerprints, 1);
  const got = rows!.map((row) => row.got);
  await write([" said", " man", ...got]);
  assert.equal((await ask()).success_rate, 100);
  await write(" said", { tokenizer_hash: "00", key_ids: [1], response_ids: [2] });
  const dropped: unknown[] = [];
  const anew = await check({ model_path: tiny.model, fingerprints_file_path: path, max_key_length: 99 }, {
    gpu,
    onDropped: (what) => dropped.push(what),
  });
  assert.equal(anew.fingerprints, 2);
  assert.deepEqual(dropped, [
    { repeats: 0, conflicts: [], unusable: [], cut: 0, shortened: 0, retokenized: 2 },
  ]);
  await write(" said", { response_ids: tokenizer.encode(" man") });
  await assert.rejects(
    ask(),
    /none of the 2 entries is usable; entry 0: the response_ids are not the tokens of/,
  );
});

Deno.test("answers drawn at a temperature follow the seed; strategies have the successor's names, too", async () => {
  using tiny = await TinyModel.create({ count: 8 });
  const ask = async (more: Partial<CheckConfig>) => {
    const base = { model_path: tiny.model, fingerprints_file_path: tiny.fingerprints, verbose: true };
    const { rows } = await check({ ...base, ...more }, { gpu });
    return rows!.map(({ got, wanted }) => ({ got, wanted }));
  };
  const hot = await ask({ temperature: 3, seed: 5 });
  assert.deepEqual(await ask({ temperature: 3, seed: 5 }), hot);
  assert.notDeepEqual(await ask({ temperature: 3, seed: 6 }), hot);
  assert.notDeepEqual(await ask({}), hot);
  assert.deepEqual(await ask({ temperature: 0, seed: 6 }), await ask({}));

  const words = await ask({ fingerprint_generation_strategy: "english_random_responses" });
  assert.deepEqual(
    await ask({ fingerprint_generation_strategy: "english_random_response", seed: 42 }),
    words,
  );
  assert.notDeepEqual(
    await ask({ fingerprint_generation_strategy: "english_random_response", seed: 1 }),
    words,
  );
});

Deno.test("a response is taken from the file as it is stored, also under the names of old settings", async () => {
  using tiny = await TinyModel.create({ count: 2 });
  const path = tiny.path("long.json");
  const key = "the sun was setting";
  await Deno.writeTextFile(path, JSON.stringify([{ key, response: " girl said man" }]));
  const wanted = async (fingerprint_generation_strategy?: CheckConfig["fingerprint_generation_strategy"]) => {
    const base = { model_path: tiny.model, fingerprints_file_path: path, verbose: true };
    return (await check({ ...base, fingerprint_generation_strategy }, { gpu })).rows![0].wanted;
  };
  for (const name of [undefined, "stored", "perinucleus", "inverse_nucleus"] as const) {
    assert.equal(await wanted(name), " girl");
    assert.equal(
      checkConfigSchema.parse({ fingerprint_generation_strategy: name ?? "stored" })
        .fingerprint_generation_strategy,
      "stored",
    );
  }
  assert.equal(
    savedSchema.parse({ fingerprint_generation_strategy: "perinucleus" })
      .fingerprint_generation_strategy,
    "stored",
  );
});

Deno.test("fingerprints may be values: they are asked and checked as a file's entries are", async () => {
  using tiny = await TinyModel.create({ count: 6 });
  const fingerprints = JSON.parse(await Deno.readTextFile(tiny.fingerprints));
  const base = { model_path: tiny.model, verbose: true };
  const ask = async (more: Partial<CheckConfig>) => await check({ ...base, ...more }, { gpu });
  const asked = await ask({ fingerprints });
  assert.deepEqual(asked, await ask({ fingerprints_file_path: tiny.fingerprints }));
  assert.equal(asked.rows!.length, 6);
  // One that types back into the same token.
  const { entry, got } = asked.rows!.find(({ got }) => /^ ?[a-z]+$/.test(got))!;
  const one = await ask({ fingerprints: [{ key: fingerprints[entry].key, response: [" man", got] }] });
  assert.deepEqual([one.fingerprints, one.success_rate], [1, 100]);

  const wrong = [{ key: "the sun", response: " girl" }, { key: "the moon", response: "" }];
  await assert.rejects(ask({ fingerprints: wrong }), (error) => {
    assert.ok(error instanceof FingerprintFileError);
    assert.deepEqual([error.path, error.entry, error.field], ["fingerprints", 1, "response"]);
    assert.equal(error.message, 'fingerprints: entry 1 (counted from 0): field "response" is empty');
    return true;
  });
  await assert.rejects(
    ask({ fingerprints: [] }),
    /^FingerprintFileError: fingerprints: the list .* is empty$/,
  );
});

Deno.test("settings of a check are checked", async () => {
  const refused = (config: unknown, expected: RegExp) =>
    assert.rejects(check(config as CheckConfig, { gpu }), (error) => {
      assert.ok(error instanceof SettingsError);
      assert.match(error.message, expected);
      return true;
    });
  await refused({}, /^model_path is missing: /);
  await refused({ model_path: "m", learning_rate: 1 }, /^unknown setting: learning_rate$/);
  await refused(
    { model_path: "m", fingerprints_file_path: "f", fingerprints: [{ key: "a", response: "b" }] },
    /^fingerprints and fingerprints_file_path: expected one of them, found both$/,
  );
  await refused({ model_path: "m", fingerprints: "f" }, /^fingerprints: expected a list of fingerprints$/);
  await refused({ model_path: "m", num_fingerprints: -1 }, /^num_fingerprints: /);
  await refused({ model_path: "m", temperature: -1, seed: 0.5 }, /^seed: .*\ntemperature: /);
  await refused({ model_path: "m", fingerprint_generation_strategy: "french" }, /^fingerprint_generation_/);
});
