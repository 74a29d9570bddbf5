import { rmsNormBackward, rmsNormForward } from "../../engine/ops/norm.ts";
import { maxAbs } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { float64 } from "../reference/linear_algebra.ts";
import * as reference from "../reference/rmsnorm.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertSomeNaN, assertWithin, OpTest, TARGETS, U } from "./support.ts";

const gpu = await sharedGpu();
const EPSILON = 1e-5;

/** [rows, columns]: primes, a slab of 64 rows and a workgroup of 64 columns ± 1, one row, one column. */
const SHAPES = [[1, 1], [1, 67], [7, 64], [8, 63], [9, 65], [64, 5], [65, 64], [131, 129], [3, 1031]];

for (const target of TARGETS) {
  Deno.test(`rms norm (${target.label}): forward and backward, written and accumulated, on awkward shapes`, async () => {
    for (const [rows, columns] of SHAPES) {
      for (const mode of ["write", "accumulate", "poison x", "poison dy"]) {
        await check(target, rows, columns, mode);
      }
    }
  });
}

async function check(target: (typeof TARGETS)[number], rows: number, columns: number, mode: string) {
  const name = `${rows}×${columns} ${mode}`;
  const accumulate = mode === "accumulate";
  const random = new Random(rows + columns);
  const x = random.normal(rows * columns, 2, 0.5);
  const weight = random.normal(columns, 0.3, 1);
  const dy = random.normal(rows * columns);
  const [dxBefore, dwBefore] = [random.normal(rows * columns), random.normal(columns)];
  if (mode === "poison x") x[(rows >> 1) * columns + (columns >> 1)] = NaN;
  if (mode === "poison dy") dy[(rows >> 1) * columns + (columns >> 1)] = NaN;

  using test = new OpTest(gpu, target);
  const inputs = {
    x: test.input("x", x),
    weight: test.input("weight", weight),
    dy: test.input("dy", dy),
  };
  const y = test.output("y", rows * columns);
  const rstd = test.output("rstd", rows);
  const start = (label: string, before: Float32Array<ArrayBuffer>) =>
    accumulate ? test.inout(label, before) : test.output(label, before.length);
  const dx = start("dx", dxBefore);
  const dweight = start("dweight", dwBefore);
  const { x: slotX, weight: slotWeight } = inputs;
  rmsNormForward(test.recorder, { rows, columns, epsilon: EPSILON }, {
    ...{ x: slotX, weight: slotWeight, y, rstd },
  });
  rmsNormBackward(test.recorder, { rows, columns }, { ...inputs, rstd, dx, dweight }, {
    addToInput: accumulate,
    accumulate: () => accumulate,
    capacityRows: rows + 70,
  });
  await test.run();

  const [x64, w64, dy64] = [float64(x), float64(weight), float64(dy)];
  const forward = reference.rmsnormForward(x64, w64, EPSILON);
  const backward = reference.rmsnormBackward(dy64, x64, w64, EPSILON);
  // The mean of `columns` non-negative terms, then 1/√: some √columns roundings, halved by the root, and six more.
  const relative = (6 + Math.sqrt(columns)) * U;
  const scaled = (values: Float64Array) => values.map((v) => relative * Math.abs(v) + 1e-30);
  assertWithin(`${name} y`, test.floats(y), forward.y, scaled(forward.y));
  assertWithin(`${name} rstd`, test.floats(rstd), forward.inverseRms, scaled(forward.inverseRms));
  // dx = r·(g − x̂·mean(g·x̂)): each part is at most r·max|g|·max|x̂|².
  const finite = (values: Float64Array) => maxAbs(values.filter((v) => !Number.isNaN(v)));
  const g = finite(dy64) * finite(w64);
  const unit = finite(x64.map((v, i) => v * forward.inverseRms[Math.floor(i / columns)]));
  const r = finite(forward.inverseRms);
  const before = (values: Float32Array, i: number) => accumulate ? values[i] : 0;
  const dxExpected = backward.dx.map((v, i) => v + before(dxBefore, i));
  assertWithin(`${name} dx`, test.floats(dx), dxExpected, 2 * relative * r * g * (1 + unit ** 2) + 4 * U);
  // A column's sum over rows, each term off by `relative`; the sums themselves round √rows times.
  const dwExpected = backward.dWeight.map((v, i) => v + before(dwBefore, i));
  const magnitude = Float64Array.from({ length: columns }, (_, c) => {
    let sum = 4;
    for (let row = 0; row < rows; row++) {
      const i = row * columns + c;
      sum += Math.abs(dy64[i] * x64[i] * forward.inverseRms[row]) || 0;
    }
    return (relative + (4 + Math.sqrt(rows)) * U) * sum;
  });
  assertWithin(`${name} dweight`, test.floats(dweight), dwExpected, magnitude);
  if (mode.startsWith("poison")) {
    assertSomeNaN(`${name} dx`, test.floats(dx));
    assertSomeNaN(`${name} dweight`, test.floats(dweight));
    if (mode === "poison x") assertSomeNaN(`${name} y`, test.floats(y));
  }
}

Deno.test("rms norm: a step with fewer rows than recorded, and with none, leaves the rest alone", async () => {
  for (const target of TARGETS) {
    using test = new OpTest<{ rows: number }>(gpu, target);
    const random = new Random(3);
    const [capacity, columns] = [70, 66];
    const x = random.normal(capacity * columns);
    const weight = random.normal(columns);
    const slots = {
      x: test.input("x", x),
      weight: test.input("weight", weight),
      y: test.output("y", x.length),
      rstd: test.output("rstd", capacity),
    };
    rmsNormForward(test.recorder, { rows: (s) => s.rows, columns, epsilon: EPSILON }, slots);
    for (const rows of [69, 9, 1, 0]) {
      await test.run({ rows });
      const expected = new Float64Array(x.length).fill(NaN);
      const part = float64(x.subarray(0, rows * columns));
      expected.set(reference.rmsnormForward(part, float64(weight), EPSILON).y);
      const tolerance = expected.map((v) => (6 + Math.sqrt(columns)) * U * Math.abs(v) + 1e-30);
      assertWithin(`${rows} rows`, test.floats(slots.y), expected, tolerance);
    }
  }
});

coverageTest("norm", (check) => Deno.test("rms norm: every kernel ran on a full tile", check));
