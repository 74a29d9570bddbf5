import assert from "node:assert/strict";
import { ConfigReader } from "../../engine/models/config.ts";
import { layerTypeRope, type RopeFields, ropeSpec } from "../../engine/models/rope.ts";
import type { RopeSpec } from "../../engine/models/spec.ts";
import { assertClose } from "../compare.ts";
import { type Rope, ropeOf } from "../reference/rope_config.ts";

type Fields = Record<string, unknown>;

const LLAMA3 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
};

const LONG = { rope_type: "longrope", short_factor: [1, 1.5, 2, 3], long_factor: [2, 4, 7, 9] };

const MAX_POSITIONS = 65536;

function rope(config: Fields, headDim: number, fields?: RopeFields): RopeSpec {
  return ropeSpec(new ConfigReader(config), { headDim, maxPositions: MAX_POSITIONS }, fields);
}

function assertSame(name: string, found: RopeSpec, expected: Rope): void {
  // Both are float64; only the order of operations may differ.
  const near = { relative: 1e-15 };
  assertClose(name, found.frequencies, expected.frequencies, near);
  assertClose(`${name}: scale`, [found.scale], [expected.scale], near);
  assert.equal(found.long?.after, expected.long?.after);
  assertClose(`${name}: long`, found.long?.frequencies ?? [], expected.long?.frequencies ?? [], near);
}

function assertLikeReference(theta: number, rotary: number, scaling: Fields | null): void {
  const positions = MAX_POSITIONS;
  const originalPositions = scaling?.original_max_position_embeddings as number ?? positions;
  assertSame(
    JSON.stringify(scaling),
    rope({ rope_theta: theta, rope_scaling: scaling }, rotary),
    ropeOf({ theta, rotary, scaling, positions, originalPositions }),
  );
}

Deno.test("ropeSpec: every kind of scaling against the reference", () => {
  for (const rotary of [2, 12, 64, 128]) {
    for (const theta of [10000, 500000]) {
      assertLikeReference(theta, rotary, null);
      assertLikeReference(theta, rotary, { rope_type: "default" });
      assertLikeReference(theta, rotary, { rope_type: "linear", factor: 4 });
      assertLikeReference(theta, rotary, { type: "linear", factor: 2.5 });
      assertLikeReference(theta, rotary, { type: "dynamic", factor: 2.5 });
      assertLikeReference(theta, rotary, LLAMA3);
      const yarn = { type: "yarn", factor: 2, original_max_position_embeddings: 32768 };
      assertLikeReference(theta, rotary, yarn);
      assertLikeReference(theta, rotary, { ...yarn, original_max_position_embeddings: undefined });
      assertLikeReference(theta, rotary, { ...yarn, beta_fast: 16, beta_slow: 2, truncate: false });
      assertLikeReference(theta, rotary, { ...yarn, mscale: 0.707, mscale_all_dim: 1.2 });
      assertLikeReference(theta, rotary, { ...yarn, attention_factor: 0.9 });
    }
  }
  for (const type of ["longrope", "su"]) {
    const long = { ...LONG, rope_type: undefined, type, original_max_position_embeddings: 4096 };
    assertLikeReference(10000, 8, long);
    assertLikeReference(10000, 8, { ...long, factor: 16 });
    assertLikeReference(10000, 8, { ...long, attention_factor: 1.25 });
  }
});

Deno.test("ropeSpec: Llama 3.1's own numbers lie on both sides of the smooth band and in it", () => {
  const plain = rope({ rope_theta: 500000 }, 128).frequencies;
  const { frequencies } = rope({ rope_theta: 500000, rope_scaling: LLAMA3 }, 128);
  const ratio = frequencies.map((frequency, i) => plain[i] / frequency);
  const between = ratio.filter((x) => x > 1 + 1e-9 && x < 8 - 1e-9);
  // The goldens' sizes have no frequency in the band; here six wavelengths are between 8192/4 and 8192.
  assert.equal(between.length, 6);
  assert.deepEqual(between, between.toSorted((a, b) => a - b));
  assert.equal(ratio[0], 1);
  assert.equal(ratio.at(-1), 8);
  // By hand: pair 30 has wavelength 2π · 500000^(60/128) = 2946.1, so s = (8192/2946.1 − 1)/3.
  const wavelength = 2 * Math.PI * 500000 ** (60 / 128);
  const s = (8192 / wavelength - 1) / 3;
  assertClose("pair 30", [frequencies[30]], [plain[30] * ((1 - s) / 8 + s)], { relative: 1e-15 });
  assert.ok(s > 0 && s < 1);
});

Deno.test("ropeSpec: Qwen 2.5's YaRN, by hand", () => {
  const scaling = { type: "yarn", factor: 4, original_max_position_embeddings: 32768 };
  const plain = rope({ rope_theta: 1e6 }, 128).frequencies;
  const { frequencies, scale } = rope({ rope_theta: 1e6, rope_scaling: scaling }, 128);
  // 32 turns in 32768 tokens: 128 · ln(32768 / 64π) / (2 · ln 1e6) = 23.59; one turn: 39.65. So pairs 23 to 40.
  const shares = frequencies.map((frequency, i) => (1 - frequency / plain[i]) / (1 - 1 / 4));
  const expected = shares.map((_, i) => i < 23 ? 0 : i > 40 ? 1 : (i - 23) / 17);
  assertClose("shares", shares, expected, { absolute: 1e-14 });
  assertClose("scale", [scale], [1 + Math.log(4) / 10], { relative: 1e-15 });
});

Deno.test("ropeSpec: long frequencies count from the original length, wherever it stands", () => {
  const after = (config: Fields, fields?: RopeFields) => rope(config, 8, fields).long?.after;
  const outside = { original_max_position_embeddings: 4096 };
  assert.equal(after({ rope_scaling: LONG, ...outside }), 4096);
  assert.equal(after({ rope_scaling: { ...LONG, ...outside } }), 4096);
  assert.equal(after({ rope_scaling: { ...LONG, ...outside }, ...outside }), 4096);
  assert.equal(after({ rope_scaling: LONG }, { originalPositions: 512 }), 512);
  assert.equal(after({ rope_scaling: LONG }), MAX_POSITIONS);
  assert.equal(rope({ rope_scaling: LONG }, 8).scale, 1);
  assertClose(
    "scale",
    [rope({ rope_scaling: LONG, ...outside }, 8).scale],
    [Math.sqrt(1 + Math.log(16) / Math.log(4096))],
    { relative: 1e-15 },
  );
});

Deno.test("ropeSpec: newer configs have rope_parameters with theta and the rotated part inside", () => {
  const inside = rope({ rope_parameters: { ...LLAMA3, rope_theta: 500000 } }, 16);
  assert.deepEqual(inside, rope({ rope_theta: 500000, rope_scaling: LLAMA3 }, 16));
  assert.deepEqual(
    rope({ rope_theta: 7, rope_parameters: { rope_type: "default" } }, 4),
    rope({ rope_theta: 7 }, 4),
  );
  assert.deepEqual(rope({}, 4), rope({ rope_theta: 10000, rope_scaling: null }, 4));
  const pct = { fractionField: "rotary_pct", fraction: 0.25, thetaField: "rotary_emb_base" };
  assert.deepEqual(rope({}, 16, pct), rope({}, 4));
  assert.deepEqual(rope({ rotary_pct: 0.5, rotary_emb_base: 9 }, 16, pct), rope({ rope_theta: 9 }, 8));
  const parameters = { rope_type: "default", partial_rotary_factor: 0.75, rope_theta: 9 };
  assert.deepEqual(rope({ rope_parameters: parameters }, 16, pct), rope({ rope_theta: 9 }, 12));
  // 100 · 0.29 in float64 is below 29; Python's int() cuts.
  assert.equal(rope({ rotary_pct: 0.29 }, 100, pct).frequencies.length, 14);
  for (const rotary_pct of [0.3, 1.5, 0.01]) {
    assert.throws(() => rope({ rotary_pct }, 10, pct), { field: "rotary_pct", message: /even number/ });
  }
});

Deno.test("layerTypeRope: one embedding a layer type, in both ways of writing", () => {
  const of = (config: Fields) =>
    (["full_attention", "sliding_attention"] as const).map((type, i) =>
      layerTypeRope(
        new ConfigReader(config),
        { headDim: 8, maxPositions: MAX_POSITIONS },
        type,
        ["rope_theta", "rope_local_base_freq"][i],
        [1e6, 1e4][i],
      )
    );
  const theta = (rope_theta: number) => rope({ rope_theta }, 8);
  assert.deepEqual(of({}), [theta(1e6), theta(1e4)]);
  assert.deepEqual(of({ rope_theta: 5, rope_local_base_freq: 3 }), [theta(5), theta(3)]);
  const linear = { rope_type: "linear", factor: 8 };
  const scaled = rope({ rope_theta: 5, rope_scaling: linear }, 8);
  assert.deepEqual(of({ rope_theta: 5, rope_scaling: linear }), [scaled, theta(1e4)]);
  const full_attention = { ...linear, rope_theta: 5 };
  assert.deepEqual(of({ rope_parameters: { full_attention } }), [scaled, theta(1e4)]);
  const sliding_attention = { rope_type: "default", rope_theta: 3 };
  assert.deepEqual(of({ rope_parameters: { full_attention, sliding_attention } }), [scaled, theta(3)]);
  assert.throws(() => of({ rope_parameters: { rope_theta: 5 } }), { field: "rope_parameters.rope_theta" });
  assert.throws(() => of({ rope_parameters: { full_attention: { rope_type: "axial" } } }), {
    field: "rope_parameters.full_attention.rope_type",
  });
});

Deno.test("ropeSpec: errors name the field with its path", () => {
  const yarn = { type: "yarn", factor: 4 };
  const wrong: [string, Fields][] = [
    ["rope_scaling.type", { rope_scaling: { type: "mrope", factor: 4 } }],
    ["rope_scaling.rope_type", { rope_scaling: { rope_type: "ntk", factor: 4 } }],
    ["rope_scaling.factor", { rope_scaling: { rope_type: "dynamic" } }],
    ["rope_scaling.factor", { rope_scaling: { rope_type: "dynamic", factor: NaN } }],
    ["rope_theta", { rope_theta: Infinity }],
    ["rope_theta", { rope_theta: 7, rope_parameters: { rope_theta: 8 } }],
    ["rope_scaling.full_attention", { rope_scaling: { full_attention: { rope_type: "default" } } }],
    ["rope_parameters.rope_type", { rope_parameters: { rope_type: "axial" } }],
    ["rope_scaling.factor", { rope_scaling: { type: "linear" } }],
    ["rope_scaling.factor", { rope_scaling: { ...LLAMA3, factor: 0 } }],
    ["rope_scaling.low_freq_factor", { rope_scaling: { ...LLAMA3, low_freq_factor: undefined } }],
    ["rope_scaling.high_freq_factor", { rope_scaling: { ...LLAMA3, high_freq_factor: "4" } }],
    ["rope_scaling.high_freq_factor", { rope_scaling: { ...LLAMA3, high_freq_factor: 1 } }],
    [
      "rope_scaling.original_max_position_embeddings",
      { rope_scaling: { ...LLAMA3, original_max_position_embeddings: null } },
    ],
    [
      "rope_scaling.original_max_position_embeddings",
      { rope_scaling: LLAMA3, original_max_position_embeddings: 4096 },
    ],
    ["rope_theta", { rope_theta: -1 }],
    ["rope_scaling", { rope_scaling: "linear" }],
    ["rope_scaling", { rope_scaling: LLAMA3, rope_parameters: { rope_type: "default" } }],
    ["rope_parameters.full_attention", { rope_parameters: { full_attention: { rope_theta: 3 } } }],
    ["partial_rotary_factor", { partial_rotary_factor: 0.5 }],
    ["rope_parameters.partial_rotary_factor", { rope_parameters: { partial_rotary_factor: 0.5 } }],
    ["rope_scaling.short_factor", { rope_scaling: { ...LONG, short_factor: undefined } }],
    ["rope_scaling.short_factor", { rope_scaling: { ...LONG, short_factor: [1, 2, 3] } }],
    ["rope_scaling.long_factor", { rope_scaling: { ...LONG, long_factor: 3 } }],
    ["rope_scaling.long_factor.2", { rope_scaling: { ...LONG, long_factor: [1, 2, "3", 4] } }],
    ["rope_scaling.long_factor.0", { rope_scaling: { ...LONG, long_factor: [0, 2, 3, 4] } }],
    ["rope_scaling.attention_factor", { rope_scaling: { ...LONG, attention_factor: -1 } }],
    ["rope_scaling.factor", { rope_scaling: { ...LONG, factor: 4 }, original_max_position_embeddings: 4096 }],
    ["original_max_position_embeddings", { rope_scaling: LONG, original_max_position_embeddings: 1 }],
    ["rope_scaling.factor", { rope_scaling: { type: "yarn" } }],
    ["rope_scaling.short_factor", { rope_scaling: { ...yarn, short_factor: [1, 2, 3, 4] } }],
    ["rope_scaling.beta_fast", { rope_scaling: { ...yarn, beta_fast: "32" } }],
    ["rope_scaling.truncate", { rope_scaling: { ...yarn, truncate: 1 } }],
  ];
  for (const [field, config] of wrong) {
    assert.throws(() => rope(config, 8), { name: "ConfigError", field }, JSON.stringify(config));
  }
});

Deno.test("ropeSpec: dynamic scaling says up to which length its frequencies are right", () => {
  const { most } = rope({ rope_scaling: { rope_type: "dynamic", factor: 2 } }, 8);
  assert.deepEqual(most, { tokens: MAX_POSITIONS, kind: "dynamic" });
  for (const rope_scaling of [null, LLAMA3, { type: "linear", factor: 2 }]) {
    assert.equal(rope({ rope_scaling }, 8).most, undefined);
  }
});

Deno.test("ropeSpec: newer fields beside older ones that say the same, and that don't", () => {
  const linear = { type: "linear", factor: 4 };
  const rope_parameters = { rope_type: "linear", factor: 4, rope_theta: 77 };
  const expected = rope({ rope_theta: 77, rope_scaling: linear }, 8);
  for (
    const older of [
      { rope_theta: 77 },
      { rope_theta: 77, rope_scaling: linear },
      { rope_theta: 77, rope_scaling: { rope_type: "linear", ...linear } },
      { rope_scaling: { ...linear, rope_theta: 77 } },
      { rope_theta: 77, rope_scaling: null },
    ]
  ) assert.deepEqual(rope({ rope_parameters, ...older }, 8), expected, JSON.stringify(older));
  const wrong: [field: string, older: Fields, message: RegExp][] = [
    ["rope_theta", { rope_theta: 78 }, /is 78, which contradicts "rope_parameters.rope_theta", 77/],
    [
      "rope_scaling",
      { rope_theta: 77, rope_scaling: { ...linear, factor: 2 } },
      /"factor":2.*contradicts "rope_par/,
    ],
    ["rope_scaling", { rope_theta: 77, rope_scaling: { rope_type: "default" } }, /contradicts/],
    ["rope_scaling", { rope_theta: 77, rope_scaling: { type: "dynamic", factor: 4 } }, /contradicts/],
    // With an older version's default of 10000.
    ["rope_scaling", { rope_scaling: linear }, /contradicts/],
  ];
  for (const [field, older, message] of wrong) {
    assert.throws(() => rope({ rope_parameters, ...older }, 8), { name: "ConfigError", field, message });
  }
  const parts = { fractionField: "rotary_pct", fraction: 0.25 };
  const half = { rope_theta: 5, partial_rotary_factor: 0.5 };
  assert.equal(rope({ rope_parameters: half, rotary_pct: 0.5 }, 16, parts).frequencies.length, 4);
  assert.throws(() => rope({ rope_parameters: half, rotary_pct: 1 }, 16, parts), { field: "rotary_pct" });
});
