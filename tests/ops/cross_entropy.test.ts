import assert from "node:assert/strict";
import { argmax, NAN_TOKEN } from "../../engine/ops/argmax.ts";
import {
  crossEntropyGradient,
  crossEntropyStats,
  encodeRowTargets,
  type RowTarget,
} from "../../engine/ops/cross_entropy.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import * as reference from "../reference/cross_entropy.ts";
import { float64 } from "../reference/linear_algebra.ts";
import { softCap } from "../reference/soft_cap.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertSomeNaN, assertWithin, OpTest, TARGETS, U } from "./support.ts";

const gpu = await sharedGpu();

type Wanted = reference.TargetRow["target"];

/** Chunk widths that add up to the vocabulary: one chunk, several, one token alone, a workgroup ± 1. */
const CHUNKINGS = [[1], [2], [67], [64, 64, 3], [65, 1, 63], [13, 11, 17, 5], [400], [256, 68], [1, 260]];

/** Kinds of targets that a batch has: labels alone, with whole or bucketed distributions, or everything. */
const MIXES = [[0], [0, 1, 3], [0, 2], [0, 1, 2, 3]];

/** Rows of logits of every temper, and for each a target, of the kinds in `mix` in turn. */
function rowsFor(random: Random, V: number, rows: number, mix = MIXES[3]) {
  const logits = new Float32Array(rows * V);
  const wanted: { weight: number; target: Wanted }[] = [];
  for (let r = 0; r < rows; r++) {
    const row = random.normal(V, [1, 5, 0.01][r % 3]);
    // nearly one-hot, and far from zero
    if (r % 5 === 1) row[random.nextInteger(0, V)] += 80;
    if (r % 5 === 2) { for (let j = 0; j < V; j++) row[j] += r % 2 ? 80 : -80; }
    if (r % 7 === 6) { for (let j = 0; j < V; j++) row[j] = j % 2 ? 80 : -80; }
    logits.set(row, r * V);
    const distribution = random.distribution(V, 2);
    const top = reference.bucket(distribution, Math.min(V - 1, 5));
    const kinds: Wanted[] = [
      { label: random.nextInteger(0, V) },
      { probabilities: Float32Array.from(distribution) },
      { ids: top.ids, probabilities: Float32Array.from(top.probabilities), rest: Math.fround(top.rest) },
      { probabilities: distribution.map((_, j) => Number(j === V - 1)) },
    ];
    wanted.push({
      weight: Math.fround(0.1 + random.next()),
      target: kinds[mix[(r + (r >> 2)) % mix.length]],
    });
  }
  return { logits, wanted };
}

/** Tables and targets as the kernels read them. */
function encode(wanted: { weight: number; target: Wanted }[]) {
  const ids: number[] = [];
  const probabilities: number[] = [];
  const rows = wanted.map(({ weight, target }): { weight: number; target: RowTarget } => {
    if ("label" in target) return { weight, target: { kind: "label", token: target.label } };
    if (!("ids" in target)) {
      const gap = -probabilities.length & 3;
      probabilities.push(...Array(gap).fill(NaN));
      ids.push(...Array(gap).fill(0));
    }
    const begin = probabilities.length;
    if (!("ids" in target)) {
      probabilities.push(...Array.from(target.probabilities));
      ids.push(...Array.from(target.probabilities, () => 0));
      return { weight, target: { kind: "dense", begin } };
    }
    const order = Array.from(target.ids, (id, i) => ({ id, p: target.probabilities[i] })).sort((a, b) =>
      a.id - b.id
    );
    ids.push(...order.map(({ id }) => id));
    probabilities.push(...order.map(({ p }) => p));
    return { weight, target: { kind: "top", begin, count: order.length, rest: target.rest } };
  });
  return {
    kinds: [...new Set(rows.map(({ target }) => target.kind))].filter((kind) => kind !== "label"),
    targets: encodeRowTargets(rows),
    ids: Uint32Array.from(ids.length ? ids : [0]),
    probabilities: Float32Array.from(probabilities.length ? probabilities : [0]),
  };
}

async function check(
  target: (typeof TARGETS)[number],
  widths: number[],
  logits: Float32Array<ArrayBuffer>,
  wanted: { weight: number; target: Wanted }[],
  name: string,
  cap = 0,
): Promise<{ gradient: Float64Array; loss: Float32Array }> {
  const V = widths.reduce((sum, width) => sum + width, 0);
  const R = wanted.length;
  const tables = encode(wanted);
  using test = new OpTest(gpu, target);
  const common = {
    targets: test.input("targets", tables.targets),
    softIds: test.input("soft ids", tables.ids),
    softProbs: test.input("soft probs", tables.probabilities),
    softKinds: tables.kinds,
    stats: test.output("stats", R * 4),
    cap,
  };
  const rowLoss = test.output("row loss", R);
  let firstColumn = 0;
  const chunks = widths.map((columns) => {
    const part = new Float32Array(R * columns);
    for (let r = 0; r < R; r++) {
      part.set(logits.subarray(r * V + firstColumn, r * V + firstColumn + columns), r * columns);
    }
    const chunk = { ...common, rows: R, columns, firstColumn, logits: test.inout("logits", part) };
    firstColumn += columns;
    return chunk;
  });
  for (const chunk of chunks) crossEntropyStats(test.recorder, chunk);
  for (const chunk of chunks) crossEntropyGradient(test.recorder, { ...chunk, rowLoss });
  await test.run();

  const gradient = new Float64Array(R * V);
  for (const { logits: slot, columns, firstColumn } of chunks) {
    const part = test.floats(slot);
    for (let r = 0; r < R; r++) {
      gradient.set(part.subarray(r * columns, (r + 1) * columns), r * V + firstColumn);
    }
  }
  const expected = reference.crossEntropy(
    float64(logits),
    V,
    wanted.map((row, index) => ({ ...row, index })),
  );
  // The logits are cap·tanh(l / cap): what is expected is the gradient of l.
  const slope = (at: number) => cap > 0 ? 1 - (logits[at] / cap) ** 2 : 1;
  const gradientBound = new Float64Array(R * V);
  const lossBound = new Float64Array(R);
  for (let r = 0; r < R; r++) {
    const logP = reference.logSoftmax(float64(logits.subarray(r * V, (r + 1) * V)));
    const range = logP.reduce((most, x) => Math.max(most, Math.abs(x) || 0), 0);
    // log p = z − max − log Σ is a sum of numbers up to `range`, Σ has about √V roundings, and the exponential of a
    // number up to `range` is off by `range`·U relatively.
    const delta = (8 + 3 * range + Math.sqrt(V)) * U;
    const { weight } = wanted[r];
    for (let j = 0; j < V; j++) {
      const p = Math.exp(logP[j]);
      // gradient = p − q·(p / p_outcome): both parts are off by `delta`; numbers below 2^-126 may be flushed to zero.
      // The slope's square is rounded three times, of a number up to 1.
      const size = weight * (p + Math.abs(p - expected.dLogits[r * V + j] / weight));
      gradientBound[r * V + j] = size * (delta * slope(r * V + j) + (cap > 0 ? 4 * U : 0)) + 1e-37;
    }
    // The terms of a distribution are summed one by one.
    lossBound[r] = 2 * delta + Math.sqrt(V) * U * expected.rowLosses[r];
  }
  const finite = (bound: Float64Array) => bound.map((b) => Number.isNaN(b) ? 0 : b);
  const dLogits = expected.dLogits.map((d, at) => d * slope(at));
  assertWithin(`${name} gradient`, gradient, dLogits, finite(gradientBound));
  assertWithin(`${name} loss`, test.floats(rowLoss), expected.rowLosses, finite(lossBound));
  return { gradient, loss: test.floats(rowLoss) };
}

for (const target of TARGETS) {
  Deno.test(`cross-entropy (${target.label}): labels, distributions and top-k mixed, in one and several chunks`, async () => {
    const random = new Random(31);
    for (const widths of CHUNKINGS) {
      for (const [i, rows] of [1, 8, 29, 30, 31, 32].entries()) {
        const V = widths.reduce((sum, width) => sum + width, 0);
        const { logits, wanted } = rowsFor(random, V, rows, MIXES[Math.max(0, 5 - i) % 4]);
        await check(target, widths, logits, wanted, `${widths} × ${rows}`);
      }
    }
  });

  Deno.test(`cross-entropy (${target.label}): capped logits give the gradient of what was capped`, async () => {
    const random = new Random(34);
    for (const widths of [[67], [64, 3, 65], [256, 68]]) {
      const V = widths.reduce((sum, width) => sum + width, 0);
      for (const cap of [30, 2]) {
        for (const mix of MIXES) {
          const { logits, wanted } = rowsFor(random, V, 29, mix);
          logits[9 * V + 1] = NaN;
          const capped = Float32Array.from(softCap(float64(logits), cap));
          const { gradient } = await check(
            target,
            widths,
            capped,
            wanted,
            `cap ${cap}, ${widths}, ${mix}`,
            cap,
          );
          assertSomeNaN("gradient", gradient);
        }
      }
    }
  });

  Deno.test(`cross-entropy (${target.label}): a NaN logit makes its row's loss and gradient NaN, no other's`, async () => {
    const random = new Random(32);
    for (const [row, column] of [[0, 0], [3, 66], [8, 130]]) {
      const { logits, wanted } = rowsFor(random, 131, 9);
      logits[row * 131 + column] = NaN;
      const { gradient, loss } = await check(target, [64, 64, 3], logits, wanted, `NaN at ${row}, ${column}`);
      assertSomeNaN("gradient", gradient);
      assertSomeNaN("loss", loss);
    }
  });

  Deno.test(`cross-entropy (${target.label}): the rest may be e^-160 as likely as the listed tokens`, async () => {
    for (const widths of [[70], [3, 64, 3]]) {
      const logits = new Float32Array(2 * 70).fill(-80);
      logits.fill(80, 2, 5);
      logits.fill(-79, 70 + 40, 70 + 50);
      logits.fill(80, 70 + 69, 70 + 70);
      const listed = [{ ids: [2, 3, 4], p: [0.5, 0.25, 0.125] }, { ids: [69, 7], p: [0.75, 0.125] }];
      const wanted = listed.map(({ ids, p }) => ({
        weight: 1,
        target: { ids, probabilities: p, rest: 0.125 },
      }));
      await check(target, widths, logits, wanted, `far rest ${widths}`);
    }
  });

  Deno.test(`argmax (${target.label}): the lowest of equal tokens, across lanes and chunks; NaN is reported`, async () => {
    const random = new Random(33);
    for (const widths of CHUNKINGS) {
      const V = widths.reduce((sum, width) => sum + width, 0);
      for (const rows of [1, 9]) {
        // few distinct values, so that ties are everywhere; a third of the rows is negative
        const logits = new Float32Array(rows * V).map((_, i) =>
          random.nextInteger(0, 4) - (Math.floor(i / V) % 3 ? 0 : 9)
        );
        if (rows > 1) logits[4 * V + (V >> 1)] = NaN;
        if (rows > 1) logits.fill(-0, 5 * V, 6 * V)[6 * V - 1] = 0;
        if (rows > 1) logits.fill(-3e38, 7 * V, 8 * V);
        using test = new OpTest(gpu, target);
        const best = test.output("best", rows * 2);
        let firstColumn = 0;
        for (const columns of widths) {
          const first = firstColumn;
          const part = Float32Array.from(
            { length: rows * columns },
            (_, i) => logits[Math.floor(i / columns) * V + first + i % columns],
          );
          argmax(test.recorder, { rows, columns, firstColumn, logits: test.input("logits", part), best });
          firstColumn += columns;
        }
        await test.run();
        const found = test.words(best);
        for (let r = 0; r < rows; r++) {
          const row = logits.subarray(r * V, (r + 1) * V);
          const isNaN = row.some(Number.isNaN);
          const expected = isNaN ? NAN_TOKEN : row.reduce((at, value, j) => value > row[at] ? j : at, 0);
          assert.equal(found[2 * r + 1], expected, `${widths}, row ${r}`);
          if (!isNaN) assert.equal(test.floats(best)[2 * r], row[expected]);
        }
      }
    }
  });
}

Deno.test("cross-entropy: a distribution that doesn't begin at a multiple of 4 is refused", () => {
  const row = (begin: number) => ({ weight: 1, target: { kind: "dense", begin } as const });
  assert.throws(() => encodeRowTargets([row(4), row(6)]), {
    name: "RangeError",
    message: "row 1: a distribution begins at 6, expected a multiple of 4",
  });
});

coverageTest(
  gpu,
  "cross_entropy",
  (check) => Deno.test("cross-entropy: every kernel ran on a full tile", check),
);
