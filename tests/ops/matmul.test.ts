import assert from "node:assert/strict";
import type { KernelTarget } from "../../engine/gpu/recorder.ts";
import { GEMM_TABLE } from "../../engine/ops/gemm_table.ts";
import {
  chooseGemmTile,
  gemm,
  GEMM_TILES,
  gemmAdapterClass,
  type GemmLayout,
  type GemmTile,
  gemmTileRuns,
  tileByRules,
  type TileRule,
} from "../../engine/ops/matmul.ts";
import { narrow, widen } from "../../engine/tensor/dtype.ts";
import { matrix } from "../../engine/tensor/matrix.ts";
import { assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertSomeNaN, assertWithin, OpTest, U } from "./support.ts";

const gpu = await sharedGpu();
const LAYOUTS: GemmLayout[] = ["NT", "NN", "TN"];
const TILES = (Object.keys(GEMM_TILES) as GemmTile[]).filter((tile) => gemmTileRuns(gpu, tile));
const target: KernelTarget = { isSoftware: true };

/** A matrix in host memory, inside a larger array. */
interface Host {
  data: Float32Array<ArrayBuffer>;
  ld: number;
  offset: number;
}

interface Product {
  layout: GemmLayout;
  m: number;
  n: number;
  k: number;
  start: "nothing" | "itself" | "other";
  /** Extra columns and elements before the first: a window of a wider buffer. */
  pad: number;
  poison?: "a" | "b";
  /** B is stored as bf16; a bias is added. */
  bf16?: boolean;
  bias?: boolean;
}

/** A bias begins after this many elements of its buffer. */
const BIAS_OFFSET = 3;

function host(random: Random, rows: number, columns: number, pad: number): Host {
  const ld = columns + pad;
  return { data: random.normal(pad + rows * ld), ld, offset: pad };
}

/** The product in float64, and Σ|a·b| of each element for the error bound; elements outside C are left alone. */
function reference(p: Product, a: Host, b: Host, before: Float32Array, bias: Float32Array, c: Host) {
  const expected = Float64Array.from(c.data);
  const tolerance = new Float64Array(c.data.length);
  for (let i = 0; i < p.m; i++) {
    for (let j = 0; j < p.n; j++) {
      const at = c.offset + i * c.ld + j;
      const added = p.bias ? bias[BIAS_OFFSET + j] : 0;
      const start = p.start === "nothing" ? 0 : before[at];
      let sum = start + added;
      let magnitude = Math.abs(start) + Math.abs(added);
      for (let x = 0; x < p.k; x++) {
        const left = a.data[a.offset + (p.layout === "TN" ? x * a.ld + i : i * a.ld + x)];
        const right = b.data[b.offset + (p.layout === "NT" ? j * b.ld + x : x * b.ld + j)];
        sum += left * right;
        magnitude += Math.abs(left * right);
      }
      expected[at] = sum;
      // k roundings of partial sums: in the worst case k·U·Σ|ab|, of random sign some √k of them.
      tolerance[at] = (2 + 2 * Math.sqrt(p.k)) * U * magnitude;
    }
  }
  return { expected, tolerance };
}

/** bf16 numbers as whole words. */
function pairs(halves: Uint8Array): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(halves.byteLength / 4));
  new Uint8Array(words.buffer).set(halves);
  return words;
}

async function check(tile: GemmTile, products: Product[]): Promise<void> {
  using test = new OpTest(gpu, target);
  const random = new Random(products.length);
  const cases = products.map((p, index) => {
    const a = host(random, p.layout === "TN" ? p.k : p.m, p.layout === "TN" ? p.m : p.k, p.pad);
    const b = host(random, p.layout === "NT" ? p.n : p.k, p.layout === "NT" ? p.k : p.n, p.pad);
    const c = host(random, p.m, p.n, p.pad);
    const other = random.normal(c.data.length);
    const poisoned = p.poison && { a, b }[p.poison];
    if (poisoned) poisoned.data[poisoned.offset + poisoned.ld + 2] = NaN;
    const halves = narrow("BF16", b.data);
    if (p.bf16) widen("BF16", halves, b.data);
    const bias = random.normal(BIAS_OFFSET + p.n);
    if (p.start !== "itself") c.data.fill(NaN);
    const name = `${tile} ${index}: ${JSON.stringify(p)}`;
    const slots = {
      a: test.input("a", a.data),
      b: p.bf16 ? test.input("b", pairs(halves)) : test.input("b", b.data),
      c: test.inout("c", c.data),
    };
    const start = {
      nothing: undefined,
      itself: () => true,
      other: p.start === "other" ? test.input("start", other) : undefined,
    }[p.start];
    const sides = {
      a: matrix(slots.a, a.ld, a.offset),
      b: { ...matrix(slots.b, b.ld, b.offset), bf16: p.bf16 },
      c: matrix(slots.c, c.ld, c.offset),
    };
    const { layout, m, n, k } = p;
    const added = p.bias ? { slot: test.input("bias", bias), offset: BIAS_OFFSET } : undefined;
    gemm(test.recorder, { layout, ...sides, m, n, k, capacityM: m, start, bias: added }, tile);
    const before = p.start === "other" ? other : c.data;
    return { name, c: slots.c, poisoned, ...reference(p, a, b, before, bias, c) };
  });
  await test.run();
  for (const { name, c, expected, tolerance, poisoned } of cases) {
    assertWithin(name, test.floats(c), expected, tolerance);
    if (poisoned) assertSomeNaN(name, test.floats(c));
  }
}

for (const tile of TILES) {
  for (const layout of LAYOUTS) {
    const [m, n] = GEMM_TILES[tile].outputs;
    Deno.test(`gemm ${tile} ${layout}: full tiles, edges, one row, windows, all starts, NaN`, async () => {
      await check(tile, [
        // in vec4s
        { layout, m: m + 4, n: n + 4, k: 36, start: "nothing", pad: 0 },
        { layout, m: 4, n: 12, k: 68, start: "itself", pad: 8 },
        { layout, m: 20, n: 4, k: 4, start: "other", pad: 4, poison: "a" },
        { layout, m: 8, n: 20, k: 32, start: "nothing", pad: 0, poison: "b" },
        // in scalars, by the shape or by the window alone
        { layout, m: m + 1, n: n + 1, k: 37, start: "other", pad: 3 },
        { layout, m: 1, n: 7, k: 131, start: "itself", pad: 1 },
        { layout, m: 17, n: 5, k: 3, start: "nothing", pad: 0, poison: "a" },
        { layout, m: 3, n: 1, k: 5, start: "nothing", pad: 5, poison: "b" },
        { layout, m: 8, n: 8, k: 16, start: "itself", pad: 1 },
        { layout, m: 1, n: 1, k: 1, start: "nothing", pad: 0 },
      ]);
    });

    Deno.test(`gemm ${tile} ${layout}: a bias, and weights in bf16`, async () => {
      const bf16 = layout !== "TN";
      await check(tile, [
        { layout, m: m + 4, n: n + 4, k: 36, start: "nothing", pad: 0, bias: true, bf16 },
        { layout, m: 20, n: 4, k: 4, start: "other", pad: 4, bias: true },
        { layout, m: 8, n: 20, k: 32, start: "itself", pad: 0, poison: "b", bf16 },
        { layout, m: m + 1, n: n + 1, k: 37, start: "other", pad: 3, bias: true, bf16 },
        { layout, m: 3, n: 1, k: 5, start: "nothing", pad: 5, bias: true, bf16 },
        { layout, m: 1, n: 7, k: 131, start: "itself", pad: 1, poison: "b", bf16 },
      ]);
    });

    Deno.test(`gemm ${tile} ${layout}: splitting the sum over two calls changes no bit`, async () => {
      using test = new OpTest(gpu, target);
      const random = new Random(40);
      const [m, n, k] = [20, 12, 40];
      const a = host(random, layout === "TN" ? k : m, layout === "TN" ? m : k, 0);
      const b = host(random, layout === "NT" ? n : k, layout === "NT" ? k : n, 0);
      const [slotA, slotB] = [test.input("a", a.data), test.input("b", b.data)];
      const part = (c: ReturnType<typeof test.output>, first: number, count: number) =>
        gemm(test.recorder, {
          layout,
          a: matrix(slotA, a.ld, layout === "TN" ? first * a.ld : first),
          b: matrix(slotB, b.ld, layout === "NT" ? first : first * b.ld),
          c: matrix(c, n),
          m,
          n,
          k: count,
          capacityM: m,
          start: () => first > 0,
        }, tile);
      const whole = test.output("whole", m * n);
      part(whole, 0, k);
      const splits = [1, 4, 13, 16, 20, 39].map((at) => {
        const c = test.output("split", m * n);
        part(c, 0, at);
        part(c, at, k - at);
        return { at, c };
      });
      await test.run();
      for (const { at, c } of splits) assertSameBits(`split at ${at}`, test.floats(c), test.floats(whole));
    });
  }
}

Deno.test("gemm: all tiles give the same bits, so a tile may be chosen freely", async () => {
  for (const layout of LAYOUTS) {
    using test = new OpTest(gpu, target);
    const random = new Random(41);
    const [m, n, k] = [36, 68, 52];
    const a = matrix(test.input("a", random.normal(m * k)), layout === "TN" ? m : k);
    const b = matrix(test.input("b", random.normal(n * k)), layout === "NT" ? k : n);
    const outputs = TILES.map((tile) => {
      const c = test.output(tile, m * n);
      gemm(test.recorder, { layout, a, b, c: matrix(c, n), m, n, k, capacityM: m }, tile);
      return c;
    });
    await test.run();
    for (const c of outputs) {
      assertSameBits(`${layout} ${c.label}`, test.floats(c), test.floats(outputs[0]));
    }
  }
});

Deno.test("gemm: fewer rows than the capacity leave the rest alone, whatever was recorded", async () => {
  interface Sizes {
    rows: number;
    first: boolean;
  }
  for (const tile of TILES.filter((tile) => !["large", "medium"].includes(tile))) {
    using test = new OpTest<Sizes>(gpu, target);
    const random = new Random(42);
    const [capacity, n, k] = [40, 8, 12];
    const x = random.normal(capacity * k);
    const w = random.normal(n * k);
    const dy = random.normal(capacity * n);
    const [slotX, slotW, slotDy] = [test.input("x", x), test.input("w", w), test.input("dy", dy)];
    const y = test.output("y", capacity * n);
    const dw = test.inout("dw", new Float32Array(n * k).fill(1));
    const rows = (sizes: Sizes) => sizes.rows;
    gemm(test.recorder, {
      layout: "NT",
      a: matrix(slotX, k),
      b: matrix(slotW, k),
      c: matrix(y, n),
      m: rows,
      n,
      k,
      capacityM: capacity,
    }, tile);
    gemm(test.recorder, {
      layout: "TN",
      a: matrix(slotDy, n),
      b: matrix(slotX, k),
      c: matrix(dw, k),
      m: n,
      n: k,
      k: rows,
      capacityM: n,
      start: (sizes: Sizes) => !sizes.first,
    }, tile);
    for (const sizes of [{ rows: 17, first: true }, { rows: 5, first: false }, { rows: 0, first: true }]) {
      await test.run(sizes);
      const expected = new Float64Array(capacity * n).fill(NaN);
      for (let i = 0; i < sizes.rows; i++) {
        for (let j = 0; j < n; j++) {
          expected[i * n + j] = 0;
          for (let p = 0; p < k; p++) expected[i * n + j] += x[i * k + p] * w[j * k + p];
        }
      }
      // √k roundings of sums of k products of normal numbers, which stay below 20 here
      assertWithin("y", test.floats(y), expected, 20 * Math.sqrt(k) * U);
      const gradient = new Float64Array(n * k).fill(sizes.first ? 0 : 1);
      for (let r = 0; r < sizes.rows; r++) {
        for (let j = 0; j < n; j++) {
          for (let p = 0; p < k; p++) gradient[j * k + p] += dy[r * n + j] * x[r * k + p];
        }
      }
      assertWithin("dw", test.floats(dw), gradient, 20 * Math.sqrt(17) * U);
    }
  }
});

Deno.test("the tile is chosen by shape, layout, storage and adapter class, never by the step's own sizes", () => {
  const rules: TileRule[] = [
    { tile: "shuffleFew", maxRows: 16 },
    { tile: "medium", minWorkgroups: 6 },
    { tile: "small", maxRows: 100, minWorkgroups: 2 },
    { tile: "shuffle" },
  ];
  const by = (m: number, n: number) => tileByRules(rules, m, n);
  assert.deepEqual([by(1, 4096), by(16, 1), by(17, 64 * 6)], ["shuffleFew", "shuffleFew", "medium"]);
  assert.deepEqual([by(65, 129), by(65, 128), by(101, 64 * 2)], ["medium", "small", "shuffle"]);
  assert.deepEqual([by(32, 33), by(32, 32)], ["small", "shuffle"]);
  assert.throws(() => tileByRules(rules.slice(0, 3), 101, 1), { name: "RangeError" });
  // What GPUs take is unmeasured: the largest tile that still gives 200 workgroups.
  const hardware = (m: number, n: number) => chooseGemmTile({ isSoftware: false }, { layout: "NT" }, m, n);
  assert.equal(hardware(4096, 4096), "large");
  assert.equal(hardware(1024, 1024), "medium");
  assert.equal(hardware(16, 4096), "small");
});

Deno.test("every class of adapter has a tile that runs there for every layout, storage and shape", () => {
  const targets: KernelTarget[] = [{ isSoftware: false }, { isSoftware: true }, {
    isSoftware: true,
    hasSubgroups: true,
  }];
  assert.equal(new Set(targets.map(gemmAdapterClass)).size, Object.keys(GEMM_TABLE).length);
  const forms = [
    ...LAYOUTS.map((layout) => ({ layout })),
    ...(["NT", "NN"] as const).map((layout) => ({
      layout,
      bf16: true,
    })),
  ];
  for (const target of targets) {
    for (const form of forms) {
      for (const m of [1, 2, 8, 17, 64, 2176, 32768]) {
        for (const n of [1, 64, 384, 128256]) {
          assert.ok(gemmTileRuns(target, chooseGemmTile(target, form, m, n)));
        }
      }
    }
  }
});

coverageTest(
  gpu,
  "matmul",
  (check) => Deno.test("gemm: every tile, layout and load width ran on a full tile", check),
);
