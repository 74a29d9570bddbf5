import assert from "node:assert/strict";
import { assertMaxAbs, assertNear } from "../compare.ts";
import { floats, GOLDEN_MODELS, loadGolden } from "../golden.ts";
import { Random } from "../random.ts";
import { attentionBackward, attentionForward, type AttentionShape } from "./attention.ts";
import { decoderShape } from "./decoder_shape.ts";
import { embeddingBackward, embeddingForward } from "./embedding.ts";
import { assertDerivative, dot } from "./finite_difference.ts";
import { float64 } from "./linear_algebra.ts";
import { rmsnormBackward, rmsnormForward } from "./rmsnorm.ts";
import { inverseFrequencies, ropeBackward, ropeForward } from "./rope.ts";
import { swigluBackward, swigluForward } from "./swiglu.ts";

Deno.test("rmsnorm: rows have a root mean square of 1, and backward agrees with finite differences", () => {
  const random = new Random(3);
  const [N, C] = [3, 7];
  const x = float64(random.normal(N * C));
  const weight = float64(random.normal(C));
  const dy = float64(random.normal(N * C));
  const { y } = rmsnormForward(x, new Float64Array(C).fill(1), 0);
  for (let n = 0; n < N; n++) {
    const row = y.subarray(n * C, (n + 1) * C);
    assertNear("mean square", dot(row, row) / C, 1, 1e-14);
  }
  const f = () => dot(rmsnormForward(x, weight, 0.1).y, dy);
  const { dx, dWeight } = rmsnormBackward(dy, x, weight, 0.1);
  assertDerivative("dx", dx, x, f);
  assertDerivative("dWeight", dWeight, weight, f);
});

Deno.test("rope frequencies reproduce the goldens", () => {
  for (const name of GOLDEN_MODELS) {
    const golden = loadGolden(name);
    const found = decoderShape(golden.config).frequencies;
    assert.deepEqual(float64(found.map(Math.fround)), float64(floats(golden, "rope.inv_freq")), name);
  }
});

Deno.test("rope: linear scaling divides positions, other kinds are refused", () => {
  const x = float64(new Random(4).normal(2 * 8));
  const scaled = inverseFrequencies(8, 10000, { type: "linear", factor: 4 });
  assertMaxAbs(
    "linear",
    ropeForward(x, [4, 12], scaled),
    ropeForward(x, [1, 3], inverseFrequencies(8, 10000)),
    1e-14,
  );
  assert.throws(() => inverseFrequencies(8, 10000, { rope_type: "yarn" }), /found yarn/);
});

Deno.test("rope: llama3 scaling blends between the two wavelengths, which no golden frequency does", () => {
  const scaling = {
    rope_type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 32,
  };
  // for D = 4 the second frequency is theta^(-1/2); `turns` is how often it turns in 32 positions
  const ratio = (turns: number) => {
    const frequency = turns * 2 * Math.PI / 32;
    return inverseFrequencies(4, frequency ** -2, scaling)[1] / frequency;
  };
  assertNear("shorter than 32/4", ratio(4.01), 1, 1e-14);
  assertNear("at 32/4", ratio(3.999999), 1, 1e-6);
  assertNear("half way", ratio(2.5), (1 / 8 + 1) / 2, 1e-14);
  assertNear("a third", ratio(2), (2 / 8 + 1) / 3, 1e-14);
  assertNear("at 32/1", ratio(1.000001), 1 / 8, 1e-6);
  assertNear("longer than 32/1", ratio(0.99), 1 / 8, 1e-14);
});

Deno.test("rope pairs i with i + D/2 and its backward is its inverse", () => {
  const frequencies = inverseFrequencies(6, 100);
  const x = float64(new Random(5).normal(3 * 2 * 6));
  const y = ropeForward(x, [0, 3, 9], frequencies);
  assertMaxAbs("position 0", y.subarray(0, 12), x.subarray(0, 12), 0);
  // token 1 (position 3), head 1 starts at 18; dimension 1 pairs with 4 and turns by 3 · 100^(-2/6)
  const angle = 3 * 100 ** (-2 / 6);
  assertNear("first", y[18 + 1], x[18 + 1] * Math.cos(angle) - x[18 + 4] * Math.sin(angle), 1e-14);
  assertNear("second", y[18 + 4], x[18 + 4] * Math.cos(angle) + x[18 + 1] * Math.sin(angle), 1e-14);
  assertMaxAbs("inverse", ropeBackward(y, [0, 3, 9], frequencies), x, 1e-14);
});

Deno.test("attention: lse and output by definition, and backward agrees with finite differences", () => {
  const random = new Random(6);
  const [H, K, D, N] = [6, 2, 3, 9];
  for (const window of [null, 1, 2, 100]) {
    const shape: AttentionShape = { offsets: [0, 4, 5, 5, 9], H, K, D, window };
    const q = float64(random.normal(N * H * D));
    const k = float64(random.normal(N * K * D));
    const v = float64(random.normal(N * K * D));
    const dO = float64(random.normal(N * H * D));
    const { o, lse } = attentionForward(q, k, v, shape);
    const visible = (query: number, key: number) =>
      key <= query && (window === null || query - key < window) &&
      [4, 5, 9].findIndex((end) => query < end) === [4, 5, 9].findIndex((end) => key < end);
    for (let n = 0; n < N; n++) {
      for (let h = 0; h < H; h++) {
        const head = (x: Float64Array, token: number, heads: number, i: number) =>
          x.subarray((token * heads + i) * D, (token * heads + i + 1) * D);
        const kv = h < 3 ? 0 : 1;
        let sum = 0;
        const expected = new Float64Array(D);
        for (let key = 0; key < N; key++) {
          if (!visible(n, key)) continue;
          const e = Math.exp(dot(head(q, n, H, h), head(k, key, K, kv)) / Math.sqrt(D));
          sum += e;
          head(v, key, K, kv).forEach((value, d) => expected[d] += e * value);
        }
        assertNear(`lse ${n} ${h}`, lse[n * H + h], Math.log(sum), 1e-13);
        assertMaxAbs(`o ${n} ${h}`, head(o, n, H, h), expected.map((x) => x / sum), 1e-13);
      }
    }
    const f = () => dot(attentionForward(q, k, v, shape).o, dO);
    const { dq, dk, dv } = attentionBackward(dO, q, k, v, shape);
    assertDerivative(`dq, window ${window}`, dq, q, f);
    assertDerivative(`dk, window ${window}`, dk, k, f);
    assertDerivative(`dv, window ${window}`, dv, v, f);
  }
});

Deno.test("swiglu: backward agrees with finite differences, and large gates stay finite", () => {
  const random = new Random(7);
  const [gate, up, dy] = [random.normal(11), random.normal(11), random.normal(11)].map(float64);
  const f = () => dot(swigluForward(gate, up), dy);
  const { dGate, dUp } = swigluBackward(dy, gate, up);
  assertDerivative("dGate", dGate, gate, f);
  assertDerivative("dUp", dUp, up, f);
  assert.deepEqual(Array.from(swigluForward(Float64Array.of(1e4, -1e4), Float64Array.of(1, 1))), [1e4, -0]);
});

Deno.test("embedding: rows are looked up, repeated ids add their gradients, unknown ids are refused", () => {
  const table = Float64Array.of(1, 2, 3, 4, 5, 6);
  assert.deepEqual(embeddingForward([2, 0, 2], table, 2), Float64Array.of(5, 6, 1, 2, 5, 6));
  const dTable = new Float64Array(6);
  embeddingBackward([2, 0, 2], Float64Array.of(1, 2, 3, 4, 5, 6), 2, dTable);
  assert.deepEqual(dTable, Float64Array.of(3, 4, 0, 0, 6, 8));
  assert.throws(() => embeddingForward([0, 3], table, 2), /token 1: expected an id below 3, found 3/);
});
