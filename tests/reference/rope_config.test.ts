import assert from "node:assert/strict";
import { assertClose } from "../compare.ts";
import { ropeOf } from "./rope_config.ts";

Deno.test("yarn keeps fast pairs, divides slow ones, and blends between; its temperature by hand", () => {
  // theta 16 over 16 dimensions: pair i turns once in 2π·√2^i tokens, L = 2π·8 tokens are 8/√2^i turns
  const settings = { theta: 16, rotary: 16, positions: 512, originalPositions: 16 * Math.PI };
  const scaling = { type: "yarn", factor: 4, beta_fast: 3.9, beta_slow: 1.1 };
  const { frequencies, scale } = ropeOf({ ...settings, scaling });
  const plain = Array.from({ length: 8 }, (_, i) => Math.SQRT1_2 ** i);
  // 3.9 turns are at pair 2.07, 1.1 turns at pair 5.7: the ramp goes from 2 to 6
  const kept = [1, 1, 1, 1 - 3 / 16, 1 - 6 / 16, 1 - 9 / 16, 1 / 4, 1 / 4];
  assertClose("yarn", frequencies, plain.map((x, i) => x * kept[i]), { relative: 1e-14 });
  assertClose("scale", [scale], [1 + Math.log(4) / 10], { relative: 1e-15 });
  const both = { ...scaling, mscale: 2, mscale_all_dim: 3 };
  const quotient = (1 + 0.2 * Math.log(4)) / (1 + 0.3 * Math.log(4));
  assertClose("mscale", [ropeOf({ ...settings, scaling: both }).scale], [quotient], { relative: 1e-15 });
});

Deno.test("longrope: the quotient of lengths or the given factor makes the scale", () => {
  const settings = { theta: 10, rotary: 4, positions: 64, originalPositions: 16 };
  const scaling = { type: "su", short_factor: [1, 2], long_factor: [4, 5] };
  const { frequencies, long, scale } = ropeOf({ ...settings, scaling });
  assertClose("short", frequencies, [1, 1 / (2 * Math.sqrt(10))], { relative: 1e-15 });
  assertClose("long", long!.frequencies, [1 / 4, 1 / (5 * Math.sqrt(10))], { relative: 1e-15 });
  assert.equal(long!.after, 16);
  assertClose("scale", [scale], [Math.sqrt(1.5)], { relative: 1e-15 });
  const scaleOf = (more: object) => ropeOf({ ...settings, scaling: { ...scaling, ...more } }).scale;
  assertClose("factor", [scaleOf({ factor: 16 })], [Math.sqrt(2)], { relative: 1e-15 });
  assert.equal(scaleOf({ factor: 0.5 }), 1);
  assert.equal(scaleOf({ attention_factor: 3 }), 3);
});
