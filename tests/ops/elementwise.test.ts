import assert from "node:assert/strict";
import { swigluBackward, swigluForward } from "../../engine/ops/activation.ts";
import { average, fill } from "../../engine/ops/elementwise.ts";
import { embeddingBackward, gatherRows, scatterAddRows, tokenBuckets } from "../../engine/ops/embedding.ts";
import { rope, ropeTable } from "../../engine/ops/rope.ts";
import { matrix } from "../../engine/tensor/matrix.ts";
import { assertSameBits, maxAbs } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import * as embedding from "../reference/embedding.ts";
import { float64 } from "../reference/linear_algebra.ts";
import * as ropeReference from "../reference/rope.ts";
import * as swiglu from "../reference/swiglu.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertSomeNaN, assertWithin, OpTest, U } from "./support.ts";

const gpu = await sharedGpu();
const target = { isSoftware: true };

Deno.test("rope: forward and backward on heads inside a wider buffer, others untouched", async () => {
  for (
    const [rows, heads, headDim, offset, ld] of [[1, 1, 2, 0, 2], [7, 3, 6, 5, 41], [65, 2, 64, 128, 512]]
  ) {
    for (const backward of [false, true]) {
      const random = new Random(rows);
      const frequencies = ropeReference.inverseFrequencies(headDim, 10000);
      const positions = Uint32Array.from(random.integers(rows, 0, 90));
      const data = random.normal(offset + rows * ld);
      data[offset + (rows - 1) * ld] = NaN;
      using test = new OpTest(gpu, target);
      const x = test.inout("x", data);
      rope(test.recorder, {
        ...{ rows, heads, headDim, rotary: headDim, x: matrix(x, ld, offset) },
        positions: test.input("positions", positions),
        table: test.input("table", ropeTable([...frequencies], 90)),
      }, backward);
      await test.run();
      const expected = float64(data);
      const rotate = backward ? ropeReference.ropeBackward : ropeReference.ropeForward;
      for (let row = 0; row < rows; row++) {
        const at = offset + row * ld;
        const part = float64(data.subarray(at, at + heads * headDim));
        expected.set(rotate(part, [positions[row]], frequencies), at);
      }
      // Two products with rounded factors, and a sum: at most 5 roundings of numbers below √2·max|x|.
      const largest = maxAbs(data.filter((v) => !Number.isNaN(v)));
      assertWithin(`rope ${rows} ${backward}`, test.floats(x), expected, 5 * U * 1.42 * largest);
      assertSomeNaN("rope", test.floats(x));
    }
  }
});

Deno.test("rope: only the first `rotary` dimensions of each head turn", async () => {
  const [rows, heads, headDim, rotary] = [5, 2, 10, 4];
  const random = new Random(8);
  const frequencies = ropeReference.inverseFrequencies(rotary, 100);
  const data = random.normal(rows * heads * headDim);
  using test = new OpTest(gpu, target);
  const x = test.inout("x", data);
  rope(test.recorder, {
    ...{ rows, heads, headDim, rotary, x: matrix(x, heads * headDim) },
    positions: test.input("positions", Uint32Array.from([4, 3, 2, 1, 0])),
    table: test.input("table", ropeTable([...frequencies], 5)),
  });
  await test.run();
  const expected = float64(data);
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < heads; head++) {
      const at = (row * heads + head) * headDim;
      const part = float64(data.subarray(at, at + rotary));
      expected.set(ropeReference.ropeForward(part, [4 - row], frequencies), at);
    }
  }
  assertWithin("partial rope", test.floats(x), expected, 5 * U * 1.42 * maxAbs(data));
});

Deno.test("swiglu: forward and backward, far gates too, NaN out where it goes in", async () => {
  for (const [rows, columns] of [[1, 1], [3, 7], [65, 67], [1, 64]]) {
    const random = new Random(rows * columns);
    const gate = random.normal(rows * columns, 4);
    const up = random.normal(rows * columns);
    const dy = random.normal(rows * columns);
    [-100, 100, -88, 30, -30, NaN].forEach((value, i) => {
      if (i < gate.length - 1) gate[i] = value;
    });
    const gateUp = new Float32Array(2 * rows * columns);
    for (let row = 0; row < rows; row++) {
      gateUp.set(gate.subarray(row * columns, (row + 1) * columns), row * 2 * columns);
      gateUp.set(up.subarray(row * columns, (row + 1) * columns), (row * 2 + 1) * columns);
    }
    using test = new OpTest(gpu, target);
    const input = test.input("gate_up", gateUp);
    const y = test.output("y", rows * columns);
    const gradient = test.inout("dgate_up", gateUp);
    swigluForward(test.recorder, rows, columns, { gateUp: input, y });
    swigluBackward(test.recorder, rows, columns, { dy: test.input("dy", dy), gateUp: gradient });
    await test.run();
    const expected = swiglu.swigluForward(float64(gate), float64(up));
    // exp of a rounded argument is off by |gate|·U, the sigmoid by no more; a handful of roundings beside it, and
    // what is below the smallest normal number may be flushed to zero.
    const relative = (i: number) => (8 + 2 * Math.abs(gate[i])) * U;
    const near = (values: Float64Array) => values.map((v, i) => relative(i) * Math.abs(v) + 1e-36);
    assertWithin(`swiglu ${rows}×${columns}`, test.floats(y), expected, near(expected));
    const { dGate, dUp } = swiglu.swigluBackward(float64(dy), float64(gate), float64(up));
    const found = test.floats(gradient);
    const pick = (shift: number) =>
      gate.map((_, i) => found[(Math.floor(i / columns) * 2 + shift) * columns + i % columns]);
    assertWithin("dup", pick(1), dUp, near(dUp));
    // 1 + gate·(1 − σ) cancels near its zero, so the bound is on its two parts.
    const bound = dGate.map((_, i) => {
      const sigmoid = 1 / (1 + Math.exp(-gate[i]));
      return relative(i) * Math.abs(dy[i] * up[i] * sigmoid) * (1 + Math.abs(gate[i])) + 1e-36;
    });
    assertWithin("dgate", pick(0), dGate, bound);
    if (rows * columns > 6) assertSomeNaN("swiglu", test.floats(y));
  }
});

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

Deno.test("embedding backward: repeated tokens add up in order, unused ones keep what they had", async () => {
  const random = new Random(5);
  for (const [tokens, vocabulary, columns] of [[1, 1, 1], [131, 7, 65], [64, 300, 64], [40, 1, 5]]) {
    const ids = random.integers(tokens, 0, vocabulary);
    const dx = random.normal(tokens * columns);
    const before = random.normal(vocabulary * columns);
    dx[columns * (tokens >> 1)] = NaN;
    using test = new OpTest(gpu, target);
    const { buckets, order } = tokenBuckets(ids);
    const dtable = test.inout("dtable", before);
    embeddingBackward(test.recorder, buckets.length / 4, columns, {
      buckets: test.input("buckets", buckets),
      order: test.input("order", order),
      dx: test.input("dx", dx),
      dtable,
    });
    await test.run();
    const expected = float64(before);
    embedding.embeddingBackward(ids, float64(dx), columns, expected);
    // The kernel's order of additions is the positions' order, so even the bits are known.
    const bits = before.slice();
    for (let n = 0; n < tokens; n++) {
      for (let c = 0; c < columns; c++) bits[ids[n] * columns + c] += dx[n * columns + c];
    }
    const found = test.floats(dtable);
    assertWithin("dtable", found, expected, Math.sqrt(tokens) * U * 60);
    assertSomeNaN("dtable", found);
    for (let i = 0; i < bits.length; i++) if (!Number.isNaN(bits[i])) assert.equal(found[i], bits[i]);
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

Deno.test("average: moves by λ towards the initial weights; λ = 0 changes no bit; NaN stays", async () => {
  const random = new Random(6);
  const [initial, weight] = [random.normal(131), random.normal(131)];
  weight[5] = -0;
  weight[70] = NaN;
  using test = new OpTest<number>(gpu, target);
  const slots = { initial: test.input("initial", initial), weight: test.inout("weight", weight) };
  average(test.recorder, 129, slots, (lambda) => lambda);
  await test.run(0);
  assertSameBits("λ = 0", test.floats(slots.weight).fill(0, 5, 6), weight.slice().fill(0, 5, 6));
  await test.run(0.25);
  const expected = float64(weight).map((w, i) => i < 129 ? 0.75 * w + 0.25 * initial[i] : w);
  assertWithin("λ = 0.25", test.floats(slots.weight), expected, 3 * U * 5);
});

coverageTest("elementwise", (check) => Deno.test("elementwise: every kernel ran on a full workgroup", check));
