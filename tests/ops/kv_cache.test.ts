import assert from "node:assert/strict";
import { kvCacheWrite } from "../../engine/ops/kv_cache.ts";
import { headMatrix } from "../../engine/tensor/matrix.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { coverageTest } from "./full_tiles.ts";
import { OpTest, TARGETS } from "./support.ts";

const gpu = await sharedGpu();

/** Heads, width, and where keys and values lie: after the queries, head after head, or [q, k, v] a head. */
const LAYOUTS = [
  { heads: 1, D: 1, ld: 3, k: 1, v: 2, stride: 1 },
  { heads: 2, D: 5, ld: 31, k: 7, v: 19, stride: 5 },
  { heads: 3, D: 16, ld: 144, k: 16, v: 32, stride: 48 },
  { heads: 4, D: 33, ld: 273, k: 0, v: 137, stride: 34 },
];

for (const target of TARGETS) {
  for (const { heads, D, ld, k, v, stride } of LAYOUTS) {
    Deno.test(`kvCacheWrite (${target.label}): ${heads} heads of ${D}, rows in any order, others untouched`, async () => {
      const random = new Random(heads);
      const rowsOf = Uint32Array.of(6, 2, 0, 9, 4);
      const [tokens, cacheRows, width] = [rowsOf.length, 11, 2 * heads * D];
      const source = random.normal(tokens * ld);
      const before = random.normal(cacheRows * width);
      using test = new OpTest(gpu, target);
      const slot = test.input("kv", source);
      const cache = test.inout("cache", before);
      kvCacheWrite(test.recorder, {
        rows: tokens,
        heads,
        headDim: D,
        keyRows: test.input("rows", rowsOf),
        cache,
        k: headMatrix(slot, ld, k, stride),
        v: headMatrix(slot, ld, v, stride),
      });
      await test.run();
      const expected = before.slice();
      rowsOf.forEach((row, n) => {
        for (let h = 0; h < heads; h++) {
          for (let d = 0; d < D; d++) {
            expected[row * width + h * D + d] = source[n * ld + k + h * stride + d];
            expected[row * width + heads * D + h * D + d] = source[n * ld + v + h * stride + d];
          }
        }
      });
      assert.deepEqual(test.floats(cache), expected);
    });
  }
}

Deno.test("kvCacheWrite: keys and values apart are refused", () => {
  const test = new OpTest(gpu, TARGETS[0]);
  const [a, b] = [test.input("a", new Float32Array(4)), test.input("b", new Float32Array(4))];
  const rest = { rows: 1, heads: 1, headDim: 2, keyRows: a, cache: test.output("cache", 4) };
  assert.throws(() => kvCacheWrite(test.recorder, { ...rest, k: headMatrix(a, 4), v: headMatrix(b, 4) }), {
    name: "TypeError",
    message: /keys and values must share buffer/,
  });
});

coverageTest(gpu, "kv_cache", (check) => Deno.test("kvCacheWrite ran on a full tile", check));
