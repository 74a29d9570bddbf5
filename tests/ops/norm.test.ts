import { type Norm, normBackward, normForward } from "../../engine/ops/norm.ts";
import { maxAbs } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { float64 } from "../reference/linear_algebra.ts";
import * as reference from "../reference/norm.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertOnly, collect, dense, extent, type HeadLayout, spread, view } from "./head_layout.ts";
import { assertSomeNaN, assertWithin, OpTest, TARGETS, U } from "./support.ts";

const gpu = await sharedGpu();
const EPSILON = 1e-5;

/** [rows, heads, columns]: primes, a slab of vectors and a workgroup of 64 columns ± 1, one row, one column. */
const SHAPES = [
  ...[[1, 1, 1], [1, 1, 67], [7, 1, 64], [8, 1, 63], [9, 1, 65], [64, 1, 5], [65, 1, 64], [131, 1, 129]],
  ...[[3, 1, 1031], [1, 5, 7], [44, 3, 16], [13, 3, 65], [130, 9, 5], [70, 1, 260]],
];
const MODES = ["write", "accumulate", "poison x", "poison dy"] as const;
type Mode = (typeof MODES)[number];

for (const target of TARGETS) {
  for (const kind of ["rms", "layer"] as const) {
    Deno.test(`${kind} norm (${target.label}): forward and backward on awkward shapes and strides`, async () => {
      for (const [index, shape] of SHAPES.entries()) {
        for (const [m, mode] of MODES.entries()) {
          // Offsets, biases and residuals take turns, so that each meets each kind and mode.
          const turn = index + m;
          await check(target, {
            kind,
            shape,
            mode,
            offset: turn % 2,
            bias: turn % 3 > 0,
            residual: turn % 4 > 1,
            gap: (index + (m >> 1)) % 2 ? 4 : 1,
          });
        }
      }
      for (const [bias, residual] of [[false, false], [false, true], [true, false], [true, true]]) {
        await check(target, { kind, shape: [9, 1, 260], mode: "write", offset: 0, bias, residual, gap: 4 });
      }
    });
  }
}

interface Case {
  kind: "rms" | "layer";
  shape: number[];
  mode: Mode;
  offset: number;
  bias: boolean;
  residual: boolean;
  /** What offsets and distances between rows are multiples of, beside the columns. */
  gap: number;
}

/** Rows of heads that lie apart from each other, as q in rows of q, k, v of one head after the other. */
function apart(rows: number, heads: number, columns: number, gap: number): HeadLayout {
  const headStride = 3 * columns + gap;
  return { rows, heads, columns, headStride, ld: heads * headStride + gap, offset: 2 * gap };
}

async function check(target: (typeof TARGETS)[number], c: Case) {
  const { kind, shape: [rows, heads, columns], mode, offset } = c;
  const name = JSON.stringify(c);
  const accumulate = mode === "accumulate";
  const vectors = rows * heads;
  const random = new Random(vectors + columns);
  const x = random.normal(vectors * columns, 2, 0.5);
  const weight = random.normal(columns, 0.3, 1 - offset);
  const bias = random.normal(columns);
  const dy = random.normal(vectors * columns);
  const residual = random.normal(vectors * columns, 3);
  const [dxBefore, dwBefore, dbBefore] = [x.length, columns, columns].map((n) => random.normal(n));
  const poisoned = (vectors >> 1) * columns + (columns >> 1);
  if (mode === "poison x") x[poisoned] = NaN;
  if (mode === "poison dy") dy[poisoned] = NaN;

  using test = new OpTest(gpu, target);
  const [atX, atY, atDy, atDx] = heads > 1
    ? [1, 2, 3, 4].map((n) => apart(rows, heads, columns, n * c.gap))
    : [
      dense(rows, 1, columns),
      { ...dense(rows, 1, columns), ld: columns + 3 * c.gap, offset: 5 * c.gap },
      dense(rows, 1, columns),
      dense(rows, 1, columns),
    ];
  const start = (label: string, before: Float32Array<ArrayBuffer>) =>
    accumulate ? test.inout(label, before) : test.output(label, before.length);
  const norm: Norm<void> = { kind, offset, epsilon: EPSILON, rows, heads, columns };
  const perVector = kind === "layer" ? 2 : 1;
  const slots = {
    x: view(test.input("x", spread(x, atX)), atX),
    weight: test.input("weight", weight),
    stats: test.output("stats", vectors * perVector),
  };
  const y = test.output("y", extent(atY));
  normForward(test.recorder, norm, {
    ...slots,
    y: view(y, atY),
    ...(c.bias ? { bias: test.input("bias", bias) } : {}),
    ...(c.residual ? { residual: test.input("residual", spread(residual, atY)) } : {}),
  });
  const dx = start("dx", spread(dxBefore, atDx));
  const dweight = start("dweight", dwBefore);
  const dbias = start("dbias", dbBefore);
  normBackward(test.recorder, norm, {
    ...slots,
    dy: view(test.input("dy", spread(dy, atDy)), atDy),
    dx: view(dx, atDx),
    dweight,
    ...(c.bias ? { dbias } : {}),
  }, { addToInput: accumulate, accumulate: () => accumulate, capacityRows: rows + 70 });
  await test.run();

  const [x64, w64, dy64] = [float64(x), float64(weight), float64(dy)];
  const settings = { kind, epsilon: EPSILON, offset };
  const forward = reference.normForward(x64, w64, c.bias ? float64(bias) : undefined, settings);
  const backward = reference.normBackward(dy64, x64, w64, settings);
  const finite = (values: Float64Array) => maxAbs(values.filter((v) => !Number.isNaN(v)));
  const of = (i: number) => Math.floor(i / columns);
  const n = x64.map((v, i) => (v - forward.mean[of(i)]) * forward.rstd[of(i)]);
  // The mean of `columns` non-negative terms, then 1/√: some √columns roundings, halved by the root, and six more.
  const relative = (6 + Math.sqrt(columns)) * U;
  // A mean of terms of either sign is off by as many roundings of their size, and x − mean with it.
  const center = kind === "layer" ? (2 + Math.sqrt(columns)) * U * finite(x64) : 0;
  const nBound = n.map((v, i) => 2 * relative * Math.abs(v) + center * forward.rstd[of(i)] || 0);
  const r = finite(forward.rstd);
  const stats = test.floats(slots.stats);
  const part = (at: number) => forward.rstd.map((_, v) => stats[v * perVector + at]);
  const rstdBound = (2 * relative + 2 * center * r) * r + 1e-30;
  assertWithin(`${name} rstd`, part(perVector - 1), forward.rstd, rstdBound);
  if (kind === "layer") assertWithin(`${name} mean`, part(0), forward.mean, center + 1e-30);
  const yExpected = forward.y.map((v, i) => c.residual ? v + residual[i] : v);
  const yBound = nBound.map((bound, i) => {
    const w = Math.abs(offset + weight[i % columns]);
    const sums = Math.abs(n[i]) * w + Math.abs(bias[i % columns]) + Math.abs(yExpected[i]);
    return w * bound + 3 * U * sums + 1e-30 || 0;
  });
  assertWithin(`${name} y`, collect(test.floats(y), atY), yExpected, yBound);
  assertOnly(`${name} y`, test.floats(y), atY);

  // dx = r·(g − mean(g) − n·mean(g·n)), each part off as g, n and r are.
  const g = dy64.map((v, i) => Math.abs(v * (offset + weight[i % columns])));
  const mean = (term: (i: number) => number) => {
    const total = new Float64Array(vectors);
    for (let i = 0; i < x.length; i++) total[of(i)] += term(i) / columns;
    return total;
  };
  const [meanG, meanGN, meanGBound] = [
    mean((i) => g[i]),
    mean((i) => Math.abs(g[i] * n[i])),
    mean((i) => g[i] * nBound[i]),
  ];
  const before = (values: Float32Array, i: number) => accumulate ? values[i] : 0;
  const dxBound = n.map((v, i) => {
    const rstd = forward.rstd[of(i)];
    const parts = g[i] + (kind === "layer" ? meanG[of(i)] : 0) + Math.abs(v) * meanGN[of(i)];
    const off = nBound[i] * meanGN[of(i)] + Math.abs(v) * meanGBound[of(i)];
    return rstd * ((3 * relative + 2 * center * rstd) * parts + off) + 4 * U || 0;
  });
  const dxExpected = backward.dx.map((v, i) => v + before(dxBefore, i));
  assertWithin(`${name} dx`, collect(test.floats(dx), atDx), dxExpected, dxBound);
  assertOnly(`${name} dx`, test.floats(dx), atDx);
  // A column's sum over vectors, each term off as n is; the sums themselves round √vectors times.
  const sums = (term: (i: number) => number) => {
    const total = new Float64Array(columns);
    for (let i = 0; i < x.length; i++) total[i % columns] += term(i) || 0;
    return total;
  };
  const rounding = (4 + Math.sqrt(vectors)) * U;
  const magnitude = sums((i) => Math.abs(dy64[i]) * (rounding * Math.abs(n[i]) + nBound[i]));
  assertWithin(
    `${name} dweight`,
    test.floats(dweight),
    backward.dWeight.map((v, i) => v + before(dwBefore, i)),
    magnitude.map((v) => v + 4 * rounding),
  );
  if (c.bias) {
    assertWithin(
      `${name} dbias`,
      test.floats(dbias),
      backward.dBias.map((v, i) => v + before(dbBefore, i)),
      sums((i) => rounding * Math.abs(dy64[i])).map((v) => v + 4 * rounding),
    );
  }
  if (mode.startsWith("poison")) {
    assertSomeNaN(`${name} dx`, collect(test.floats(dx), atDx));
    assertSomeNaN(`${name} dweight`, test.floats(dweight));
    if (mode === "poison x") assertSomeNaN(`${name} y`, collect(test.floats(y), atY));
  }
}

Deno.test("layer norm: the variance of numbers far from zero is exact, since the mean goes first", async () => {
  const [rows, columns] = [9, 130];
  const x = new Random(4).normal(rows * columns, 1, 3000);
  const settings = { kind: "layer", offset: 0, epsilon: EPSILON } as const;
  for (const target of TARGETS) {
    using test = new OpTest(gpu, target);
    const weight = new Float32Array(columns).fill(1);
    const y = test.output("y", x.length);
    const at = dense(rows, 1, columns);
    normForward(test.recorder, { ...settings, rows, heads: 1, columns }, {
      x: view(test.input("x", x), at),
      weight: test.input("weight", weight),
      y: view(y, at),
      stats: test.output("stats", 2 * rows),
    });
    await test.run();
    // The mean is off by some roundings of 3,000, and y by no more than that.
    const expected = reference.normForward(float64(x), float64(weight), undefined, settings).y;
    assertWithin("y", test.floats(y), expected, (3 + Math.sqrt(columns)) * U * 3000 * 1.2);
  }
});

Deno.test("norm: a step with fewer rows than recorded, and with none, leaves the rest alone", async () => {
  for (const target of TARGETS) {
    using test = new OpTest<{ rows: number }>(gpu, target);
    const random = new Random(3);
    const [capacity, heads, columns] = [70, 2, 66];
    const at = dense(capacity, heads, columns);
    const x = random.normal(extent(at));
    const weight = random.normal(columns);
    const y = test.output("y", x.length);
    const settings = { kind: "rms", offset: 0, epsilon: EPSILON } as const;
    normForward(test.recorder, { ...settings, rows: (s) => s.rows, heads, columns }, {
      x: view(test.input("x", x), at),
      weight: test.input("weight", weight),
      y: view(y, at),
      stats: test.output("stats", capacity * heads),
    });
    for (const rows of [69, 9, 1, 0]) {
      await test.run({ rows });
      const expected = new Float64Array(x.length).fill(NaN);
      const part = float64(x.subarray(0, rows * heads * columns));
      expected.set(reference.normForward(part, float64(weight), undefined, settings).y);
      const tolerance = expected.map((v) => (6 + Math.sqrt(columns)) * U * Math.abs(v) + 1e-30);
      assertWithin(`${rows} rows`, test.floats(y), expected, tolerance);
    }
  }
});

coverageTest(gpu, "norm", (check) => Deno.test("norm: every kernel ran on a full tile", check));
