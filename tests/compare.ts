/** Comparisons of numeric arrays. Every one of them fails on NaN, on either side, and on unequal lengths. */
import assert from "node:assert/strict";

/** A largest difference and where it was found (index −1 for empty arrays). */
interface Difference {
  value: number;
  index: number;
}

/** Largest |found − expected| with its index; value NaN, at the first such index, if any difference is NaN. */
function largestDifference(found: ArrayLike<number>, expected: ArrayLike<number>): Difference {
  sameLength("arrays", found, expected);
  const worst: Difference = { value: 0, index: found.length > 0 ? 0 : -1 };
  for (let i = 0; i < found.length; i++) {
    const d = Math.abs(found[i] - expected[i]);
    if (Number.isNaN(d)) return { value: NaN, index: i };
    if (d > worst.value) {
      worst.value = d;
      worst.index = i;
    }
  }
  return worst;
}

/** Largest |found − expected|; NaN if any difference is NaN. */
export function maxAbsDiff(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  return largestDifference(found, expected).value;
}

/** Largest |x|; NaN if any element is NaN. */
export function maxAbs(x: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < x.length; i++) largest = Math.max(largest, Math.abs(x[i]));
  return largest;
}

/** Euclidean norm. */
export function l2(x: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] * x[i];
  return Math.sqrt(sum);
}

/** ‖found − expected‖ / ‖expected‖; 0 when both are zero, Infinity when only `expected` is. */
export function relL2(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  sameLength("arrays", found, expected);
  let sum = 0;
  for (let i = 0; i < found.length; i++) sum += (found[i] - expected[i]) ** 2;
  return sum === 0 ? 0 * l2(expected) : Math.sqrt(sum) / l2(expected);
}

/** Asserts |found − expected| ≤ tolerance for two numbers. */
export function assertNear(name: string, found: number, expected: number, tolerance: number): void {
  if (!(Math.abs(found - expected) <= tolerance)) {
    assert.fail(`${name}: expected ${expected} ± ${tolerance}, found ${found}`);
  }
}

/** Asserts |found − expected| ≤ tolerance for every element. */
export function assertMaxAbs(
  name: string,
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  assertClose(name, found, expected, { absolute: tolerance });
}

/** Asserts |found − expected| ≤ absolute + relative · |expected| for every element. */
export function assertClose(
  name: string,
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: { absolute?: number; relative?: number },
): void {
  sameLength(name, found, expected);
  const { absolute = 0, relative = 0 } = tolerance;
  let failures = 0;
  let first = -1;
  let worst = -1;
  let worstExcess = -1;
  for (let i = 0; i < found.length; i++) {
    const difference = Math.abs(found[i] - expected[i]);
    const allowed = absolute + relative * Math.abs(expected[i]);
    if (difference <= allowed) continue;
    failures++;
    if (first < 0) first = i;
    const excess = Number.isNaN(difference) ? Infinity : difference - allowed;
    if (excess > worstExcess) {
      worstExcess = excess;
      worst = i;
    }
  }
  if (failures === 0) return;
  const show = (i: number) => `[${i}] expected ${expected[i]}, found ${found[i]}`;
  assert.fail(
    `${name}: ${failures} of ${found.length} elements differ by more than ${absolute} + ${relative}·|expected|; ` +
      `worst ${show(worst)}` + (first === worst ? "" : `; first ${show(first)}`),
  );
}

/** Asserts ‖found − expected‖ / ‖expected‖ ≤ tolerance. */
export function assertRelL2(
  name: string,
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  sameLength(name, found, expected);
  const error = relL2(found, expected);
  if (error <= tolerance) return;
  const { index } = largestDifference(found, expected);
  assert.fail(
    `${name}: relative L2 error ${error}, allowed ${tolerance}; ` +
      `worst [${index}] expected ${expected[index]}, found ${found[index]}`,
  );
}

/** Asserts that two float32 arrays have the same bits (so 0 and −0 differ, and equal NaNs agree). */
export function assertSameBits(name: string, found: Float32Array, expected: Float32Array): void {
  sameLength(name, found, expected);
  const a = new Uint32Array(found.buffer, found.byteOffset, found.length);
  const b = new Uint32Array(expected.buffer, expected.byteOffset, expected.length);
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i]) {
      assert.fail(
        `${name}[${i}]: bits differ: expected ${expected[i]} (0x${b[i].toString(16)}), ` +
          `found ${found[i]} (0x${a[i].toString(16)})`,
      );
    }
  }
}

function sameLength(name: string, found: ArrayLike<number>, expected: ArrayLike<number>): void {
  if (found.length !== expected.length) {
    assert.fail(`${name}: expected ${expected.length} elements, found ${found.length}`);
  }
}
