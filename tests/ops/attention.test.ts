import assert from "node:assert/strict";
import type { Slot } from "../../engine/gpu/pool.ts";
import {
  attentionBackward,
  attentionForward,
  attentionTile,
  attentionTiles,
  NO_WINDOW,
} from "../../engine/ops/attention.ts";
import { headMatrix } from "../../engine/tensor/matrix.ts";
import { maxAbs } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import * as reference from "../reference/attention.ts";
import { float64 } from "../reference/linear_algebra.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertOnly, collect, extent, type HeadLayout, spread, view } from "./head_layout.ts";
import { assertSomeNaN, assertWithin, OpTest, SUBGROUP_TARGETS, TARGETS, U } from "./support.ts";

const gpu = await sharedGpu();

interface Case {
  lengths: number[];
  H: number;
  K: number;
  D: number;
  window?: number;
  /** Which tokens of sequence b, by their place in it, have query rows; all by default. */
  queries?: (b: number, position: number) => boolean;
  /** Soft cap of the scores. */
  cap?: number;
  /** One [N, (H + 2K)·D + pad] buffer holds q, k and v, and another their gradients. */
  packed?: number;
  /** q, k, v of one head after the other with a gap behind each; k, v of one head where H > K, q's heads apart. */
  apart?: number | undefined;
  poison?: "q" | "k" | "v" | "dout";
  /** Capacity of the recording in rows: many split the group's heads over dispatches on software adapters. */
  capacity?: number;
}

const CASES: Case[] = [
  { lengths: [5, 1, 9], H: 1, K: 1, D: 1 },
  { lengths: [1, 7, 8, 9, 31, 33, 2], H: 4, K: 2, D: 16, window: 3, packed: 8 },
  { lengths: [40, 1, 17], H: 6, K: 3, D: 6, window: 1, packed: 3 },
  { lengths: [33, 40], H: 3, K: 1, D: 36, packed: 0 },
  { lengths: [70, 5], H: 2, K: 2, D: 64, window: 100 },
  { lengths: [65, 3, 9, 33], H: 2, K: 1, D: 80, queries: (b, t) => b !== 2 && t % 3 === 0 },
  { lengths: [9, 70, 12, 1], H: 4, K: 2, D: 37, window: 20, queries: (b, t) => b !== 3 && t > 7, packed: 0 },
  { lengths: [18, 50], H: 3, K: 1, D: 128, queries: (b) => b === 1 },
  { lengths: [1], H: 2, K: 1, D: 4 },
  { lengths: [9, 21], H: 6, K: 1, D: 16, packed: 0, capacity: 30_000 },
  { lengths: [9, 5], H: 5, K: 1, D: 6, capacity: 60_000 },
  { lengths: [3, 21], H: 4, K: 2, D: 16, window: 4, packed: 0, poison: "q" },
  { lengths: [3, 21], H: 4, K: 2, D: 16, window: 4, packed: 0, poison: "k" },
  { lengths: [3, 21], H: 4, K: 2, D: 16, packed: 8, poison: "v" },
  { lengths: [3, 21], H: 2, K: 1, D: 6, packed: 1, poison: "dout" },
  { lengths: [33, 40], H: 3, K: 1, D: 36, packed: 0, cap: 1.5 },
  {
    lengths: [9, 70, 12, 1],
    H: 4,
    K: 2,
    D: 33,
    window: 20,
    cap: 0.8,
    apart: 3,
    queries: (b, t) => b !== 3 && t > 7,
  },
  { lengths: [5, 19, 1], H: 4, K: 4, D: 8, window: 7, packed: 0, apart: 4 },
  { lengths: [7, 2], H: 4, K: 4, D: 8, packed: 0, apart: 1 },
  { lengths: [8, 9], H: 3, K: 3, D: 5, packed: 2, apart: 0, cap: 0.3 },
  { lengths: [11, 26], H: 6, K: 2, D: 4, packed: 4, apart: 4, cap: 50, window: 9, capacity: 60_000 },
  { lengths: [3, 21], H: 2, K: 1, D: 6, packed: 0, cap: 2, poison: "q" },
  { lengths: [3, 21], H: 2, K: 1, D: 6, packed: 0, cap: 2, poison: "k" },
];

/** Where the heads of q, k and v lie; q apart from the others, for R rows, unless it is `together` with them. */
function layouts({ H, K, D, packed = 4, apart }: Case, N: number, R: number, together: boolean) {
  const kv = { rows: N, heads: K, columns: D };
  const q = { rows: R, heads: H, columns: D };
  if (apart === undefined) {
    const first = together ? H * D : 0;
    const ld = first + 2 * K * D + packed;
    const own = { headStride: D, ld };
    return {
      q: { ...q, ...own, ld: together ? ld : H * D, offset: 0 },
      k: { ...kv, ...own, offset: first },
      v: { ...kv, ...own, offset: first + K * D },
    };
  }
  if (together && H === K) {
    const own = { headStride: 3 * D + apart, ld: H * (3 * D + apart) + packed };
    return {
      q: { ...q, ...own, offset: 0 },
      k: { ...kv, ...own, offset: D },
      v: { ...kv, ...own, offset: 2 * D },
    };
  }
  const [qWidth, headStride] = [H * (D + apart), 2 * D + apart];
  const first = together ? qWidth : 0;
  const own = { headStride, ld: first + K * headStride + packed };
  return {
    q: { ...q, headStride: D + apart, ld: together ? own.ld : qWidth, offset: 0 },
    k: { ...kv, ...own, offset: first },
    v: { ...kv, ...own, offset: first + D },
  };
}

/** Rows `tokens` of x [N, width]. */
function pick(x: Float64Array, width: number, tokens: number[]): Float64Array {
  return Float64Array.from(
    { length: tokens.length * width },
    (_, i) => x[tokens[Math.floor(i / width)] * width + i % width],
  );
}

/**
 * Error bounds. Scores of normal q and k scaled by 1/√D are of the order of 1, and as dot products of D terms round some
 * √D/√D times; exp, the running sums over keys and those over the group's query rows (√ of their number) come on top:
 * of the largest result. What cancels to nothing (a sequence of one token has dq = dk = 0) is as exact as the dot
 * products it is the difference of.
 */
function bounds(c: Case, host: Record<"q" | "k" | "v" | "dout", Float64Array>) {
  const { D, H, K, lengths, cap = 0 } = c;
  const largest = (x: Float64Array) => maxAbs(x.filter((value) => !Number.isNaN(value)));
  // A capped score, at most 5, is off by some 3 roundings of itself (shaders/math.wgsl) before the exp.
  const capped = 3 * Math.min(cap, 5);
  const relative = (12 + capped + Math.sqrt(D) + 2 * Math.sqrt(Math.max(...lengths) * H / K)) * U;
  const difference = (3 + Math.sqrt(D)) * U * largest(host.dout) * largest(host.v) / Math.sqrt(D);
  return {
    of: (expected: Float64Array) => relative * largest(expected),
    score: (expected: Float64Array, other: Float64Array) =>
      relative * largest(expected) + difference * largest(other),
  };
}

for (const target of SUBGROUP_TARGETS) {
  CASES.forEach((c, index) => {
    const { queries, ...shown } = c;
    const name = `${JSON.stringify(shown)}${queries ? ", some query rows" : ""}`;
    Deno.test(`attention (${target.label}): ${name}`, () => check(target, c, index));
  });
}

async function check(target: (typeof TARGETS)[number], c: Case, seed: number): Promise<void> {
  const { H, K, D, window, cap = 0, packed, poison } = c;
  const offsets = [0];
  for (const length of c.lengths) offsets.push(offsets.at(-1)! + length);
  const N = offsets.at(-1)!;
  const rowOffsets = [0];
  const tokens: number[] = [];
  c.lengths.forEach((length, b) => {
    for (let t = 0; t < length; t++) if (c.queries?.(b, t) ?? true) tokens.push(offsets[b] + t);
    rowOffsets.push(tokens.length);
  });
  const R = tokens.length;
  const random = new Random(seed + 50);
  const data = {
    q: random.normal(N * H * D),
    k: random.normal(N * K * D),
    v: random.normal(N * K * D),
    dout: random.normal(N * H * D),
  };
  if (poison) {
    data[poison][data[poison].length - (D >> 1) - 3 * D * (poison[0] === "k" || poison === "v" ? K : H)] =
      NaN;
  }
  const q = float64(data.q);
  const k = float64(data.k);
  const v = float64(data.v);
  // Tokens without a query row have no output, so no gradient comes from them.
  const dout = float64(data.dout).map((x, i) => tokens.includes(Math.floor(i / (H * D))) ? x : 0);
  const shape = { offsets, H, K, D, window: window ?? null, cap };

  using test = new OpTest(gpu, target);
  const tiles = attentionTiles(offsets, rowOffsets, attentionTile(target), (row) => tokens[row]);
  const qRows = pick(q, H * D, tokens);
  // q beside k and v needs a query row for each token; else q has a buffer of its own.
  const together = packed !== undefined && R === N;
  const at = layouts(c, N, R, together);
  // The gradients lie elsewhere in their rows.
  const [wider, gap] = [(packed ?? 4) + 4, c.apart === undefined ? undefined : c.apart + 4];
  const dAt = layouts({ ...c, packed: wider, apart: gap }, N, R, together);
  const kv = spread(v, at.v, spread(k, at.k, together ? spread(qRows, at.q) : undefined));
  const slotKv = test.input("kv", kv);
  const slotQ = together ? slotKv : test.input("q", spread(qRows, at.q));
  const dkv = test.output("dkv", extent(dAt.k));
  const dq = together ? dkv : test.output("dq", extent(dAt.q));
  const attention = {
    heads: H,
    kvHeads: K,
    headDim: D,
    scale: 1 / Math.sqrt(D),
    window: window ?? NO_WINDOW,
    cap,
    q: view(slotQ, at.q),
    k: view(slotKv, at.k),
    v: view(slotKv, at.v),
    queryTokens: test.input("query tokens", Uint32Array.from(tokens)),
    rows: R,
    capacityRows: c.capacity ?? R,
    tiles: test.input("tiles", tiles.queryTiles),
    tileCount: tiles.queryTiles.length / 4,
  };
  const out = test.output("out", R * H * D);
  const lse = test.output("lse", R * H);
  const delta = test.output("delta", R * H);
  attentionForward(test.recorder, attention, { out, lse });
  attentionBackward(
    test.recorder,
    attention,
    {
      out,
      lse,
      delta,
      dout: test.input("dout", Float32Array.from(pick(dout, H * D, tokens))),
      keyTiles: test.input("key tiles", tiles.keyTiles),
    },
    { dq: view(dq, dAt.q), dk: view(dkv, dAt.k), dv: view(dkv, dAt.v) },
    tiles.keyTiles.length / 4,
  );
  await test.run();

  const bound = bounds(c, { q, k, v, dout });
  const forward = reference.attentionForward(q, k, v, shape);
  const backward = reference.attentionBackward(dout, q, k, v, shape);
  assertWithin("out", test.floats(out), pick(forward.o, H * D, tokens), bound.of(forward.o));
  assertWithin("lse", test.floats(lse), pick(forward.lse, H, tokens), bound.of(forward.lse));
  const found = (slot: Slot, layout: HeadLayout) => collect(test.floats(slot), layout);
  assertWithin("dq", found(dq, dAt.q), pick(backward.dq, H * D, tokens), bound.score(backward.dq, k));
  assertWithin("dk", found(dkv, dAt.k), backward.dk, bound.score(backward.dk, q));
  assertWithin("dv", found(dkv, dAt.v), backward.dv, bound.of(backward.dv));
  assertOnly("dkv", test.floats(dkv), dAt.k, dAt.v, ...(together ? [dAt.q] : []));
  if (!together) assertOnly("dq", test.floats(dq), dAt.q);
  if (poison && poison !== "dout") assertSomeNaN("out", test.floats(out));
  if (poison) assertSomeNaN("dq", found(dq, dAt.q));
}

Deno.test("attention rejects keys and values, or their gradients, that don't share buffer and strides", () => {
  using test = new OpTest(gpu, TARGETS[0]);
  const slot = () => test.output("x", 64);
  const [a, b, c] = [slot(), slot(), slot()].map((x) => headMatrix(x, 4, 0, 4));
  const shape = {
    heads: 1,
    kvHeads: 1,
    headDim: 4,
    scale: 1,
    window: NO_WINDOW,
    cap: 0,
    rows: 1,
    capacityRows: 1,
    tileCount: 1,
    q: a,
    k: b,
    v: b,
    queryTokens: slot(),
    tiles: slot(),
  };
  const slots = { out: slot(), lse: slot() };
  for (const v of [c, { ...b, ld: 8 }, { ...b, headStride: 8 }]) {
    assert.throws(
      () => attentionForward(test.recorder, { ...shape, v }, slots),
      /attention: keys and values must share buffer and strides, found "x" \(leading dimension 4, head/,
    );
  }
  const more = { ...slots, dout: slot(), delta: slot(), keyTiles: slot() };
  const gradients = { dq: a, dk: c, dv: { ...c, headStride: 8 } };
  assert.throws(() => attentionBackward(test.recorder, shape, more, gradients, 1), /dk and dv/);
});

Deno.test("attention tiles stay inside their sequences, and key tiles begin with the first row that sees them", () => {
  const tokens = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12];
  const { queryTiles, keyTiles } = attentionTiles([0, 9, 10, 13], [0, 9, 9, 10], 8, (row) => tokens[row]);
  assert.deepEqual([...queryTiles], [0, 8, 0, 0, 8, 1, 0, 0, 9, 1, 10, 0]);
  assert.deepEqual([...keyTiles], [0, 8, 0, 9, 8, 1, 8, 9, 9, 1, 9, 9, 10, 3, 9, 10]);
});

coverageTest(gpu, "attention", (check) => Deno.test("attention: every kernel ran on full tiles", check));
