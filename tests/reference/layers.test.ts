import assert from "node:assert/strict";
import { assertMaxAbs, assertNear } from "../compare.ts";
import { floats, GOLDEN_MODELS, loadGolden } from "../golden.ts";
import { Random } from "../random.ts";
import { activationBackward, activationForward, erfc } from "./activation.ts";
import { attentionBackward, attentionForward, type AttentionShape } from "./attention.ts";
import { decoderShape } from "./decoder_shape.ts";
import { embeddingBackward, embeddingForward } from "./embedding.ts";
import { assertDerivative, dot } from "./finite_difference.ts";
import { float64 } from "./linear_algebra.ts";
import { normBackward, normForward } from "./norm.ts";
import { inverseFrequencies, ropeBackward, ropeForward } from "./rope.ts";
import { softCap, softCapBackward } from "./soft_cap.ts";

for (const kind of ["rms", "layer"] as const) {
  Deno.test(`${kind} norm: vectors are normalised, and backward agrees with finite differences`, () => {
    const random = new Random(3);
    const [N, C] = [3, 7];
    const x = float64(random.normal(N * C, 1, 2));
    const [weight, bias] = [float64(random.normal(C)), float64(random.normal(C))];
    const dy = float64(random.normal(N * C));
    const unit = { kind, epsilon: 0, offset: 1 };
    const { y } = normForward(x, new Float64Array(C), undefined, unit);
    for (let n = 0; n < N; n++) {
      const row = y.subarray(n * C, (n + 1) * C);
      assertNear("mean square", dot(row, row) / C, 1, 1e-14);
      if (kind === "layer") assertNear("mean", row.reduce((sum, v) => sum + v, 0) / C, 0, 1e-14);
    }
    const shifted = normForward(x, new Float64Array(C).fill(-1), bias, unit).y;
    assertMaxAbs("bias", shifted, shifted.map((_, i) => bias[i % C]), 0);
    for (const offset of [0, 1]) {
      const settings = { kind, epsilon: 0.1, offset };
      const f = () => dot(normForward(x, weight, bias, settings).y, dy);
      const { dx, dWeight, dBias } = normBackward(dy, x, weight, settings);
      assertDerivative("dx", dx, x, f);
      assertDerivative("dWeight", dWeight, weight, f);
      assertDerivative("dBias", dBias, bias, f);
    }
  });
}

Deno.test("rope frequencies and scales reproduce the goldens", () => {
  const rounded = (x: Float64Array) => Float32Array.from(x);
  for (const name of GOLDEN_MODELS) {
    const loaded = loadGolden(name);
    for (const { rope } of decoderShape(loaded.config).layers) {
      assert.deepEqual(rounded(rope.frequencies), floats(loaded, "rope.inv_freq"), name);
      if (rope.long) {
        assert.deepEqual(rounded(rope.long.frequencies), floats(loaded, "rope.inv_freq_long"), name);
      }
      assertNear(name, rope.scale, loaded.golden.rope_attention_scaling, 1e-14);
    }
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

Deno.test("rope: dimensions behind the rotated ones pass, scale multiplies the turn, backward is the transpose", () => {
  const frequencies = inverseFrequencies(4, 100);
  const random = new Random(11);
  const [x, dy] = [float64(random.normal(2 * 2 * 7)), float64(random.normal(2 * 2 * 7))];
  const heads = { headDim: 7, scale: 1.25 };
  const y = ropeForward(x, [0, 2], frequencies, heads);
  for (let head = 0; head < 4; head++) {
    const part = (values: Float64Array, first: number, end: number) =>
      values.subarray(head * 7 + first, head * 7 + end);
    const turned = ropeForward(part(x, 0, 4), [head < 2 ? 0 : 2], frequencies);
    assertMaxAbs("rotated", part(y, 0, 4), turned.map((v) => 1.25 * v), 1e-14);
    assertMaxAbs("passed", part(y, 4, 7), part(x, 4, 7), 0);
  }
  assertNear("transpose", dot(ropeBackward(dy, [0, 2], frequencies, heads), x), dot(dy, y), 1e-13);
});

Deno.test("attention: lse and output by definition, and backward agrees with finite differences", () => {
  const random = new Random(6);
  const [H, K, D, N] = [6, 2, 3, 9];
  for (const [window, cap] of [[null, 0], [1, 0], [2, 0], [100, 0], [null, 1.5], [2, 0.75]] as const) {
    const shape: AttentionShape = { offsets: [0, 4, 5, 5, 9], H, K, D, window, cap };
    const capped = (score: number) => cap > 0 ? cap * Math.tanh(score / cap) : score;
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
          const e = Math.exp(capped(dot(head(q, n, H, h), head(k, key, K, kv)) / Math.sqrt(D)));
          sum += e;
          head(v, key, K, kv).forEach((value, d) => expected[d] += e * value);
        }
        assertNear(`lse ${n} ${h}`, lse[n * H + h], Math.log(sum), 1e-13);
        assertMaxAbs(`o ${n} ${h}`, head(o, n, H, h), expected.map((x) => x / sum), 1e-13);
      }
    }
    const f = () => dot(attentionForward(q, k, v, shape).o, dO);
    const { dq, dk, dv } = attentionBackward(dO, q, k, v, shape);
    assertDerivative(`dq, window ${window}, cap ${cap}`, dq, q, f);
    assertDerivative(`dk, window ${window}, cap ${cap}`, dk, k, f);
    assertDerivative(`dv, window ${window}, cap ${cap}`, dv, v, f);
  }
});

Deno.test("activations: backward agrees with finite differences, gated or not; large gates stay finite", () => {
  const random = new Random(7);
  const [gate, up, dy] = [random.normal(11, 2), random.normal(11), random.normal(11)].map(float64);
  for (const kind of ["silu", "gelu", "gelu_tanh"] as const) {
    const { dGate, dUp } = activationBackward(kind, dy, gate, up);
    const gated = () => dot(activationForward(kind, gate, up), dy);
    assertDerivative(`${kind} dGate`, dGate, gate, gated);
    assertDerivative(`${kind} dUp`, dUp!, up, gated);
    const alone = activationBackward(kind, dy, gate);
    assertDerivative(`${kind} alone`, alone.dGate, gate, () => dot(activationForward(kind, gate), dy));
    assert.equal(alone.dUp, undefined);
    const far = Float64Array.of(3e38, 1e4, -1e4, -3e38);
    assert.deepEqual(Array.from(activationForward(kind, far)), [3e38, 1e4, -0, -0]);
    const slopes = activationBackward(kind, new Float64Array(4).fill(1), far).dGate;
    assertMaxAbs(`${kind} far slopes`, slopes, [1, 1, 0, 0], 0);
  }
});

Deno.test("erfc: published values, both sides of where its two formulas meet, and its derivative", () => {
  // Abramowitz and Stegun, table 7.1, and erfc(5) from its asymptotic series.
  const known = [[0, 1], [0.5, 0.4795001221869535], [1, 0.15729920705028513], [2, 0.004677734981047266]];
  for (const [x, value] of known) assertNear(`erfc ${x}`, erfc(x), value, 1e-15);
  assertNear("erfc 5", erfc(5) / 1.5374597944280349e-12, 1, 1e-13);
  assertNear("erfc −1", erfc(-1), 2 - 0.15729920705028513, 1e-15);
  assertNear("where they meet", erfc(2.5 - 1e-13) - erfc(2.5), 1e-13 * 2.178e-3, 1e-15);
  const x = Float64Array.from({ length: 80 }, (_, i) => -4.013 + i / 10);
  const slope = x.map((value) => -2 / Math.sqrt(Math.PI) * Math.exp(-value * value));
  assertDerivative("erfc", slope, x, () => x.reduce((sum, value) => sum + erfc(value), 0));
});

Deno.test("soft cap: the identity near 0, ±c far out, and backward agrees with finite differences", () => {
  const random = new Random(12);
  const [x, dy] = [float64(random.normal(9, 4)), float64(random.normal(9))];
  assertDerivative("dx", softCapBackward(dy, x, 3), x, () => dot(softCap(x, 3), dy));
  assertMaxAbs("ends", softCap(Float64Array.of(1e-9, 1e9, -1e9), 30), [1e-9, 30, -30], 1e-24);
});

Deno.test("embedding: rows are looked up, repeated ids add their gradients, unknown ids are refused", () => {
  const table = Float64Array.of(1, 2, 3, 4, 5, 6);
  assert.deepEqual(embeddingForward([2, 0, 2], table, 2), Float64Array.of(5, 6, 1, 2, 5, 6));
  const dTable = new Float64Array(6);
  embeddingBackward([2, 0, 2], Float64Array.of(1, 2, 3, 4, 5, 6), 2, dTable);
  assert.deepEqual(dTable, Float64Array.of(3, 4, 0, 0, 6, 8));
  assert.throws(() => embeddingForward([0, 3], table, 2), /token 1: expected an id below 3, found 3/);
});
