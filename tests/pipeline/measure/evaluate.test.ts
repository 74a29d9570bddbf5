import assert from "node:assert/strict";
import { LanguageModel } from "../../../engine/language_model.ts";
import { askFingerprints, explainAnswers } from "../../../pipeline/measure/evaluate.ts";
import { assertNear } from "../../compare.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { Random } from "../../random.ts";
import { logSoftmax } from "../../reference/cross_entropy.ts";
import { VARIANTS } from "../../models/variants.ts";
import { argmax, forward, generateGreedy } from "../../reference/decoder.ts";
import { modelFolder, TINY } from "../../train/support.ts";
import { fingerprint, NUMBERS } from "../tokenizer/number_tokenizer.ts";

const gpu = await sharedGpu();
const V = TINY.vocab_size as number;
const folder = modelFolder(TINY, 12);
const random = new Random(5);
const KEYS = Array.from({ length: 6 }, () => random.integers(5, 3, V));

addEventListener("unload", () => folder[Symbol.dispose]());

function greedy(promptIds: readonly number[], count: number): number[] {
  return generateGreedy(TINY, folder.weights, [1, ...promptIds], count);
}

/** Log-probabilities of the next token. */
function next(ids: readonly number[]): Float64Array {
  const [logits] = forward(TINY, folder.weights, [ids]);
  return logSoftmax(logits.subarray(-V));
}

/** Another token than `token`. */
const other = (token: number) => 3 + (token + 1) % (V - 3);

/** Fingerprints that the untrained model answers, half answers or misses. */
const said = KEYS.map((key) => greedy(key, 4));
const FINGERPRINTS = [
  fingerprint(KEYS[0], said[0].slice(0, 1)),
  fingerprint(KEYS[1], [other(said[1][0])]),
  fingerprint(KEYS[2], said[2].slice(0, 3)),
  // Wrong at the second of three: what follows is decoded from the wrong token, not teacher-forced.
  fingerprint(KEYS[3], [said[3][0], other(said[3][1]), said[3][2]]),
  // The second accepted response is right.
  fingerprint(KEYS[4], [other(said[4][0]), 7], said[4].slice(0, 2)),
  fingerprint(KEYS[5], [other(said[5][0]), 7], [said[5][0], other(said[5][1]), 9, 9], [other(said[5][0])]),
];

Deno.test("askFingerprints: exact and fractional answers, as greedy decoding in float64 gives them", async () => {
  using model = await LanguageModel.load(gpu, folder.dir);
  const result = await askFingerprints(model, NUMBERS, FINGERPRINTS);
  assert.deepEqual(result.answers.map(({ exact }) => exact), [true, false, true, false, true, false]);
  const fractional = result.answers.map((answer) => answer.fractional);
  assert.deepEqual(fractional, [1, 0, 1, 2 / 3, 1, 1 / 4]);
  assert.equal(result.questions, 6);
  assertNear("success", result.successRate, 50, 1e-9);
  assertNear("fractional", result.fractionalAccuracy, 100 * (1 + 1 + 2 / 3 + 1 + 1 / 4) / 6, 1e-9);
  assert.deepEqual(result.answers.map(({ got }) => got), [
    ...[said[0].slice(0, 1), said[1].slice(0, 1), said[2].slice(0, 3), said[3].slice(0, 3)],
    ...[said[4].slice(0, 2), said[5].slice(0, 4)],
  ]);
  assert.deepEqual(result.answers.map(({ wanted }) => wanted), [
    ...FINGERPRINTS.slice(0, 4).map(({ responseIds }) => responseIds),
    said[4].slice(0, 2),
    FINGERPRINTS[5].responses[1],
  ]);

  const nats = FINGERPRINTS.flatMap(({ keyIds, responseIds }) =>
    responseIds.map((token, t) => -next([1, ...keyIds, ...responseIds.slice(0, t)])[token])
  );
  assertNear("loss", result.loss, nats.reduce((sum, x) => sum + x, 0) / nats.length, 2e-5);
  result.answers.forEach(({ probability, fingerprint: { keyIds, responseIds } }) =>
    assertNear("probability", probability, Math.exp(next([1, ...keyIds])[responseIds[0]]), 1e-6)
  );
});

Deno.test("askFingerprints: every fingerprint in every template", async () => {
  using model = await LanguageModel.load(gpu, folder.dir);
  const templates = ["5 6 {} 8", "{} 4"];
  const prompts = FINGERPRINTS.flatMap(({ keyIds }) => [[5, 6, ...keyIds, 8], [...keyIds, 4]]);
  const { answers, questions } = await askFingerprints(model, NUMBERS, FINGERPRINTS, templates);
  assert.equal(questions, 12);
  assert.deepEqual(answers.map(({ promptIds }) => promptIds), prompts);
  assert.deepEqual(answers.map(({ template }) => template), FINGERPRINTS.flatMap(() => [0, 1]));
  answers.forEach(({ got, exact, promptIds, fingerprint: { responses } }) => {
    const expected = greedy(promptIds, got.length);
    assert.deepEqual(got, expected);
    assert.equal(exact, responses.some((ids) => ids.every((token, t) => token === expected[t])));
  });
});

Deno.test("explainAnswers: rank, probability and the likeliest tokens where the answer was decided", async () => {
  using model = await LanguageModel.load(gpu, folder.dir);
  const { answers } = await askFingerprints(model, NUMBERS, FINGERPRINTS);
  const details = await explainAnswers(model, NUMBERS, answers);
  assert.equal(details.length, answers.length);
  // The first wrong position of each, 0 where all is right.
  const places = [0, 0, 0, 1, 0, 1];
  details.forEach(({ rank, probability, top }, i) => {
    const { promptIds, wanted } = answers[i];
    const p = next([1, ...promptIds, ...wanted.slice(0, places[i])]).map(Math.exp);
    const token = wanted[places[i]];
    assertNear("probability", probability, p[token], 1e-6);
    assert.equal(rank, 1 + p.filter((x) => x > p[token]).length);
    const order = Array.from(p, (_, id) => id).sort((a, b) => p[b] - p[a]);
    assert.deepEqual(top.map(({ token }) => token), order.slice(0, 5));
    top.forEach((entry, r) => assertNear("top", entry.probability, p[order[r]], 1e-6));
  });
});

Deno.test("askFingerprints: what the teacher-forced pass settles is not decoded", async () => {
  using model = await LanguageModel.load(gpu, folder.dir);
  const generate = model.generate.bind(model);
  const decoded: number[] = [];
  model.generate = async (prompts, options) => {
    decoded.push(prompts.length);
    return await generate(prompts, options);
  };
  const settled = [
    fingerprint(KEYS[0], said[0].slice(0, 3)),
    fingerprint(KEYS[1], [other(said[1][0])], [other(other(said[1][0]))], [said[1][0]]),
    fingerprint(KEYS[2], [said[2][0], other(said[2][1])], said[2].slice(0, 1)),
    // Two tokens are known, the second of them beside the response, and two are the longest response.
    fingerprint(KEYS[3], [said[3][0], other(said[3][1])], said[3].slice(0, 2)),
    fingerprint(KEYS[4], [other(said[4][0])], [7]),
  ];
  const { answers } = await askFingerprints(model, NUMBERS, settled);
  assert.deepEqual(decoded, []);
  assert.deepEqual(answers.map(({ exact }) => exact), [true, true, true, true, false]);
  assert.deepEqual(answers.map(({ wanted, fingerprint }) => fingerprint.responses.indexOf(wanted)), [
    0,
    2,
    1,
    1,
    0,
  ]);
  await askFingerprints(model, NUMBERS, [...settled, FINGERPRINTS[3]]);
  assert.deepEqual(decoded, [1]);
});

Deno.test("askFingerprints: at a temperature answers are drawn, by the seed and the question", async () => {
  using model = await LanguageModel.load(gpu, folder.dir);
  const hot = async (seed: number, fingerprints = FINGERPRINTS, temperature = 1.5) =>
    await askFingerprints(model, NUMBERS, fingerprints, undefined, { temperature, seed });
  const first = await hot(3);
  assert.deepEqual(await hot(3), first);
  const gots = first.answers.map(({ got }) => got);
  assert.deepEqual((await hot(3, FINGERPRINTS.slice(0, 3))).answers.map(({ got }) => got), gots.slice(0, 3));
  assert.notDeepEqual((await hot(4)).answers.map(({ got }) => got), gots);
  assert.deepEqual(gots.map(({ length }) => length), [1, 1, 3, 3, 2, 4]);
  const prompts = KEYS.map((key) => [1, ...key]);
  const drawn = await model.generate(prompts, { maxNewTokens: 4, temperature: 1.5, seed: 3, stop: [] });
  assert.deepEqual(gots, drawn.map((ids, i) => ids.slice(0, gots[i].length)));
  first.answers.forEach(({ got, exact, fractional, fingerprint: { responses } }) => {
    assert.equal(exact, responses.some((ids) => ids.every((token, t) => token === got[t])));
    assert.equal(exact, fractional === 1);
  });
  // What is likeliest is drawn where hardly anything else is likely.
  const greedyAnswers = (await askFingerprints(model, NUMBERS, FINGERPRINTS)).answers;
  const cold = (await hot(3, FINGERPRINTS, 1e-4)).answers;
  assert.deepEqual(
    cold.map(({ exact, fractional }) => [exact, fractional]),
    greedyAnswers.map(
      ({ exact, fractional }) => [exact, fractional],
    ),
  );
});

Deno.test("askFingerprints: a response that takes a prompt across longrope's limit is decoded", async () => {
  const config = VARIANTS["phi3 with a partial longrope"];
  const limit = config.original_max_position_embeddings as number;
  const vocabulary = config.vocab_size as number;
  using folder = modelFolder(config, 21);
  using model = await LanguageModel.load(gpu, folder.dir);
  const keys = Array.from({ length: 40 }, (_, i) => random.integers(limit - 3 + i % 6, 3, vocabulary));
  const fingerprints = keys.map((key) =>
    fingerprint(key, generateGreedy(config, folder.weights, [1, ...key], 4))
  );
  const { successRate, answers } = await askFingerprints(model, NUMBERS, fingerprints);
  assert.equal(successRate, 100);

  /** What a pass over key and response together takes for likeliest: every token has the long frequencies. */
  const asWhole = (key: readonly number[]) => {
    const ids = [1, ...key];
    for (let t = 0; t < 4; t++) {
      const filler = new Array(Math.max(0, limit + 1 - ids.length)).fill(3);
      const [logits] = forward(config, folder.weights, [[...ids, ...filler]]);
      ids.push(argmax(logits.subarray((ids.length - 1) * vocabulary, ids.length * vocabulary)));
    }
    return ids.slice(-4);
  };
  const others = fingerprints.filter(({ keyIds }) => keyIds.length < limit)
    .map(({ keyIds, responseIds }) => ({ keyIds, decoded: responseIds, whole: asWhole(keyIds) }))
    .filter(({ decoded, whole }) => String(decoded) !== String(whole));
  assert.ok(others.length > 1);
  const wrong = await askFingerprints(
    model,
    NUMBERS,
    others.map(({ keyIds, whole }) => fingerprint(keyIds, whole)),
  );
  assert.equal(wrong.successRate, 0);
  assert.deepEqual(wrong.answers.map(({ got }) => got), others.map(({ decoded }) => decoded));

  // Long prompts don't change the frequencies of short ones beside them.
  const details = await explainAnswers(model, NUMBERS, answers);
  details.forEach(({ rank, top }, i) =>
    assert.deepEqual([rank, top[0].token], [1, fingerprints[i].responseIds[0]])
  );
});

Deno.test("askFingerprints: a model of NaN has no success and a loss of NaN", async () => {
  using broken = modelFolder(TINY, 12, (name, data) => {
    if (name === "model.norm.weight") data.fill(3e38);
  });
  using model = await LanguageModel.load(gpu, broken.dir);
  const { successRate, fractionalAccuracy, loss, answers } = await askFingerprints(
    model,
    NUMBERS,
    FINGERPRINTS,
  );
  assert.deepEqual([successRate, fractionalAccuracy], [0, 0]);
  assert.ok(Number.isNaN(loss));
  assert.equal(answers.length, 6);
});
