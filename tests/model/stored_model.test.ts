/** What a checkpoint decides beside config.json: names, tying, what is unused, and weights that aren't finite. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { LanguageModel } from "../../engine/language_model.ts";
import { areFinite, type NonFiniteWeightsError } from "../../engine/model/finite.ts";
import { readStoredSpec } from "../../engine/model/stored_model.ts";
import { FLOAT_DTYPES, type FloatDtype, narrow } from "../../engine/tensor/dtype.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { assertMaxAbs, assertNear, assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { VARIANTS } from "../models/variants.ts";
import { forward, lossAndGradients } from "../reference/decoder.ts";
import { randomWeights, widenWeights } from "../reference/decoder_shape.ts";
import { encodeSafetensors, parseSafetensors } from "../safetensors.ts";
import { assertNoisyGradients, concat, folder, oneRounding, randomExamples, TINY } from "../train/support.ts";
import { TOLERANCE } from "../train/support.ts";

const gpu = await sharedGpu();
const V = TINY.vocab_size as number;
const TIED = { ...TINY, tie_word_embeddings: true };
const EMBEDDING = "model.embed_tokens.weight";
const HEAD = "lm_head.weight";
const WEIGHTS = "model.safetensors";

type Tensors = Map<string, { shape: number[]; data: Float32Array }>;

/** Writes a model folder. */
function write(dir: string, config: Record<string, unknown> | string, weights: Tensors): string {
  Deno.mkdirSync(dir, { recursive: true });
  const text = typeof config === "string" ? config : JSON.stringify(config);
  Deno.writeTextFileSync(join(dir, "config.json"), text);
  Deno.writeFileSync(join(dir, WEIGHTS), encodeSafetensors(weights));
  return dir;
}

const parse = (dir: string) => parseSafetensors(Deno.readFileSync(join(dir, WEIGHTS)));
const configOf = (dir: string) => JSON.parse(Deno.readTextFileSync(join(dir, "config.json")));

/** A step of training, on rows of every kind. */
async function step(model: LanguageModel): Promise<void> {
  using trainer = new Trainer(model, { learningRate: 1e-2, totalSteps: 1 });
  await trainer.step(randomExamples([9, 8], model.spec.vocabulary, 2));
}

/** Trains and saves a folder, and checks that what comes back has the trained weights under the same names. */
async function assertKept(from: string, to: string, names: readonly string[]): Promise<void> {
  using model = await LanguageModel.load(gpu, from);
  const before = new Map<string, Float32Array>();
  for (const name of model.parameterNames()) before.set(name, await model.parameter(name));
  await step(model);
  await model.save(to);
  assert.deepEqual([...parse(to).keys()].sort(), [...names].sort());
  using again = await LanguageModel.load(gpu, to);
  assert.deepEqual(again.parameterNames(), model.parameterNames());
  for (const [name, old] of before) {
    const trained = await model.parameter(name);
    assert.notDeepEqual(trained, old, name);
    assertSameBits(name, await again.parameter(name), trained);
  }
}

Deno.test("a head of its own beside tie_word_embeddings is used, trained and saved, and config.json says so", async () => {
  using out = folder();
  const weights = randomWeights(TINY, 5);
  const source = write(join(out.dir, "source"), TIED, weights);
  const target = join(out.dir, "target");
  const examples = randomExamples([13, 6], V, 12, 0.5);
  const sequences = examples.map(({ ids }) => ids);
  const exact = widenWeights(weights);
  {
    using model = await LanguageModel.load(gpu, source);
    assert.equal(model.spec.tied, false);
    assertMaxAbs(
      "logits",
      concat(await model.logits(sequences)),
      concat(forward(TINY, exact, sequences)),
      TOLERANCE.logits,
    );
    const expected = lossAndGradients(TINY, exact, examples);
    const disturbed = lossAndGradients(TINY, oneRounding(exact), examples).gradients;
    const { loss, gradients } = await model.lossAndGradients(examples);
    assertNear("loss", loss, expected.loss, TOLERANCE.loss);
    assertNoisyGradients(gradients, expected.gradients, disturbed);
  }
  await assertKept(source, target, [...weights.keys()]);
  assert.deepEqual(configOf(target), { ...TIED, tie_word_embeddings: false });
  assert.equal((await readStoredSpec(target)).tied, false);
});

Deno.test("an equal copy of the embedding stays tied, in another float type as well", async () => {
  using out = folder();
  const weights = randomWeights(TINY, 5);
  const embedding = weights.get(EMBEDDING)!;
  weights.set(HEAD, embedding);
  const source = write(join(out.dir, "source"), TIED, weights);
  await assertKept(source, join(out.dir, "target"), [...weights.keys()]);
  assert.deepEqual(configOf(join(out.dir, "target")), TIED);
  const [found, copy] = [EMBEDDING, HEAD].map((name) => parse(join(out.dir, "target")).get(name)!.bytes);
  assert.deepEqual(copy, found);
  // The last number alone decides, and −0 isn't 0.
  for (const [at, value] of [[embedding.data.length - 1, 7], [3, -0]]) {
    const data = embedding.data.slice();
    data[at] = at === 3 ? 0 : data[at];
    weights.set(EMBEDDING, { ...embedding, data });
    const other = data.slice();
    other[at] = value;
    weights.set(HEAD, { ...embedding, data: other });
    assert.equal((await readStoredSpec(write(source, TIED, weights))).tied, false);
  }
});

Deno.test("config.json says that the head isn't the embedding where a family's default ties them", async () => {
  const config = { ...Object.values(VARIANTS).find(({ model_type }) => model_type === "gemma2")! };
  delete config.tie_word_embeddings;
  using out = folder();
  const weights = randomWeights({ ...config, tie_word_embeddings: false }, 5);
  const text = `{\n  "rms_norm_eps": 1e-06,\n  "initializer_range": NaN,\n  ${
    JSON.stringify(config).slice(1)
  }`;
  const source = write(join(out.dir, "source"), text, weights);
  assert.ok(weights.has(HEAD));
  using model = await LanguageModel.load(gpu, source);
  assert.equal(model.spec.tied, false);
  await model.save(join(out.dir, "target"));
  const saved = Deno.readTextFileSync(join(out.dir, "target", "config.json"));
  assert.equal(saved, text.replace("{\n  ", '{\n  "tie_word_embeddings": false,\n  '));
});

Deno.test("one of a tied pair is enough, under either name", async () => {
  using out = folder();
  const weights = randomWeights(TIED, 6);
  const usual = write(join(out.dir, "usual"), TIED, weights);
  const ids = [[1, 2, 3, 4, 5]];
  using model = await LanguageModel.load(gpu, usual);
  const [expected] = await model.logits(ids);
  const headOnly = new Map([...weights].map(([name, tensor]) => [name === EMBEDDING ? HEAD : name, tensor]));
  const source = write(join(out.dir, "head"), TIED, headOnly);
  using other = await LanguageModel.load(gpu, source);
  assertSameBits("logits", (await other.logits(ids))[0], expected);
  assert.deepEqual(other.unusedTensors(), []);
  await assertKept(source, join(out.dir, "target"), [...headOnly.keys()]);
  // Not of a model whose head is its own.
  const untied = write(join(out.dir, "untied"), TINY, headOnly);
  await assert.rejects(LanguageModel.load(gpu, untied), {
    name: "CheckpointMismatchError",
    tensor: EMBEDDING,
  });
});

/** Names of a checkpoint by those that Transformers gives them. */
const RENAMES: Readonly<Record<string, (name: string) => string>> = {
  "base class": (name) => name.replace(/^(model|gpt_neox)\./, ""),
  "adapter's wrapper": (name) => `base_model.model.${name}`,
  "compiled": (name) => `_orig_mod.${name}`,
  "text part": (name) => `language_model.${name}`,
  "text part, head outside": (name) => name.replace(/^(model|gpt_neox)\./, "model.language_model."),
};

const NEOX = Object.values(VARIANTS).find(({ model_type }) => model_type === "gpt_neox")!;

for (const [what, rename] of Object.entries(RENAMES)) {
  for (const [family, config] of Object.entries({ tied: TIED, untied: TINY, neox: NEOX })) {
    Deno.test(`names, ${what}: ${family} is loaded, and saved under the checkpoint's own`, async () => {
      using out = folder();
      const weights = randomWeights(config, 6);
      const ids = [[1, 2, 3, 4, 5]];
      using model = await LanguageModel.load(gpu, write(join(out.dir, "usual"), config, weights));
      const [expected] = await model.logits(ids);
      const renamed = new Map([...weights].map(([name, tensor]) => [rename(name), tensor]));
      // Something larger's other parts have layers too.
      renamed.set("vision_tower.layers.0.input_layernorm.weight", { shape: [2], data: new Float32Array(2) });
      const source = write(join(out.dir, "source"), config, renamed);
      using other = await LanguageModel.load(gpu, source);
      assertSameBits("logits", (await other.logits(ids))[0], expected);
      assert.deepEqual(other.unusedTensors(), ["vision_tower.layers.0.input_layernorm.weight"]);
      await assertKept(source, join(out.dir, "target"), [...renamed.keys()]);
    });
  }
}

Deno.test("names: what is missing is named as the checkpoint would, and two models in one are refused", async () => {
  using out = folder();
  const weights = randomWeights(TINY, 6);
  const plain = new Map([...weights].map(([name, tensor]) => [name.replace(/^model\./, ""), tensor]));
  plain.delete("layers.1.mlp.up_proj.weight");
  await assert.rejects(readAll(write(join(out.dir, "a"), TINY, plain)), {
    name: "CheckpointMismatchError",
    tensor: "layers.1.mlp.up_proj.weight",
  });
  const twice = new Map(
    [...weights].flatMap(([name, tensor]) =>
      ["student", "teacher"].map((who) => [`${who}.${name}`, tensor] as const)
    ),
  );
  await assert.rejects(readAll(write(join(out.dir, "b"), TINY, twice)), {
    name: "CheckpointMismatchError",
    message: /student\.model\.layers\.0.*, teacher\.model\.layers\.0/,
  });
  // The usual names win over others beside them.
  const beside = new Map([...weights, ...twice]);
  const source = write(join(out.dir, "c"), TINY, beside);
  using model = await LanguageModel.load(gpu, source);
  assert.deepEqual(model.unusedTensors().sort(), [...twice.keys()].sort());
  await model.save(join(out.dir, "d"));
  assert.deepEqual(parse(join(out.dir, "d")), parse(source));
});

const readAll = async (dir: string) => (await LanguageModel.load(gpu, dir)).dispose();

Deno.test("tensors that nobody reads are named and saved as they were; buffers of old are not named", async () => {
  using out = folder();
  const weights = randomWeights(TINY, 6);
  const one = { shape: [2], data: Float32Array.of(NaN, 3) };
  const computed = [
    "model.layers.0.self_attn.rotary_emb.inv_freq",
    "model.rotary_emb.inv_freq",
    "model.layers.1.attention.bias",
    "model.layers.1.attention.masked_bias",
    "model.layers.1.attn.bias",
    "model.position_ids",
  ];
  const unused = [
    "model.layers.0.self_attn.q_proj.bias",
    "mtp.fc.weight",
    "model.layers.2.mlp.up_proj.weight",
  ];
  for (const name of [...computed, ...unused]) weights.set(name, one);
  const source = write(join(out.dir, "source"), TINY, weights);
  using model = await LanguageModel.load(gpu, source);
  assert.deepEqual(model.unusedTensors().sort(), [...unused].sort());
  await model.save(join(out.dir, "target"));
  assert.deepEqual(parse(join(out.dir, "target")), parse(source));
});

Deno.test("a tensor that the index alone has is missing, and the message says where it should be", async () => {
  using out = folder();
  const weights = randomWeights(TINY, 6);
  weights.delete("model.norm.weight");
  write(out.dir, TINY, weights);
  Deno.renameSync(join(out.dir, WEIGHTS), join(out.dir, "part.safetensors"));
  const names = ["model.norm.weight", "mtp.fc.weight", ...weights.keys()];
  const weight_map = Object.fromEntries(names.map((name) => [name, "part.safetensors"]));
  Deno.writeTextFileSync(join(out.dir, `${WEIGHTS}.index.json`), JSON.stringify({ weight_map }));
  await assert.rejects(readAll(out.dir), {
    name: "CheckpointMismatchError",
    tensor: "model.norm.weight",
    message: /missing from the checkpoint, though its index places it in part\.safetensors$/,
  });
});

Deno.test("weights that aren't finite are found while loading, with tensor, file, place and value", async () => {
  using out = folder();
  const { allocatedBytes } = gpu.memory;
  for (const [name, element] of [[EMBEDDING, 0], ["model.norm.weight", 23], [HEAD, 53 * 24 - 1]] as const) {
    for (const value of [NaN, Infinity, -Infinity]) {
      const weights = randomWeights(TINY, 6);
      const { data } = weights.get(name)!;
      data[element] = value;
      const source = write(out.dir, TINY, weights);
      await assert.rejects(LanguageModel.load(gpu, source), (error) => {
        const { name: kind, tensor, file, element: at, message } = error as NonFiniteWeightsError;
        assert.deepEqual([kind, tensor, at], ["NonFiniteWeightsError", name, element]);
        assert.equal(file, join(source, WEIGHTS));
        assert.equal(
          message,
          `${file}: tensor "${name}" holds ${value} at element ${element}: expected finite weights`,
        );
        return true;
      });
    }
  }
  assert.equal(gpu.memory.allocatedBytes, allocatedBytes);
});

Deno.test("areFinite: every bit pattern of 16 bits at every place, and f32 at the limits", () => {
  const value: Record<string, (bits: number) => number> = {
    F16: (bits) => new Float16Array(Uint16Array.of(bits).buffer)[0],
    BF16: (bits) => new Float32Array(Uint32Array.of(bits << 16).buffer)[0],
  };
  for (const dtype of ["F16", "BF16"] as const) {
    for (let bits = 0; bits < 65536; bits++) {
      const finite = Number.isFinite(value[dtype](bits));
      const eight = [1, 2, 3, 4, 5, 6, 7, 8];
      for (const halves of [[bits], [bits, 1], [1, bits], [1, 2, bits], [...eight, bits, 9, ...eight]]) {
        const bytes = new Uint8Array(Uint16Array.from(halves).buffer);
        if (areFinite(dtype, bytes) !== finite) {
          assert.fail(`${dtype} ${bits.toString(16)} in ${halves.length}`);
        }
      }
    }
  }
  const largest = 3.4028234663852886e38;
  for (const x of [0, -0, 1, -1, largest, -largest, 1e-45, NaN, -NaN, Infinity, -Infinity]) {
    const places = Array.from({ length: 19 }, (_, at) => new Array(19).fill(1).with(at, x));
    for (const values of [[x], [1, x], [x, -1], [-largest, largest, x], ...places]) {
      const bytes = new Uint8Array(Float32Array.from(values).buffer);
      assert.equal(areFinite("F32", bytes), Number.isFinite(x), `${values}`);
    }
  }
  // A large tensor of large values, negative ones among them, in every type.
  const many = Float32Array.from({ length: 10_001 }, (_, i) => (i % 2 ? -1 : 1) * 60_000 / (1 + i % 7));
  for (const dtype of FLOAT_DTYPES as readonly FloatDtype[]) {
    const bytes = new Uint8Array(narrow(dtype, many));
    assert.ok(areFinite(dtype, bytes), dtype);
  }
});

Deno.test("dynamic rope: sequences up to max_position_embeddings, and none beyond, whole or grown", async () => {
  const config = { ...TINY, max_position_embeddings: 12, rope_scaling: { type: "dynamic", factor: 2 } };
  using out = folder();
  const weights = randomWeights(TINY, 6);
  using plain = await LanguageModel.load(gpu, write(join(out.dir, "plain"), TINY, weights));
  using model = await LanguageModel.load(gpu, write(join(out.dir, "dynamic"), config, weights));
  const ids = Array.from({ length: 12 }, (_, i) => i + 1);
  assertSameBits("logits", (await model.logits([ids]))[0], (await plain.logits([ids]))[0]);
  const refused = {
    name: "RangeError",
    message: /^a sequence of 13 tokens: .*"dynamic".*max_position_embeddings only, 12 tokens$/,
  };
  await assert.rejects(model.logits([[1], [...ids, 13]]), refused);
  const options = { maxNewTokens: 3, stop: [] };
  // The last new token is never read.
  assert.deepEqual(
    await model.generate([ids.slice(0, 10)], options),
    await plain.generate([ids.slice(0, 10)], options),
  );
  await assert.rejects(model.generate([ids.slice(0, 11)], options), refused);
});
