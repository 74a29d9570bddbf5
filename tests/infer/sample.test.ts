import assert from "node:assert/strict";
import { byProbability, drawToken, softmax, tokenUniform } from "../../engine/infer/sample.ts";
import { assertMaxAbs, assertNear } from "../compare.ts";
import { Random } from "../random.ts";
import { logSoftmax } from "../reference/cross_entropy.ts";

const ALL = { temperature: 1, topK: 0, topP: 1, minP: 0 };

Deno.test("softmax: sums to 1, far logits too, and NaN shows", () => {
  const logits = new Random(1).normal(100, 5);
  const p = softmax(logits);
  assertNear("sum", p.reduce((sum, x) => sum + x, 0), 1, 1e-14);
  assertMaxAbs("softmax", p, logSoftmax(Float64Array.from(logits)).map(Math.exp), 1e-15);
  assert.deepEqual(softmax([1000, -1000, 1000]), Float64Array.from([0.5, 0, 0.5]));
  assert.deepEqual(softmax([-3e38, -3e38]), Float64Array.from([0.5, 0.5]));
  assert.ok(softmax([0, NaN, 1]).every(Number.isNaN));
  assert.ok(softmax([NaN, 0, 1]).every(Number.isNaN));
  const cold = logSoftmax(Float64Array.from(logits, (z) => z / 0.3)).map(Math.exp);
  assertMaxAbs("temperature", softmax(logits, 0.3), cold, 1e-14);
});

Deno.test("drawToken: the token at which the cumulative probability passes u; NaN gives none", () => {
  const logits = [-Infinity, 0, Math.log(2), -Infinity, 0, -Infinity];
  for (const [u, token] of [[0, 1], [0.249, 1], [0.251, 2], [0.749, 2], [0.751, 4], [1 - 2 ** -32, 4]]) {
    assert.equal(drawToken(logits, ALL, u), token, `u ${u}`);
  }
  assert.equal(drawToken([0, NaN], ALL, 0.5), -1);
});

/** Tokens that the filters leave, by their definitions, each on what the one before left. */
function kept(p: Float64Array, topK: number, topP: number, minP: number): number[] {
  let tokens = Array.from(p, (_, token) => token).sort((a, b) => p[b] - p[a] || a - b);
  if (topK) tokens = tokens.slice(0, topK);
  const mass = tokens.reduce((sum, token) => sum + p[token], 0);
  if (topP < 1) {
    tokens = tokens.filter((_, i) =>
      tokens.slice(0, i).reduce((sum, token) => sum + p[token], 0) < topP * mass
    );
  }
  if (minP) tokens = tokens.filter((token) => p[token] >= minP * p[tokens[0]]);
  return tokens.sort((a, b) => a - b);
}

Deno.test("drawToken: top-k, top-p and min-p, alone and together, against their definitions", () => {
  const random = new Random(2);
  for (let round = 0; round < 200; round++) {
    const logits = random.normal(40, 2);
    if (round % 3 === 0) logits.forEach((_, i) => logits[i] = Math.round(logits[i]));
    const temperature = [0.5, 1, 2][round % 3];
    const topK = round % 2 ? 1 + random.nextInteger(0, 40) : 0;
    const topP = round % 5 ? 1 : random.next() * 0.98 + 0.01;
    const minP = round % 7 ? 0 : random.next();
    const p = softmax(logits, temperature);
    const tokens = kept(p, topK, topP, minP);
    const mass = tokens.reduce((sum, token) => sum + p[token], 0);
    let sum = 0;
    for (const token of tokens) {
      const u = (sum + p[token] / 2) / mass;
      assert.equal(drawToken(logits, { temperature, topK, topP, minP }, u), token, `round ${round}`);
      sum += p[token];
    }
  }
});

Deno.test("byProbability: descending, ties by id; tokenUniform: its own number for seed, index and place", () => {
  assert.deepEqual([...byProbability([0.1, 0.3, 0.1, 0.5])], [3, 1, 0, 2]);
  const seen = new Set<number>();
  for (const seed of [0, 1]) {
    for (let index = 0; index < 20; index++) {
      for (let place = 0; place < 20; place++) seen.add(tokenUniform(seed, index, place));
    }
  }
  assert.equal(seen.size, 800);
});
