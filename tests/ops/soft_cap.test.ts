import assert from "node:assert/strict";
import { softCap } from "../../engine/ops/soft_cap.ts";
import { assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { float64 } from "../reference/linear_algebra.ts";
import * as reference from "../reference/soft_cap.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertSomeNaN, assertWithin, OpTest, U } from "./support.ts";

const gpu = await sharedGpu();
const target = { isSoftware: true };

async function check(cap: number, x: Float32Array<ArrayBuffer>, rows: number, columns: number) {
  using test = new OpTest(gpu, target);
  const slot = test.inout("x", x);
  softCap(test.recorder, { rows, columns, cap, x: slot });
  await test.run();
  const expected = reference.softCap(float64(x), cap);
  // tanh is off by 3e-7 of itself (shaders/math.wgsl), its rounded argument and the product by three roundings more.
  const bound = expected.map((v) => (3e-7 + 3 * U) * Math.abs(v) + 1e-37 || 0);
  assertWithin(`cap ${cap}`, test.floats(slot), expected, bound);
  if (x.some(Number.isNaN)) assertSomeNaN(`cap ${cap}`, test.floats(slot));
}

Deno.test("soft cap: awkward shapes, huge numbers and zeros, NaN out where it goes in", async () => {
  for (const [rows, columns] of [[1, 1], [3, 7], [65, 67], [1, 64]]) {
    for (const cap of [30, 50, 0.7]) {
      const x = new Random(rows * columns).normal(rows * columns, cap);
      [3e38, -3e38, 0, 1e-30, -1e9, NaN].forEach((value, i) => {
        if (i < x.length - 1) x[i] = value;
      });
      await check(cap, x, rows, columns);
    }
  }
});

Deno.test("soft cap: a dense grid over the curve, both of its formulas", async () => {
  const x = Float32Array.from({ length: 24_001 }, (_, i) => (i - 12_000) / 1000);
  await check(1, x, 1, x.length);
});

Deno.test("soft cap: rows beyond a step's own stay as they are, and a cap must be positive", async () => {
  using test = new OpTest<{ rows: number }>(gpu, target);
  const x = new Random(2).normal(9 * 5, 10);
  const slot = test.inout("x", x);
  softCap(test.recorder, { rows: (s) => s.rows, columns: 5, cap: 4, x: slot });
  await test.run({ rows: 0 });
  assertSameBits("no rows", test.floats(slot), x);
  await test.run({ rows: 8 });
  assertSameBits("rest", test.floats(slot).subarray(40), x.subarray(40));
  assert.notEqual(test.floats(slot)[39], x[39]);
  for (const cap of [0, -1, NaN]) {
    assert.throws(
      () => softCap(test.recorder, { rows: 1, columns: 5, cap, x: slot }),
      { name: "RangeError", message: `soft cap: expected a positive cap, found ${cap}` },
    );
  }
});

coverageTest(gpu, "soft_cap", (check) => Deno.test("soft cap: the kernel ran on a full workgroup", check));
