import assert from "node:assert/strict";
import { hash32, randomInt, sample, shuffle, uniform } from "../../engine/tensor/random.ts";

Deno.test("random: the same numbers on every platform", () => {
  assert.deepEqual(
    [hash32(0), hash32(1), hash32(42, 1, 2, 3), hash32(-1), hash32(2 ** 40 + 1)],
    FIRST_NUMBERS,
  );
  assert.equal(uniform(42, 1, 2, 3), hash32(42, 1, 2, 3) / 2 ** 32);
});
/** From an independent implementation in integer arithmetic. */
const FIRST_NUMBERS = [3640446959, 3517730158, 1880097677, 2032702328, 2906209073];

Deno.test("random: seeds and counters all matter, and so does which counter", () => {
  const all = [
    hash32(1, 2, 3, 4),
    hash32(2, 1, 3, 4),
    hash32(1, 3, 2, 4),
    hash32(1, 2, 4, 3),
    hash32(1),
    hash32(2 ** 32 + 1),
  ];
  assert.equal(new Set(all).size, all.length);
  assert.throws(() => hash32(0.5), /safe integers, found 0.5/);
  assert.throws(() => uniform(1, NaN), RangeError);
});

Deno.test("random: uniform along every counter", () => {
  const n = 4096;
  const draws = [
    (i: number) => uniform(i),
    (i: number) => uniform(7, i),
    (i: number) => uniform(7, 1, i),
    (i: number) => uniform(7, 1, 2, i),
  ];
  for (const draw of draws) {
    const buckets = new Array(16).fill(0);
    let lag = 0;
    for (let i = 0; i < n; i++) {
      const u = draw(i);
      assert.ok(u >= 0 && u < 1);
      buckets[Math.floor(u * 16)]++;
      lag += (u - 0.5) * (draw(i + 1) - 0.5);
    }
    // 15 degrees of freedom: 44.3 is exceeded once in 10,000.
    const chi2 = buckets.reduce((sum, k) => sum + (k - n / 16) ** 2 / (n / 16), 0);
    assert.ok(chi2 < 44.3, `chi² ${chi2}`);
    assert.ok(Math.abs(lag / n) * 12 < 4 / Math.sqrt(n), `lag-1 correlation ${(lag / n) * 12}`);
  }
});

Deno.test("random: randomInt covers its range", () => {
  const seen = new Set(Array.from({ length: 200 }, (_, i) => randomInt(7, 3, i)));
  assert.deepEqual([...seen].sort(), [0, 1, 2, 3, 4, 5, 6]);
  assert.equal(randomInt(1, 5), 0);
  for (const n of [0, -1, 1.5, 2 ** 33]) assert.throws(() => randomInt(n, 1), RangeError);
});

Deno.test("random: shuffle and sample", () => {
  const items = Array.from({ length: 50 }, (_, i) => i);
  const shuffled = shuffle(items, 9);
  assert.deepEqual([...shuffled].sort((a, b) => a - b), items);
  assert.notDeepEqual(shuffled, items);
  assert.deepEqual(shuffle(items, 9), shuffled);
  assert.notDeepEqual(shuffle(items, 9, 1), shuffled);
  assert.deepEqual(sample(items, 8, 9), shuffled.slice(0, 8));
  assert.deepEqual(sample(items, 0, 9), []);
  assert.deepEqual(shuffle([], 1), []);
  assert.throws(() => sample(items, 51, 9), /cannot draw 51 of 50/);
});
