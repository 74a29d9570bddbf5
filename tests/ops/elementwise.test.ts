import assert from "node:assert/strict";
import type { Slot } from "../../engine/gpu/pool.ts";
import { average } from "../../engine/ops/average.ts";
import { fill } from "../../engine/ops/elementwise.ts";
import {
  embeddingBackward,
  embeddingForward,
  gatherRows,
  scatterAddRows,
  tokenBuckets,
} from "../../engine/ops/embedding.ts";
import { narrow, widen } from "../../engine/tensor/dtype.ts";
import type { Stored } from "../../engine/tensor/stored.ts";
import { assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import * as embedding from "../reference/embedding.ts";
import { float64 } from "../reference/linear_algebra.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertSomeNaN, assertWithin, OpTest, U } from "./support.ts";

const gpu = await sharedGpu();
const target = { isSoftware: true };

Deno.test("gather and scatter-add: rows by index, the others untouched", async () => {
  const random = new Random(4);
  for (const [count, table, columns] of [[1, 1, 1], [5, 11, 67], [64, 70, 3]]) {
    const x = random.normal(table * columns);
    const index = Uint32Array.from({ length: count }, (_, i) => (i * 9 + 3) % table);
    x[index[0] * columns] = NaN;
    const small = random.normal(count * columns);
    using test = new OpTest(gpu, target);
    const slots = {
      index: test.input("index", index),
      x: test.input("x", x),
      y: test.output("y", small.length),
    };
    gatherRows(test.recorder, count, columns, slots);
    const sum = test.inout("sum", x);
    scatterAddRows(test.recorder, count, columns, {
      index: slots.index,
      x: test.input("rows", small),
      y: sum,
    });
    await test.run();
    const gathered = embedding.embeddingForward(index, float64(x), columns);
    assertSameBits("gathered", test.floats(slots.y), Float32Array.from(gathered));
    const added = float64(x);
    embedding.embeddingBackward(index, float64(small), columns, added);
    assertSameBits("scattered", test.floats(sum), Float32Array.from(added));
  }
});

/** Row shards of a table: whole, and cut so that a shard begins at an odd element of the table. */
function cuts(vocabulary: number): { firstRow: number; rows: number }[][] {
  const whole = [{ firstRow: 0, rows: vocabulary }];
  const first = Math.ceil(vocabulary / 3);
  return vocabulary === 1
    ? [whole]
    : [whole, [{ firstRow: 0, rows: first }, { firstRow: first, rows: vocabulary - first }]];
}

Deno.test("embedding forward: scaled rows from f32 and bf16 tables in shards, NaN out", async () => {
  const random = new Random(7);
  for (const [tokens, vocabulary, columns] of [[1, 1, 1], [131, 7, 65], [64, 300, 64], [40, 10, 5]]) {
    for (const shards of cuts(vocabulary)) {
      for (const bf16 of [false, true]) {
        const ids = random.integers(tokens, 0, vocabulary);
        const table = random.normal(vocabulary * columns);
        table[ids[tokens >> 1] * columns + columns - 1] = NaN;
        if (bf16) widen("BF16", narrow("BF16", table), table);
        using test = new OpTest(gpu, target);
        const y = test.output("y", tokens * columns);
        const slots = shards.map(({ firstRow, rows }) => {
          const part = table.subarray(firstRow * columns, (firstRow + rows) * columns);
          const halves = new Uint8Array(Math.ceil(part.length / 2) * 4);
          halves.set(narrow("BF16", part));
          const weight = test.input("table", bf16 ? halves : part.slice());
          return { firstRow, rows, weight, storage: bf16 ? "bf16" : "f32" } as const;
        });
        const scale = Math.fround(Math.sqrt(columns));
        const inputs = { ids: test.input("ids", Uint32Array.from(ids)), table: slots, y };
        embeddingForward(test.recorder, tokens, columns, inputs, scale);
        await test.run();
        const expected = embedding.embeddingForward(ids, float64(table), columns).map((v) => v * scale);
        assertSameBits("embedded", test.floats(y), Float32Array.from(expected));
        assertSomeNaN("embedded", test.floats(y));
      }
    }
  }
});

Deno.test("embedding backward: repeated tokens add up in order, unused ones keep what they had", async () => {
  const random = new Random(5);
  for (const [tokens, vocabulary, columns] of [[1, 1, 1], [131, 7, 65], [64, 300, 64], [40, 1, 5]]) {
    for (const shards of cuts(vocabulary)) {
      const ids = random.integers(tokens, 0, vocabulary);
      const dx = random.normal(tokens * columns);
      const before = random.normal(vocabulary * columns);
      dx[columns * (tokens >> 1)] = NaN;
      const scale = shards.length;
      using test = new OpTest(gpu, target);
      const { buckets, order } = tokenBuckets(ids);
      const dtable = shards.map(({ firstRow, rows }) => ({
        firstRow,
        rows,
        gradient: test.inout("dtable", before.slice(firstRow * columns, (firstRow + rows) * columns)),
      }));
      embeddingBackward(test.recorder, buckets.length / 4, columns, {
        buckets: test.input("buckets", buckets),
        order: test.input("order", order),
        dx: test.input("dx", dx),
        dtable,
      }, scale);
      await test.run();
      const expected = float64(before);
      embedding.embeddingBackward(ids, float64(dx).map((v) => v * scale), columns, expected);
      // The kernel's order of additions is the positions' order, and the scale a power of two: even the bits are known.
      const bits = before.slice();
      for (let n = 0; n < tokens; n++) {
        for (let c = 0; c < columns; c++) bits[ids[n] * columns + c] += scale * dx[n * columns + c];
      }
      const found = new Float32Array(before.length);
      for (const { firstRow, gradient } of dtable) found.set(test.floats(gradient), firstRow * columns);
      assertWithin("dtable", found, expected, Math.sqrt(tokens) * U * 60 * scale);
      assertSomeNaN("dtable", found);
      for (let i = 0; i < bits.length; i++) if (!Number.isNaN(bits[i])) assert.equal(found[i], bits[i]);
    }
  }
});

Deno.test("token buckets: ascending tokens, their positions ascending", () => {
  const { buckets, order } = tokenBuckets([5, 2, 5, 0, 2, 5]);
  assert.deepEqual([...buckets], [0, 0, 1, 0, 2, 1, 3, 0, 5, 3, 6, 0]);
  assert.deepEqual([...order], [3, 1, 4, 0, 2, 5]);
  assert.equal(tokenBuckets([]).buckets.length, 0);
});

Deno.test("fill: only its elements, only when asked", async () => {
  using test = new OpTest<boolean>(gpu, target);
  const x = test.inout("x", new Float32Array(131).fill(7));
  fill(test.recorder, 67, x, -0.5, (when) => when);
  await test.run(false);
  assertSameBits("not filled", test.floats(x), new Float32Array(131).fill(7));
  await test.run(true);
  assertSameBits("filled", test.floats(x), new Float32Array(131).fill(7).fill(-0.5, 0, 67));
});

for (const count of [129, 260]) {
  Deno.test(`average: moves by λ towards the initial weights; λ = 0 changes no bit; NaN stays, ${count}`, async () => {
    const random = new Random(6);
    const [initial, weight] = [random.normal(count + 2), random.normal(count + 2)];
    weight[5] = -0;
    weight[70] = NaN;
    using test = new OpTest<number>(gpu, target);
    const stored = (slot: Slot): Stored => ({ storage: "f32", weight: slot });
    const slot = test.inout("weight", weight);
    const slots = { initial: stored(test.input("initial", initial)), parameter: stored(slot) };
    average(test.recorder, count, slots, (lambda) => ({ lambda, rounding: { key: 0, firstElement: 0 } }));
    await test.run(0);
    assertSameBits("λ = 0", test.floats(slot).fill(0, 5, 6), weight.slice().fill(0, 5, 6));
    await test.run(0.25);
    const expected = float64(weight).map((w, i) => i < count ? 0.75 * w + 0.25 * initial[i] : w);
    assertWithin("λ = 0.25", test.floats(slot), expected, 3 * U * 5);
  });
}

coverageTest(
  gpu,
  "elementwise",
  (check) => Deno.test("elementwise: every kernel ran on a full workgroup", check),
);
