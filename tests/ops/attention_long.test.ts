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
import { assertWithin, OpTest, SUBGROUP_TARGETS, type TARGETS, U } from "./support.ts";

const gpu = await sharedGpu();
const [H, K, D] = [2, 1, 16];
const SCALE = 1 / Math.sqrt(D);

function data(seed: number, N: number) {
  const random = new Random(seed);
  return { q: random.normal(N * H * D), k: random.normal(N * K * D), v: random.normal(N * K * D) };
}

/** Records attention over one sequence of N tokens with a query row for each of `tokens`. */
function record(
  test: OpTest,
  target: (typeof TARGETS)[number],
  host: ReturnType<typeof data>,
  tokens: Uint32Array<ArrayBuffer>,
  window: number,
) {
  const N = host.k.length / (K * D);
  const R = tokens.length;
  const tiles = attentionTiles([0, N], [0, R], attentionTile(target), (row) => tokens[row]);
  const kv = new Float32Array(N * 2 * K * D);
  for (let n = 0; n < N; n++) {
    kv.set(host.k.subarray(n * K * D, (n + 1) * K * D), n * 2 * K * D);
    kv.set(host.v.subarray(n * K * D, (n + 1) * K * D), n * 2 * K * D + K * D);
  }
  const q = new Float32Array(R * H * D);
  tokens.forEach((n, row) => q.set(host.q.subarray(n * H * D, (n + 1) * H * D), row * H * D));
  const slotKv = test.input("kv", kv);
  const shape = {
    heads: H,
    kvHeads: K,
    headDim: D,
    scale: SCALE,
    window,
    cap: 0,
    rows: R,
    capacityRows: R,
    q: headMatrix(test.input("q", q), H * D, 0, D),
    k: headMatrix(slotKv, 2 * K * D, 0, D),
    v: headMatrix(slotKv, 2 * K * D, K * D, D),
    queryTokens: test.input("query tokens", tokens),
    tiles: test.input("tiles", tiles.queryTiles),
    tileCount: tiles.queryTiles.length / 4,
  };
  const slots = { out: test.output("out", R * H * D), lse: test.output("lse", R * H) };
  attentionForward(test.recorder, shape, slots);
  return { shape, slots, keyTiles: tiles.keyTiles };
}

for (const target of SUBGROUP_TARGETS) {
  Deno.test(`attention (${target.label}): 64 query rows of 4,096 tokens`, async () => {
    const N = 4096;
    const host = data(1, N);
    const tokens = Uint32Array.from({ length: 64 }, (_, i) => i < 32 ? i * 129 : N - 64 + i);
    using test = new OpTest(gpu, target);
    const { slots } = record(test, target, host, tokens, NO_WINDOW);
    await test.run();
    const [q, k, v] = [float64(host.q), float64(host.k), float64(host.v)];
    const out = new Float64Array(tokens.length * H * D);
    const lse = new Float64Array(tokens.length * H);
    let largest = 0;
    tokens.forEach((n, row) => {
      for (let h = 0; h < H; h++) {
        const found = reference.attentionRow(q, k, { offsets: [0, N], H, K, D }, n, h, 0);
        lse[row * H + h] = found.lse;
        found.probabilities.forEach((p, j) => {
          largest = Math.max(largest, Math.abs(Math.log(p) + found.lse));
          for (let d = 0; d < D; d++) out[(row * H + h) * D + d] += p * v[j * K * D + d];
        });
      }
    });
    // Scores are dot products of D terms; exp is off by its argument's error; the running sums round √N times.
    const probability = (2 * (3 + Math.sqrt(D)) + 4) * U * largest + 2 * Math.sqrt(N) * U;
    assertWithin("out", test.floats(slots.out), out, probability * maxAbs(v));
    assertWithin("lse", test.floats(slots.lse), lse, probability + U * maxAbs(lse));
  });

  for (const window of [NO_WINDOW, 200]) {
    Deno.test(`attention (${target.label}): backward over 600 tokens, window ${window}`, async () => {
      const N = 600;
      const host = data(2, N);
      const dout = new Random(3).normal(N * H * D);
      using test = new OpTest(gpu, target);
      const tokens = Uint32Array.from({ length: N }, (_, i) => i);
      const { shape, slots, keyTiles } = record(test, target, host, tokens, window);
      const dq = test.output("dq", N * H * D);
      const dkv = test.output("dkv", N * 2 * K * D);
      attentionBackward(test.recorder, shape, {
        ...slots,
        dout: test.input("dout", dout),
        delta: test.output("delta", N * H),
        keyTiles: test.input("key tiles", keyTiles),
      }, {
        dq: headMatrix(dq, H * D, 0, D),
        dk: headMatrix(dkv, 2 * K * D, 0, D),
        dv: headMatrix(dkv, 2 * K * D, K * D, D),
      }, keyTiles.length / 4);
      await test.run();
      const expected = reference.attentionBackward(
        ...[float64(dout), float64(host.q), float64(host.k), float64(host.v)] as const,
        { offsets: [0, N], H, K, D, window: window === NO_WINDOW ? null : window },
      );
      const packed = new Float64Array(N * 2 * K * D);
      for (let n = 0; n < N; n++) {
        packed.set(expected.dk.subarray(n * K * D, (n + 1) * K * D), n * 2 * K * D);
        packed.set(expected.dv.subarray(n * K * D, (n + 1) * K * D), n * 2 * K * D + K * D);
      }
      // Sums over at most 600 keys or 1,200 query rows, of terms with some 20 roundings (a score and its exponential,
      // dp − delta); the first keys collect the largest sums, so the bound goes with the result's own largest value.
      const relative = (20 + 2 * Math.sqrt(H * N)) * U;
      assertWithin("dq", test.floats(dq), expected.dq, relative * maxAbs(expected.dq));
      assertWithin("dkv", test.floats(dkv), packed, relative * maxAbs(packed));
    });
  }
}
