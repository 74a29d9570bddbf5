import assert from "node:assert/strict";
import { assertMaxAbs, assertNear } from "../compare.ts";
import { Random } from "../random.ts";
import { bucket, crossEntropy, logSoftmax, type TargetRow } from "./cross_entropy.ts";
import { assertDerivative } from "./finite_difference.ts";
import { float64 } from "./linear_algebra.ts";

const V = 11;

Deno.test("gradients of hard, soft and bucketed rows agree with finite differences, shared indices add up", () => {
  const random = new Random(8);
  const logits = float64(random.normal(4 * V, 2));
  const rows: TargetRow[] = [
    { index: 1, weight: 0.3, target: { label: 7 } },
    { index: 3, weight: 1.7, target: { probabilities: random.distribution(V) } },
    { index: 2, weight: 0.9, target: bucket(random.distribution(V), 4) },
    { index: 3, weight: 0.5, target: bucket(random.distribution(V), 1) },
    { index: 0, weight: 0.2, target: bucket(random.distribution(V), V) },
    { index: 0, weight: 0.2, target: { ids: [3, 5], probabilities: [0.25, 0.7], rest: 0 } },
  ];
  const { dLogits, loss, rowLosses } = crossEntropy(logits, V, rows);
  assertDerivative("dLogits", dLogits, logits, () => crossEntropy(logits, V, rows).loss);
  assertNear("loss", loss, rows.reduce((sum, { weight }, r) => sum + weight * rowLosses[r], 0), 1e-14);
});

Deno.test("a soft row's gradient is weight · (p − q), its loss 0 at p = q, and a bucket is a lower bound", () => {
  const random = new Random(9);
  const logits = float64(random.normal(V));
  const p = logSoftmax(logits).map(Math.exp);
  const q = random.distribution(V);
  const row = (target: TargetRow["target"]) => crossEntropy(logits, V, [{ index: 0, weight: 3, target }]);

  const soft = row({ probabilities: q });
  assertMaxAbs("gradient", soft.dLogits, p.map((x, i) => 3 * (x - q[i])), 1e-14);
  assertNear("KL", soft.rowLosses[0], p.reduce((sum, x, i) => sum + q[i] * Math.log(q[i] / x), 0), 1e-14);
  assertNear("KL at p", row({ probabilities: p }).loss, 0, 1e-14);
  assertNear("bucketed KL at p", row(bucket(p, 3)).loss, 0, 1e-14);

  let smaller = 0;
  for (let k = 0; k <= V; k++) {
    const bucketed = row(bucket(q, k)).rowLosses[0];
    assert.ok(bucketed >= smaller - 1e-14 && bucketed <= soft.rowLosses[0] + 1e-14, `k ${k}: ${bucketed}`);
    smaller = bucketed;
  }
  assertNear("all tokens listed", smaller, soft.rowLosses[0], 1e-14);
});

Deno.test("a bucket's difference is spread over its tokens in proportion to p", () => {
  const random = new Random(10);
  const logits = float64(random.normal(V));
  const p = logSoftmax(logits).map(Math.exp);
  const target = bucket(random.distribution(V), 4);
  const listed = new Set(Array.from(target.ids));
  const pRest = p.reduce((sum, x, j) => listed.has(j) ? sum : sum + x, 0);
  const expected = p.map((x, j) => listed.has(j) ? 0 : (pRest - target.rest) * x / pRest);
  Array.from(target.ids).forEach((id, i) => expected[id] = p[id] - target.probabilities[i]);
  assertMaxAbs(
    "gradient",
    crossEntropy(logits, V, [{ index: 0, weight: 1, target }]).dLogits,
    expected,
    1e-14,
  );
});

Deno.test("bucket takes the most probable tokens, lower ids first among equals", () => {
  assert.deepEqual(bucket([0.125, 0.25, 0.5, 0.125], 3), {
    ids: [2, 1, 0],
    probabilities: [0.5, 0.25, 0.125],
    rest: 0.125,
  });
});

Deno.test("extreme logits stay finite and NaN comes out", () => {
  const hard = (logits: Float64Array, label: number) =>
    crossEntropy(logits, 3, [{ index: 0, weight: 1, target: { label } }]);
  assert.equal(hard(Float64Array.of(1e6, 0, -1e6), 0).loss, 0);
  assert.equal(hard(Float64Array.of(1e6, 0, -1e6), 2).loss, 2e6);
  const { loss, dLogits } = hard(Float64Array.of(0, NaN, 1), 0);
  assert.ok(Number.isNaN(loss) && dLogits.every(Number.isNaN));
});

Deno.test("impossible targets are refused", () => {
  const logits = new Float64Array(3);
  const refuse = (row: TargetRow, message: RegExp) =>
    assert.throws(() => crossEntropy(logits, 3, [row]), message);
  refuse({ index: 1, weight: 1, target: { label: 0 } }, /index below 1, found 1/);
  refuse({ index: 0, weight: 1, target: { label: 3 } }, /ids below 3, found 3/);
  refuse({ index: 0, weight: 1, target: { probabilities: [1] } }, /expected 3 probabilities, found 1/);
  refuse({ index: 0, weight: 1, target: { ids: [1, 1], probabilities: [0.5, 0.5], rest: 0 } }, /distinct/);
  refuse({ index: 0, weight: 1, target: { ids: [0], probabilities: [-1], rest: 0 } }, /found -1/);
  refuse({ index: 0, weight: 1, target: { ids: [0, 1, 2], probabilities: [0, 0, 0], rest: 1 } }, /no rest/);
});
