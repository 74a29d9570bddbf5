import assert from "node:assert/strict";
import { perinucleus } from "../../../../pipeline/fingerprints/generate/perinucleus.ts";
import { Random } from "../../../random.ts";

/** The definition, in float64 over a whole sorted vocabulary. */
function reference(p: Float32Array, mass: number, k: number, isValid: (token: number) => boolean) {
  const order = Array.from(p, (value, token) => ({ value, token }))
    .sort((a, b) => b.value - a.value || a.token - b.token);
  let size = 1;
  const sumOf = (count: number) => order.slice(0, count).reduce((sum, { value }) => sum + value, 0);
  while (size < order.length && sumOf(size) < mass) size++;
  const outside = order.slice(size).filter(({ value }) => value > 0).map(({ token }) => token);
  return { nucleusSize: size, candidates: outside.filter(isValid).slice(0, k) };
}

const all = () => true;

Deno.test("perinucleus: the boundary, the order of ties and what is left beyond it", () => {
  const cases: [number[], number, number, number, number[]][] = [
    // Exactly reached: binary fractions are exact.
    [[0.5, 0.25, 0.125, 0.125], 0.75, 3, 2, [2, 3]],
    [[0.5, 0.25, 0.125, 0.125], 0.7500001, 3, 3, [3]],
    [[0.5, 0.25, 0.125, 0.125], 0.5, 1, 1, [1]],
    // Equal ones go by id, inside the nucleus and outside.
    [[0.125, 0.25, 0.125, 0.25, 0.25], 0.5, 3, 2, [4, 0, 2]],
    [[0.25, 0.25, 0.25, 0.25], 0.25, 9, 1, [1, 2, 3]],
    // One token has 99.9 %.
    [[0.0005, 0.999, 0.0003, 0.0002], 0.8, 3, 1, [0, 2, 3]],
    [[0.0005, 0.999, 0.0003, 0.0002], 0.9992, 3, 2, [2, 3]],
    // More than there are; none; what has no probability is no candidate.
    [[0.9, 0.1], 0.8, 3, 1, [1]],
    [[0.9, 0.1], 0.95, 3, 2, []],
    [[0, 0.75, 0.25, 0], 0.5, 3, 1, [2]],
    // No mass: the likeliest is no candidate all the same.
    [[0.25, 0.75], 0, 2, 1, [0]],
  ];
  for (const [p, mass, k, nucleusSize, candidates] of cases) {
    const found = perinucleus(Float32Array.from(p), { mass, k, isValid: all });
    assert.deepEqual(found, { nucleusSize, candidates }, `${p} at ${mass}`);
  }
});

Deno.test("perinucleus: invalid tokens are passed over, and a window may have none", () => {
  const p = Float32Array.from([0.5, 0.2, 0.1, 0.1, 0.05, 0.05]);
  const take = (valid: number[]) =>
    perinucleus(p, { mass: 0.6, k: 2, isValid: (token) => valid.includes(token) });
  assert.deepEqual(take([0, 1, 3, 5]), { nucleusSize: 2, candidates: [3, 5] });
  assert.deepEqual(take([0, 1, 4]), { nucleusSize: 2, candidates: [4] });
  assert.deepEqual(take([0, 1]), { nucleusSize: 2, candidates: [] });
});

Deno.test("perinucleus: as by the definition, for flat, peaked and quantised distributions", () => {
  const random = new Random(5);
  for (let round = 0; round < 60; round++) {
    const V = 3 + random.nextInteger(0, 400);
    const sharpness = [0, 1, 8, 40][round % 4];
    const weights = Array.from({ length: V }, () => Math.exp(sharpness * random.next()));
    // Ties: some distributions have only a few different values.
    if (round % 3 === 0) weights.forEach((w, i) => weights[i] = Math.ceil(w * 4) / 4);
    const total = weights.reduce((a, b) => a + b);
    const p = Float32Array.from(weights, (w) => w / total);
    for (const mass of [0, 0.3, 0.8, 0.999]) {
      const isValid = (token: number) => token % 3 !== 1;
      for (const k of [1, 3, V]) {
        const found = perinucleus(p, { mass, k, isValid });
        assert.deepEqual(found, reference(p, mass, k, isValid), `round ${round}, ${mass}, ${k}`);
      }
    }
  }
});

Deno.test("perinucleus: a mass near 1 is decided in float64", () => {
  // In f32 the sum of 100,000 small numbers loses the last thousandth.
  const V = 100_000;
  const p = new Float32Array(V).fill(0.5 / (V - 1));
  p[7] = 0.5;
  const { nucleusSize } = perinucleus(p, { mass: 0.999, k: 1, isValid: all });
  const each = Math.fround(0.5 / (V - 1));
  assert.equal(nucleusSize, 1 + Math.ceil(0.499 / each));
  let inF32 = Math.fround(0.5);
  let count = 1;
  while (inF32 < 0.999) [inF32, count] = [Math.fround(inF32 + each), count + 1];
  assert.ok(Math.abs(count - nucleusSize) > 100, `f32 would give ${count}, ${nucleusSize} is right`);
});

Deno.test("perinucleus: what is no distribution, mass or k is refused", () => {
  const options = { mass: 0.8, k: 3, isValid: all };
  const p = Float32Array.of(0.5, 0.5);
  for (const mass of [1, -0.1, NaN]) {
    assert.throws(() => perinucleus(p, { ...options, mass }), /RangeError: nucleus mass: expected 0 ≤ t < 1/);
  }
  for (const k of [0, 1.5, NaN]) {
    assert.throws(() => perinucleus(p, { ...options, k }), /RangeError: candidates: .* at least 1, found/);
  }
  for (const wrong of [NaN, -0.5, Infinity, 2]) {
    assert.throws(
      () => perinucleus(Float32Array.of(0.5, wrong), options),
      /RangeError: expected probabilities, found \S+ for token 1/,
    );
  }
});
