import assert from "node:assert/strict";
import { fitPowerLaw } from "../../bench/power_law.ts";

const near = (found: number, expected: number) =>
  assert.ok(Math.abs(found - expected) < 1e-12, `expected ${expected}, found ${found}`);

Deno.test("power law: an exact one is found, with its exponents at both ends", () => {
  const { exponent, r2, first, last } = fitPowerLaw([1, 3, 10, 11].map((x) => [x, 5 * x ** 1.5]));
  [exponent, first, last].forEach((value) => near(value, 1.5));
  near(r2, 1);
});

Deno.test("power law: a constant beside a line weighs at the small end", () => {
  const { exponent, r2, first, last } = fitPowerLaw([1, 2, 4, 8, 16, 32].map((x) => [x, 8 + x]));
  near(first, Math.log2(10 / 9));
  near(last, Math.log2(40 / 24));
  assert.ok(first < exponent && exponent < last);
  assert.ok(r2 > 0.8 && r2 < 1);
});

Deno.test("power law: the line of least squares, by hand", () => {
  // log2: (0, 0), (1, 2), (2, 1): slope Σxy/Σx² of the centred points, and its correlation squared
  const { exponent, r2, first, last } = fitPowerLaw([[1, 1], [2, 4], [4, 2]]);
  [[exponent, 0.5], [r2, 0.25], [first, 2], [last, -1]].forEach(([found, expected]) => near(found, expected));
});

Deno.test("power law: what doesn't grow has exponent 0; what can't be fitted is refused", () => {
  assert.deepEqual(fitPowerLaw([[1, 7], [2, 7]]), { exponent: 0, r2: 1, first: 0, last: 0 });
  for (const points of [[], [[1, 1]], [[0, 1], [1, 1]], [[1, 1], [2, -1]], [[1, NaN], [2, 1]]]) {
    assert.throws(() => fitPowerLaw(points as [number, number][]), { name: "RangeError" });
  }
});
