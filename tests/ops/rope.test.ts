import { rope, ropeTable } from "../../engine/ops/rope.ts";
import { maxAbs } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { float64 } from "../reference/linear_algebra.ts";
import * as reference from "../reference/rope.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertOnly, collect, dense, extent, type HeadLayout, spread, view } from "./head_layout.ts";
import { assertSomeNaN, assertWithin, OpTest, U } from "./support.ts";

const gpu = await sharedGpu();
const target = { isSoftware: true };
const POSITIONS = 90;

/** Where heads lie, how many of their dimensions turn, and the scale: whole heads, partial ones, q of q, k, v heads. */
const CASES: { at: HeadLayout; rotary: number; scale?: number }[] = [
  { at: dense(1, 1, 2), rotary: 2 },
  { at: { ...dense(7, 3, 6), ld: 41, offset: 5 }, rotary: 6 },
  { at: { ...dense(65, 2, 64), ld: 512, offset: 128 }, rotary: 64 },
  { at: dense(5, 2, 10), rotary: 4 },
  { at: { rows: 9, heads: 3, columns: 7, headStride: 21, ld: 70, offset: 7 }, rotary: 6, scale: 1.19 },
  { at: { rows: 33, heads: 4, columns: 20, headStride: 60, ld: 240, offset: 20 }, rotary: 8, scale: 0.5 },
];

for (const backward of [false, true]) {
  Deno.test(`rope, ${backward ? "backward" : "forward"}: whole and partial heads inside wider buffers`, async () => {
    for (const { at, rotary, scale } of CASES) {
      const random = new Random(at.rows);
      const frequencies = reference.inverseFrequencies(rotary, 10000);
      const positions = Uint32Array.from(random.integers(at.rows, 0, POSITIONS));
      const heads = random.normal(at.rows * at.heads * at.columns);
      heads[(at.rows - 1) * at.heads * at.columns] = NaN;
      using test = new OpTest(gpu, target);
      const x = test.inout("x", spread(heads, at));
      rope(test.recorder, {
        rows: at.rows,
        heads: at.heads,
        rotary,
        x: view(x, at),
        positions: test.input("positions", positions),
        table: test.input("table", ropeTable([...frequencies], POSITIONS, scale)),
      }, backward);
      await test.run();
      const rotate = backward ? reference.ropeBackward : reference.ropeForward;
      const expected = rotate(float64(heads), positions, frequencies, { headDim: at.columns, scale });
      // Two products with rounded factors, and a sum: at most 5 roundings of numbers below √2·max|x|.
      const largest = maxAbs(heads.filter((v) => !Number.isNaN(v)));
      const found = collect(test.floats(x), at);
      const name = JSON.stringify({ ...at, rotary });
      assertWithin(name, found, expected, 5 * U * 1.42 * Math.max(1, scale ?? 1) * largest);
      assertOnly(name, test.floats(x), at);
      assertSomeNaN(name, found);
    }
  });
}

Deno.test("rope: rows beyond a step's own stay as they are", async () => {
  const at = dense(6, 2, 4);
  const data = new Random(3).normal(extent(at));
  using test = new OpTest<number>(gpu, target);
  const x = test.inout("x", data);
  rope(test.recorder, {
    rows: (count: number) => count,
    heads: 2,
    rotary: 4,
    x: view(x, at),
    positions: test.input("positions", Uint32Array.from([4, 3, 2, 1, 7, 7])),
    table: test.input("table", ropeTable([1, 0.5], 8)),
  });
  for (const count of [4, 0]) {
    await test.run(count);
    const expected = float64(data);
    const turned = expected.slice(0, count * 8);
    expected.set(reference.ropeForward(turned, [4, 3, 2, 1].slice(0, count), Float64Array.of(1, 0.5)));
    const bound = expected.map((_, i) => i < count * 8 ? 5 * U * 1.42 * maxAbs(data) : 0);
    assertWithin(`${count} rows`, test.floats(x), expected, bound);
  }
});

coverageTest(gpu, "rope", (check) => Deno.test("rope: the kernel ran on a full workgroup", check));
