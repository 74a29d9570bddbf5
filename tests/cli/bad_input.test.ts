import assert from "node:assert/strict";
import { join } from "node:path";
import { rawFile } from "../io/support.ts";
import { flags, names, whorl } from "./command.ts";
import { TinyModel } from "./tiny_model.ts";

let tiny: TinyModel;

Deno.test.beforeAll(async () => {
  tiny = await TinyModel.create();
});
Deno.test.afterAll(() => tiny[Symbol.dispose]());

/** Words of a secret that no message may have. */
const SECRET = "zanzibar quokka";

/** Runs finetune, which must fail with this message alone, without a trace of results or secrets. */
async function refused(
  values: Record<string, string | number | true>,
  expected: RegExp,
  exitCode = 1,
): Promise<void> {
  const output_dir = tiny.path("results");
  const where = { model_path: tiny.model, fingerprints_file_path: tiny.fingerprints, output_dir };
  const { code, out, err } = await whorl(["finetune", ...flags({ ...where, ...values })]);
  assert.match(err, expected);
  assert.equal(code, exitCode, err);
  assert.match(err, /^error: [^\n]+\n$/);
  for (const word of SECRET.split(" ")) assert.ok(!`${out}${err}`.includes(word), err);
  assert.doesNotMatch(out, /^epoch|embedded/m);
  assert.deepEqual(names(output_dir), []);
}

const encode = (text: string) => new TextEncoder().encode(text);

/** A file's parts: the header as an object, and the data. */
async function openSafetensors(path: string) {
  const bytes = await Deno.readFile(path);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  return { bytes, header, data: bytes.subarray(8 + length) };
}

Deno.test("a broken checkpoint is refused, naming the file and what is wrong", async () => {
  const folder = tiny.path("broken");
  await tiny.writeModel(folder);
  const file = join(folder, "model.safetensors");
  const { bytes, header, data } = await openSafetensors(file);
  const name = "model.layers.1.mlp.up_proj.weight";
  const changed = (change: (entry: { dtype: string; shape: number[]; data_offsets: number[] }) => void) => {
    const copy = structuredClone(header);
    change(copy[name]);
    return rawFile(copy, data);
  };
  const gone = structuredClone(header);
  gone[`${name}.old`] = gone[name];
  delete gone[name];
  const [begin, end] = header[name].data_offsets;
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(), /model\.safetensors: expected at least 8 bytes, found 0: truncated/],
    [rawFile(header, data, 2 ** 40), /model\.safetensors: header length 1099511627776 is over the limit/],
    [rawFile(header, data, 3), /model\.safetensors: the header is not valid JSON/],
    [
      bytes.subarray(0, bytes.length - 100),
      /model\.safetensors: .* lie outside the file, which has 115100 data bytes/,
    ],
    [bytes.subarray(0, 200), /model\.safetensors: header length \d+ exceeds the 192 bytes that follow/],
    [
      changed((entry) => entry.data_offsets = [begin - 64, end - 64]),
      /up_proj\.weight" overlaps tensor ".*gate_proj\.weight"/,
    ],
    [
      changed((entry) => entry.data_offsets = [begin, end + 2 ** 30]),
      /up_proj.* data_offsets .* lie outside the file/,
    ],
    [changed((entry) => entry.dtype = "I32"), /up_proj.* has dtype I32, expected F32, F16 or BF16/],
    [
      changed((entry) => entry.shape.reverse()),
      /up_proj.* has shape \[32,64\], but config\.json gives \[64,32\]/,
    ],
    [rawFile(gone, data), /up_proj\.weight" is missing from the checkpoint/],
    [encode("PK\u0003\u0004 not safetensors"), /model\.safetensors: .* not safetensors/],
  ];
  for (const [content, expected] of cases) {
    await Deno.writeFile(file, content);
    await refused({ model_path: folder }, expected);
  }
  await Deno.remove(file);
  await refused({ model_path: folder }, /broken: no weights found: looked for model\.safetensors/);
});

Deno.test("a model folder with a wrong or missing config or tokenizer is refused", async () => {
  const folder = tiny.path("folder");
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ hidden_size: undefined }, /config\.json: "hidden_size" is missing, expected a number/],
    [{ num_attention_heads: "2" }, /config\.json: "num_attention_heads" is "2", expected a number/],
    [{ model_type: "gpt2" }, /config\.json: "model_type" is "gpt2", which is not supported/],
    [{ rope_scaling: { rope_type: "ntk", factor: 4 } }, /config\.json: "rope_scaling.*ntk/],
    [
      { vocab_size: 500 },
      /embed_tokens.* has shape \[319,32\], but config\.json gives \[500,32\]/,
    ],
  ];
  for (const [config, expected] of cases) {
    await tiny.writeModel(folder, config);
    await refused({ model_path: folder }, expected);
  }
  await Deno.writeTextFile(join(folder, "config.json"), "{");
  await refused({ model_path: folder }, /config\.json: not valid JSON at line 1/);
  await Deno.remove(join(folder, "config.json"));
  await refused({ model_path: folder }, /has no config\.json: expected a Hugging Face model folder/);

  await tiny.writeModel(folder);
  await Deno.remove(join(folder, "tokenizer.json"));
  await refused({ model_path: folder }, /tokenizer\.json: cannot read the tokenizer: there is no such file/);
  await refused(
    { model_path: tiny.path("nowhere") },
    /^error: model_path: no such folder: .*nowhere; and ".*nowhere" is not a model of the Hugging Face Hub/m,
    2,
  );
  await refused(
    { model_path: tiny.fingerprints },
    /fingerprints\.json is a file: expected the folder of a Hugging Face model/,
    2,
  );
});

Deno.test("a tokenizer with more tokens than the model is refused before training", async () => {
  const folder = tiny.path("small");
  await tiny.writeModel(folder, {}, 300);
  await refused(
    { model_path: folder },
    /the tokenizer gives token ids up to 318, but config\.json says "vocab_size": 300/,
  );
  const asked = flags({ model_path: folder, fingerprints_file_path: tiny.fingerprints });
  const { code, err } = await whorl(["check", ...asked]);
  assert.equal(code, 1);
  assert.match(err, /tokenizer and model don't belong together/);
});

Deno.test("a fingerprint file that is empty, malformed or too short is refused, its text never shown", async () => {
  const path = tiny.path("bad.json");
  const cases: [string | Uint8Array, RegExp][] = [
    ["", /bad\.json: expected JSON, found an empty file/],
    ["[]", /bad\.json: the list of fingerprints is empty/],
    [`[{"key": "${SECRET}", "response": "x"}`, /bad\.json: not valid JSON: the file ends too early/],
    [
      `[{"key": "${SECRET}" "response": "x"}]`,
      /bad\.json: not valid JSON: the first unexpected character is at line 1/,
    ],
    [
      `[{"key": "${SECRET}", "response": "x"}, {"key": "", "response": "${SECRET}"}]`,
      /entry 1 .*"key" is empty/,
    ],
    [
      `[{"key": "${SECRET}", "response": 7}]`,
      /entry 0 .*"response": expected a string or a list of strings, found a number/,
    ],
    [`[{"keys": "${SECRET}"}]`, /entry 0 .*"key" is missing/],
    [`["${SECRET}"]`, /entry has no response: 1 of 1 entries/],
    [`"${SECRET}"`, /expected a list of fingerprints .*found a string/],
    [new Uint8Array([0x5b, 0xff, 0x5d]), /found bytes that are not UTF-8/],
  ];
  for (const [content, expected] of cases) {
    await Deno.writeFile(path, typeof content === "string" ? encode(content) : content);
    await refused({ fingerprints_file_path: path }, expected);
  }
  await refused({ fingerprints_file_path: tiny.path("none.json") }, /none\.json: .*there is no such file/);
  await refused({ fingerprints_file_path: tiny.dir }, /expected a regular file, found a directory/);
  await refused({ num_fingerprints: 13 }, /13 fingerprints asked for, but there are only 12/);
  const conflict = [" the", " girl"].map((response) => ({ key: SECRET, response }));
  await Deno.writeTextFile(path, JSON.stringify(conflict));
  await refused(
    { fingerprints_file_path: path, strict: true },
    /1 entries share the effective key .*\(counted from 0: 1\)/,
  );
});

Deno.test("a check of a model of somebody else needs a fingerprint file", async () => {
  const { code, err } = await whorl(["check", "--model_path", tiny.model]);
  assert.equal(code, 1);
  assert.match(
    err,
    /^error: fingerprints_file_path is missing, and there are no fingerprints beside .*model\n$/,
  );
});
