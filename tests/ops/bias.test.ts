import { biasBackward } from "../../engine/ops/bias.ts";
import { matrix } from "../../engine/tensor/matrix.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { coverageTest } from "./full_tiles.ts";
import { collect, type HeadLayout, spread } from "./head_layout.ts";
import { assertSomeNaN, assertWithin, OpTest, U } from "./support.ts";

const gpu = await sharedGpu();
const target = { isSoftware: true };

/** [rows, columns, columns between rows, elements before dy, elements before dbias]: a slab of 64 rows ± 1, one row. */
const SHAPES = [
  ...[[1, 1, 0, 0, 0], [1, 67, 3, 5, 2], [63, 64, 0, 0, 64]],
  ...[[64, 5, 1, 0, 7], [65, 129, 64, 9, 1], [200, 66, 2, 1, 0]],
];

for (const mode of ["write", "accumulate", "poison"]) {
  Deno.test(`bias gradients, ${mode}: awkward shapes inside wider buffers`, async () => {
    for (const [rows, columns, gap, offset, dbiasOffset] of SHAPES) {
      const random = new Random(rows + columns);
      const at: HeadLayout = { rows, heads: 1, columns, headStride: 0, ld: columns + gap, offset };
      const dy = random.normal(rows * columns);
      if (mode === "poison") dy[(rows >> 1) * columns + (columns >> 1)] = NaN;
      const before = random.normal(dbiasOffset + columns + 3);
      using test = new OpTest<number>(gpu, target);
      const dbias = test.inout("dbias", before);
      biasBackward(test.recorder, {
        rows: (count) => count,
        columns,
        capacityRows: rows + 70,
        dbias,
        dbiasOffset,
        dy: matrix(test.input("dy", spread(dy, at)), at.ld, offset),
        accumulate: () => mode === "accumulate",
      });
      for (const count of [rows, rows - 1]) {
        await test.run(count);
        const expected = Float64Array.from(before);
        const bound = new Float64Array(before.length);
        for (let j = 0; j < columns; j++) {
          const start = mode === "accumulate" ? before[dbiasOffset + j] : 0;
          let [sum, size] = [start, Math.abs(start)];
          for (let row = 0; row < count; row++) {
            sum += dy[row * columns + j];
            size += Math.abs(dy[row * columns + j]) || 0;
          }
          expected[dbiasOffset + j] = sum;
          bound[dbiasOffset + j] = (1 + Math.sqrt(rows)) * U * size;
        }
        const name = `${rows}×${columns}, ${count} rows`;
        assertWithin(name, test.floats(dbias), expected, bound);
        if (mode === "poison" && count === rows) {
          const found = collect(test.floats(dbias), { ...at, rows: 1, offset: dbiasOffset });
          assertSomeNaN(name, found);
        }
      }
    }
  });
}

coverageTest(gpu, "bias", (check) => Deno.test("bias: the kernel ran on full slabs", check));
