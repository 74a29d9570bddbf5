import assert from "node:assert/strict";
import { ConfigReader } from "../../engine/models/config.ts";
import { ropeFrequencies } from "../../engine/models/rope_scaling.ts";
import { assertClose } from "../compare.ts";
import { inverseFrequencies, type RopeScaling } from "../reference/rope.ts";

const LLAMA3 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
};

function frequencies(config: Record<string, unknown>, rotary: number): number[] {
  return ropeFrequencies(new ConfigReader(config), rotary);
}

function assertLikeReference(theta: number, rotary: number, scaling: RopeScaling | null): void {
  const found = frequencies({ rope_theta: theta, rope_scaling: scaling }, rotary);
  const expected = inverseFrequencies(rotary, theta, scaling);
  // Both are float64; only the order of a product may differ.
  assertClose(JSON.stringify(scaling), found, expected, { relative: 1e-15 });
}

Deno.test("ropeFrequencies: default, linear and llama3 against the reference", () => {
  for (const rotary of [2, 12, 64, 128]) {
    for (const theta of [10000, 500000]) {
      assertLikeReference(theta, rotary, null);
      assertLikeReference(theta, rotary, { rope_type: "default" });
      assertLikeReference(theta, rotary, { rope_type: "linear", factor: 4 });
      assertLikeReference(theta, rotary, { type: "linear", factor: 2.5 });
      assertLikeReference(theta, rotary, LLAMA3);
    }
  }
});

Deno.test("ropeFrequencies: Llama 3.1's own numbers lie on both sides of the smooth band and in it", () => {
  const plain = inverseFrequencies(128, 500000);
  const found = frequencies({ rope_theta: 500000, rope_scaling: LLAMA3 }, 128);
  const ratio = found.map((frequency, i) => plain[i] / frequency);
  const between = ratio.filter((x) => x > 1 + 1e-9 && x < 8 - 1e-9);
  // The goldens' sizes have no frequency in the band; here six wavelengths are between 8192/4 and 8192.
  assert.equal(between.length, 6);
  assert.deepEqual(between, between.toSorted((a, b) => a - b));
  assert.equal(ratio[0], 1);
  assert.equal(ratio.at(-1), 8);
  assertLikeReference(500000, 128, LLAMA3);
  // By hand: pair 30 has wavelength 2π · 500000^(60/128) = 2946.1, so s = (8192/2946.1 − 1)/3.
  const wavelength = 2 * Math.PI * 500000 ** (60 / 128);
  const s = (8192 / wavelength - 1) / 3;
  assertClose("pair 30", [found[30]], [plain[30] * ((1 - s) / 8 + s)], { relative: 1e-15 });
  assert.ok(s > 0 && s < 1);
});

Deno.test("ropeFrequencies: newer configs have rope_parameters with theta inside", () => {
  const inside = frequencies({ rope_parameters: { ...LLAMA3, rope_theta: 500000 } }, 16);
  assert.deepEqual(inside, frequencies({ rope_theta: 500000, rope_scaling: LLAMA3 }, 16));
  assert.deepEqual(
    frequencies({ rope_theta: 7, rope_parameters: { rope_type: "default" } }, 4),
    frequencies({ rope_theta: 7 }, 4),
  );
  assert.deepEqual(frequencies({}, 4), frequencies({ rope_theta: 10000, rope_scaling: null }, 4));
});

Deno.test("ropeFrequencies: errors name the field with its path", () => {
  const wrong: [string, Record<string, unknown>][] = [
    ["rope_scaling.type", { rope_scaling: { type: "yarn", factor: 4 } }],
    ["rope_scaling.rope_type", { rope_scaling: { rope_type: "dynamic", factor: 4 } }],
    ["rope_parameters.rope_type", { rope_parameters: { rope_type: "longrope" } }],
    ["rope_scaling.factor", { rope_scaling: { type: "linear" } }],
    ["rope_scaling.factor", { rope_scaling: { ...LLAMA3, factor: 0 } }],
    ["rope_scaling.low_freq_factor", { rope_scaling: { ...LLAMA3, low_freq_factor: undefined } }],
    ["rope_scaling.high_freq_factor", { rope_scaling: { ...LLAMA3, high_freq_factor: "4" } }],
    ["rope_scaling.high_freq_factor", { rope_scaling: { ...LLAMA3, high_freq_factor: 1 } }],
    [
      "rope_scaling.original_max_position_embeddings",
      { rope_scaling: { ...LLAMA3, original_max_position_embeddings: null } },
    ],
    ["rope_theta", { rope_theta: -1 }],
    ["rope_scaling", { rope_scaling: "linear" }],
  ];
  for (const [field, config] of wrong) {
    assert.throws(() => frequencies(config, 8), { name: "ConfigError", field });
  }
});
