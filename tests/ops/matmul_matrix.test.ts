import assert from "node:assert/strict";
import { GpuUnavailableError } from "../../engine/gpu/errors.ts";
import { gemm, type GemmLayout } from "../../engine/ops/matmul.ts";
import {
  largestMagnitude,
  matrixGemm,
  type MatrixTile,
  matrixVariant,
  SLABS,
} from "../../engine/ops/matmul_matrix.ts";
import { kernelSettings } from "../../engine/ops/target.ts";
import { narrow, widen } from "../../engine/tensor/dtype.ts";
import { matrix } from "../../engine/tensor/matrix.ts";
import { freshGpu, sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertSomeNaN, assertWithin, OpTest, U } from "./support.ts";

const plain = await sharedGpu();
const gpu = await freshGpu({ matrix: "f16" }).catch((error) => {
  if (!(error instanceof GpuUnavailableError)) throw error;
  console.log(`no test of products on matrix units: ${error.message}`);
});
const unit = gpu && kernelSettings(gpu).matrix;

/** A matrix in host memory. */
interface Host {
  data: Float32Array<ArrayBuffer>;
  ld: number;
  offset: number;
  largest: number;
}

interface Product {
  layout: GemmLayout;
  m: number;
  n: number;
  k: number;
  start?: "itself" | "other";
  pad?: number;
  bias?: boolean;
  bf16?: boolean;
  poison?: "a" | "b";
  /** Factors of A's and B's elements. */
  scale?: [number, number];
}

const BIAS_OFFSET = 3;

function host(random: Random, rows: number, columns: number, pad: number, scale: number): Host {
  const ld = columns + pad;
  const data = random.normal(pad + rows * ld).map((x) => x * scale);
  return { data, ld, offset: pad, largest: 0 };
}

function largestOf({ data, ld, offset }: Host, rows: number, columns: number): number {
  let largest = 0;
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const x = Math.abs(data[offset + i * ld + j]);
      if (Number.isFinite(x)) largest = Math.max(largest, x);
    }
  }
  return largest;
}

/**
 * The product in float64 with the bound of its error: rounding an operand to f16 costs 2^-11 of it, or where it is so small
 * that f16 has no normal number for it 2^-25 of f16's unit, which after scaling is at most 2^-39 of the largest element;
 * then k products are summed in f32, with at most 2U an addition (matrix units may truncate).
 */
function reference(p: Product, a: Host, b: Host, before: Float32Array, bias: Float32Array, c: Host) {
  const expected = Float64Array.from(c.data);
  const tolerance = new Float64Array(c.data.length);
  const H = 2 ** -11;
  for (let i = 0; i < p.m; i++) {
    for (let j = 0; j < p.n; j++) {
      const at = c.offset + i * c.ld + j;
      const added = (p.start ? before[at] : 0) + (p.bias ? bias[BIAS_OFFSET + j] : 0);
      let [sum, magnitude, rounded] = [0, 0, 0];
      for (let x = 0; x < p.k; x++) {
        const left = a.data[a.offset + (p.layout === "TN" ? x * a.ld + i : i * a.ld + x)];
        const right = b.data[b.offset + (p.layout === "NT" ? j * b.ld + x : x * b.ld + j)];
        sum += left * right;
        magnitude += Math.abs(left * right);
        const [l, r] = [Math.abs(left), Math.abs(right)];
        const [dl, dr] = [H * l + 2 ** -39 * a.largest, H * r + 2 ** -39 * b.largest];
        rounded += dl * r + dr * l + dl * dr;
      }
      expected[at] = sum + added;
      tolerance[at] = rounded + (p.k + 4) * 2 * U * (magnitude + rounded) + 4 * U * Math.abs(added);
    }
  }
  return { expected, tolerance };
}

function pairs(halves: Uint8Array): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(halves.byteLength / 4));
  new Uint8Array(words.buffer).set(halves);
  return words;
}

async function check(tile: MatrixTile, products: Product[]): Promise<void> {
  using test = new OpTest(gpu!, gpu!);
  const random = new Random(products.length);
  const cases = products.map((p, index) => {
    const { pad = 0, scale = [1, 1], start, layout, m, n, k } = p;
    const shapeA = layout === "TN" ? [k, m] as const : [m, k] as const;
    const shapeB = layout === "NT" ? [n, k] as const : [k, n] as const;
    const a = host(random, ...shapeA, pad, scale[0]);
    const b = host(random, ...shapeB, pad, scale[1]);
    const c = host(random, m, n, pad, scale[0] * scale[1]);
    const other = c.data.map((_, i) => Math.sin(i));
    const poisoned = p.poison && { a, b }[p.poison];
    if (poisoned) poisoned.data[poisoned.offset + poisoned.ld + 2] = NaN;
    const halves = narrow("BF16", b.data);
    if (p.bf16) widen("BF16", halves, b.data);
    [a.largest, b.largest] = [largestOf(a, ...shapeA), largestOf(b, ...shapeB)];
    // With a NaN in it a matrix is not scaled.
    if (poisoned) poisoned.largest = 2 ** 14;
    const bias = random.normal(BIAS_OFFSET + n);
    if (start !== "itself") c.data.fill(NaN);
    const slots = {
      a: test.input("a", a.data),
      b: p.bf16 ? test.input("b", pairs(halves)) : test.input("b", b.data),
      c: test.inout("c", c.data),
    };
    const product = {
      layout,
      m,
      n,
      k,
      capacityM: m,
      a: matrix(slots.a, a.ld, a.offset),
      b: { ...matrix(slots.b, b.ld, b.offset), bf16: p.bf16 },
      c: matrix(slots.c, c.ld, c.offset),
      start: start === "itself" ? () => true : start && test.input("start", other),
      bias: p.bias ? { slot: test.input("bias", bias), offset: BIAS_OFFSET } : undefined,
    };
    const before = start === "other" ? other : c.data;
    const name = `${tile} ${index}: ${JSON.stringify(p)}`;
    return { name, product, c: slots.c, poisoned, ...reference(p, a, b, before, bias, c) };
  });
  // Afterwards: a product gives scratch slots back, which must not become an input.
  for (const { product } of cases) matrixGemm(test.recorder, product, unit!, tile);
  await test.run();
  for (const { name, c, expected, tolerance, poisoned } of cases) {
    assertWithin(name, test.floats(c), expected, tolerance);
    if (poisoned) assertSomeNaN(name, test.floats(c));
  }
}

for (const tile of ["large", "small"] as const) {
  for (const layout of ["NT", "NN", "TN"] as const) {
    const matrixTest = (name: string, products: (m: number, n: number) => Product[]) =>
      Deno.test({
        name: `matrix gemm ${tile} ${layout}: ${name}`,
        ignore: !unit,
        fn: async () => {
          const [m, n] = matrixVariant(unit!, tile, { layout, vec: true }).outputs;
          await check(tile, products(m, n));
        },
      });

    matrixTest("full tiles, edges, windows, all starts, NaN", (m, n) => [
      { layout, m: m + 4, n: n + 4, k: 68 },
      { layout, m: 4, n: 12, k: 132, start: "itself", pad: 8 },
      { layout, m: 20, n: 4, k: 4, start: "other", pad: 4, poison: "a" },
      { layout, m: m + 1, n: n + 1, k: 37, start: "other", pad: 3 },
      { layout, m: 1, n: 7, k: 131, start: "itself", pad: 1 },
      { layout, m: 17, n: 5, k: 3, poison: "b" },
      { layout, m: 1, n: 1, k: 1 },
    ]);

    matrixTest("a bias, and weights in bf16", (m, n) => [
      { layout, m: m + 4, n: n + 4, k: 36, bias: true, bf16: layout !== "TN" },
      { layout, m: 20, n: 4, k: 4, start: "other", pad: 4, bias: true },
      { layout, m: 3, n: 5, k: 37, start: "itself", pad: 3, bias: true, bf16: layout !== "TN" },
    ]);

    matrixTest("operands beyond the range of f16, large and small", () => [
      { layout, m: 12, n: 20, k: 40, scale: [1e9, 1] },
      { layout, m: 12, n: 20, k: 40, scale: [1e-9, 1e9] },
      { layout, m: 12, n: 20, k: 40, scale: [1e-18, 1e-9] },
      { layout, m: 12, n: 20, k: 40, scale: [1e18, 1e18] },
      { layout, m: 12, n: 20, k: 40, scale: [0, 1] },
    ]);
  }
}

Deno.test({
  name: "gemm takes matrix units for large products where the target has them",
  ignore: !unit,
  fn: async () => {
    const [m, n, k] = [64, 64, 32];
    const random = new Random(5);
    const [x, w] = [random.normal(m * k), random.normal(n * k)];
    const run = async (target: typeof gpu) => {
      using test = new OpTest(gpu!, target!);
      const [a, b] = [matrix(test.input("a", x), k), matrix(test.input("b", w), k)];
      const c = test.output("c", m * n);
      gemm(test.recorder, { layout: "NT", a, b, c: matrix(c, n), m, n, k, capacityM: m });
      const kernels = test.recorder.variants.map(({ kernel }) => kernel.name);
      await test.run();
      return { kernels, c: test.floats(c) };
    };
    const [rounded, exact] = [await run(gpu!), await run(plain)];
    assert.deepEqual(rounded.kernels, ["largest_magnitude", "largest_magnitude", "gemm_subgroup_matrix"]);
    assert.equal(exact.kernels.length, 1);
    assert.notDeepEqual(rounded.c, exact.c);
  },
});

Deno.test("largest magnitude: windows, bf16, infinities and NaN", async () => {
  using test = new OpTest(plain, plain);
  const random = new Random(6);
  const cases = [
    { rows: 70, columns: 300, pad: 0 },
    { rows: 3, columns: 5, pad: 2, special: Infinity },
    { rows: 1, columns: 1, pad: 3 },
    { rows: 40, columns: 31, pad: 1, special: NaN },
    { rows: 0, columns: 31, pad: 1 },
  ].flatMap((shape) => [false, true].map((bf16) => ({ ...shape, bf16 }))).map((shape) => {
    const { rows, columns, pad, special, bf16 } = shape;
    const x = host(random, rows, columns, pad, 1);
    // Outside of the window: not to be seen.
    x.data.fill(1e6, 0, pad);
    if (special !== undefined) x.data[pad + (rows - 1) * x.ld + columns - 1] = special;
    const halves = narrow("BF16", x.data);
    if (bf16) widen("BF16", halves, x.data);
    const slot = bf16 ? test.input("x", pairs(halves)) : test.input("x", x.data);
    const maxima = test.output("maxima", SLABS);
    largestMagnitude(test.recorder, { slot, ld: x.ld, offset: pad, bf16 }, rows, columns, maxima);
    return { shape, x, maxima };
  });
  await test.run();
  for (const { shape, x, maxima } of cases) {
    const { rows, columns, special } = shape;
    const name = JSON.stringify(shape);
    const found = new Float32Array(
      new Uint32Array([test.words(maxima).reduce((a, b) => Math.max(a, b))]).buffer,
    );
    assert.equal(found[0], special ?? largestOf(x, rows, columns), name);
  }
});

coverageTest(
  gpu ? [plain, gpu] : [plain],
  "matmul_matrix",
  (check) => Deno.test("matrix gemm: every layout and load width ran on a full tile", check),
  ({ kernel }) => kernel === "largest_magnitude" || unit !== undefined,
);
