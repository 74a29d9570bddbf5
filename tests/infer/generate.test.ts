/** Decoding with a cache: the goldens' texts, and texts that depend on nothing but their own prompt. */
import assert from "node:assert/strict";
import { stringifyNonFinite } from "../../engine/io/json_non_finite.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import { assertMaxAbs, assertSameBits } from "../compare.ts";
import { floats, generations, GOLDEN_MODELS, loadGolden } from "../golden.ts";
import { freshGpu, sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { generateGreedy } from "../reference/decoder.ts";
import { VARIANTS } from "../models/variants.ts";
import { modelFolder, TINY } from "../train/support.ts";

const gpu = await sharedGpu();

for (const name of GOLDEN_MODELS) {
  const golden = loadGolden(name);
  const { tolerances } = golden.golden;

  Deno.test(`generate ${name}: the golden's tokens, together, alone and in bf16; its distribution`, async () => {
    const expected = generations(golden);
    const maxNewTokens = expected[0].tokens.length;
    const wanted = expected.map(({ tokens }) => tokens);
    const prompts = expected.map(({ prompt }) => prompt);
    using model = await LanguageModel.load(gpu, golden.dir);
    assert.deepEqual(await model.generate(prompts, { maxNewTokens, stop: [] }), wanted);
    for (const [i, prompt] of prompts.entries()) {
      assert.deepEqual(await model.generate([prompt], { maxNewTokens, stop: [] }), [wanted[i]]);
    }
    const [probabilities] = await model.nextTokenProbabilities(prompts.slice(0, 1));
    assertMaxAbs("gen.probs", probabilities, floats(golden, "gen.probs"), tolerances.probs_abs);
    if (golden.golden.weights_dtype !== "BF16") return;
    using halves = await LanguageModel.load(gpu, golden.dir, { dtype: "bf16", master: "none" });
    assert.deepEqual(await halves.generate(prompts, { maxNewTokens, stop: [] }), wanted);
  });
}

for (const [name, config] of Object.entries(VARIANTS)) {
  Deno.test(`generate, ${name}: as the reference without a cache, beyond windows and longrope's limit`, async () => {
    using folder = modelFolder(config, 31);
    using model = await LanguageModel.load(gpu, folder.dir);
    const random = new Random(32);
    const prompts = [1, 7, 20].map((length) => random.integers(length, 0, config.vocab_size as number));
    const found = await model.generate(prompts, { maxNewTokens: 12, stop: [] });
    for (const [i, prompt] of prompts.entries()) {
      const wanted = generateGreedy(config, folder.weights, prompt, 12);
      assert.deepEqual(found[i], wanted, `prompt ${i}`);
    }
  });
}

const PROMPTS = (() => {
  const random = new Random(33);
  return Array.from({ length: 23 }, (_, i) => random.integers(1 + i * 5 % 17, 0, TINY.vocab_size as number));
})();

Deno.test("generate: texts drawn at a temperature depend on seed, index and prompt alone", async () => {
  using folder = modelFolder(TINY, 34);
  using model = await LanguageModel.load(gpu, folder.dir);
  const options = { maxNewTokens: 9, temperature: 0.8, topK: 30, topP: 0.95, minP: 0.01, seed: 5, stop: [2] };
  const whole = await model.generate(PROMPTS, options);
  assert.ok(whole.some(({ length }) => length < 9) && whole.every((ids) => !ids.includes(2)));
  for (const size of [1, 4, 22]) {
    const parts: number[][] = [];
    for (let first = 0; first < PROMPTS.length; first += size) {
      parts.push(
        ...await model.generate(PROMPTS.slice(first, first + size), { ...options, firstIndex: first }),
      );
    }
    assert.deepEqual(parts, whole, `in parts of ${size}`);
  }
  assert.notDeepEqual(await model.generate(PROMPTS, { ...options, seed: 6 }), whole);
  // A cache for some 3 texts at a time, and micro-batches of a few tokens.
  using small = await freshGpu({ limits: { maxStorageBufferBindingSize: 12_800 } });
  using narrow = await LanguageModel.load(small, folder.dir, { maxTokens: 20 });
  assert.deepEqual(await narrow.generate(PROMPTS, options), whole);
});

Deno.test("generate: stops at the model's own end, at given ids, at a length, and at NaN", async () => {
  using folder = modelFolder(TINY, 34);
  using model = await LanguageModel.load(gpu, folder.dir);
  assert.deepEqual(await model.eosIds(), []);
  const [whole] = await model.generate([PROMPTS[5]], { maxNewTokens: 10 });
  assert.equal(whole.length, 10);
  const stop = [whole[4]];
  const until = whole.slice(0, whole.indexOf(whole[4]));
  assert.deepEqual(await model.generate([PROMPTS[5]], { maxNewTokens: 10, stop }), [until]);
  assert.deepEqual(await model.generate(PROMPTS.slice(0, 2), { maxNewTokens: 0 }), [[], []]);
  assert.deepEqual(await model.generate([], { maxNewTokens: 3 }), []);

  await Deno.writeTextFile(
    `${folder.dir}/generation_config.json`,
    JSON.stringify({ eos_token_id: [50, whole[4]] }),
  );
  using ended = await LanguageModel.load(gpu, folder.dir);
  assert.deepEqual(await ended.eosIds(), [50, whole[4]]);
  assert.deepEqual(await ended.generate([PROMPTS[5]], { maxNewTokens: 10 }), [until]);

  for (const eos_token_id of [NaN, [1, 1.5], Infinity]) {
    await Deno.writeTextFile(`${folder.dir}/generation_config.json`, stringifyNonFinite({ eos_token_id }));
    using wrong = await LanguageModel.load(gpu, folder.dir);
    await assert.rejects(wrong.eosIds(), {
      name: "JsonFileError",
      message: /generation_config\.json: eos_token_id: expected a token id, found (NaN|1\.5|Infinity)$/,
    });
  }

  using broken = modelFolder(TINY, 34, (name, data) => {
    if (name === "model.norm.weight") data.fill(3e38);
  });
  using nothing = await LanguageModel.load(gpu, broken.dir);
  for (const temperature of [0, 1]) {
    assert.deepEqual(await nothing.generate(PROMPTS.slice(0, 2), { maxNewTokens: 3, temperature }), [[], []]);
  }
});

Deno.test("generate: wrong options and prompts are named; what was taken is given back", async () => {
  using folder = modelFolder(TINY, 34);
  using model = await LanguageModel.load(gpu, folder.dir);
  const before = gpu.memory.allocatedBytes;
  const refused = (prompts: number[][], options: object, message: RegExp) =>
    assert.rejects(model.generate(prompts, { maxNewTokens: 2, ...options }), { name: "RangeError", message });
  await refused([[1], []], {}, /prompt 1 is empty/);
  await refused([[1, 99]], {}, /token 99 is outside the vocabulary of 53/);
  await refused([[1]], { maxNewTokens: -1 }, /maxNewTokens is -1, expected a whole number/);
  await refused([[1]], { temperature: -1 }, /temperature is -1/);
  await refused([[1]], { topP: 0 }, /topP is 0, expected a number in \(0, 1\]/);
  await refused([[1]], { topK: 1.5 }, /topK is 1\.5/);
  await refused([[1]], { minP: 2 }, /minP is 2/);
  await refused([[1]], { maxNewTokens: 1e9 }, /prompt 0: 1 tokens and 1000000000 new ones, but the cache/);
  const controller = new AbortController();
  controller.abort(new Error("enough"));
  await assert.rejects(model.generate([[1]], { maxNewTokens: 2, signal: controller.signal }), {
    message: "enough",
  });
  assert.equal(gpu.memory.allocatedBytes, before);
});

Deno.test("nextTokenProbabilities: a softmax of the last position's logits, whatever the batch", async () => {
  using folder = modelFolder(TINY, 34);
  using model = await LanguageModel.load(gpu, folder.dir);
  const together = await model.nextTokenProbabilities(PROMPTS);
  for (const i of [0, 7, 22]) {
    const [alone] = await model.nextTokenProbabilities([PROMPTS[i]]);
    assertSameBits(`prompt ${i}`, together[i], alone);
    const sum = alone.reduce((total, p) => total + p, 0);
    assert.ok(Math.abs(sum - 1) < 1e-6, `${sum}`);
  }
});
