/** Ops on a device that allows three workgroups a dimension, so that small grids fold into two dimensions. */
import assert from "node:assert/strict";
import type { Gpu } from "../../engine/gpu/context.ts";
import type { Slot } from "../../engine/gpu/pool.ts";
import { activationForward } from "../../engine/ops/activation.ts";
import { argmax } from "../../engine/ops/argmax.ts";
import { attentionForward, attentionTile, attentionTiles, NO_WINDOW } from "../../engine/ops/attention.ts";
import { embeddingBackward, tokenBuckets } from "../../engine/ops/embedding.ts";
import { globalNorm } from "../../engine/ops/global_norm.ts";
import { type Norm, normBackward, normForward } from "../../engine/ops/norm.ts";
import { headMatrix } from "../../engine/tensor/matrix.ts";
import { assertSameBits } from "../compare.ts";
import { freshGpu, sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { OpTest, TARGETS } from "./support.ts";

const gpu = await sharedGpu();
const few = await freshGpu({ limits: { maxComputeWorkgroupsPerDimension: 3 } });

const RMS = { kind: "rms", offset: 0, epsilon: 1e-5, heads: 1 } satisfies Partial<Norm<void>>;

type Record = (test: OpTest, random: Random, isSoftware: boolean) => Slot[];

const OPS: { [name: string]: Record } = {
  normForward: (test, random, isSoftware) => {
    const [rows, columns] = [isSoftware ? 55 : 7, 5];
    const out = { y: test.output("y", rows * columns), stats: test.output("stats", rows) };
    const x = headMatrix(test.input("x", random.normal(rows * columns)), columns);
    const weight = test.input("weight", random.normal(columns));
    const slots = { x, weight, stats: out.stats, y: headMatrix(out.y, columns) };
    normForward(test.recorder, { ...RMS, rows, columns }, slots);
    return Object.values(out);
  },
  activationForward: (test, random) => {
    const y = test.output("y", 7 * 62);
    const x = test.input("x", random.normal(7 * 124));
    activationForward(test.recorder, 7, 62, { kind: "silu", gated: true }, { x, y });
    return [y];
  },
  embeddingBackward: (test, random) => {
    const { buckets, order } = tokenBuckets([0, 1, 2, 1]);
    const dtable = test.inout("dtable", random.normal(4 * 70));
    embeddingBackward(test.recorder, 3, 70, {
      buckets: test.input("buckets", buckets),
      order: test.input("order", order),
      dx: test.input("dx", random.normal(4 * 70)),
      dtable: [{ firstRow: 0, rows: 4, gradient: dtable }],
    });
    return [dtable];
  },
  argmax: (test, random, isSoftware) => {
    const rows = isSoftware ? 57 : 8;
    const best = test.output("best", rows * 2);
    const logits = test.input("logits", random.normal(rows * 9));
    argmax(test.recorder, { rows, columns: 9, firstColumn: 0, logits, best });
    return [best];
  },
  globalNorm: (test, random, isSoftware) => {
    const count = 4096 * (isSoftware ? 8 * 3 + 3 : 4) + 5;
    const result = test.output("result", 2);
    const gradient = { slot: test.input("g", random.normal(count)), count, tensorCount: count, slab: 4096 };
    globalNorm(test.recorder, [gradient], 1, result);
    return [result];
  },
  attentionForward: (test, random, isSoftware) => {
    const [offsets, D] = [[0, 5, 9, 14, 15], 36];
    const N = 15;
    const tiles = attentionTiles(offsets, offsets, attentionTile({ isSoftware }), (row) => row);
    const qkv = test.input("qkv", random.normal(N * 3 * D));
    const slots = { out: test.output("out", N * D), lse: test.output("lse", N) };
    attentionForward(test.recorder, {
      heads: 1,
      kvHeads: 1,
      headDim: D,
      scale: 0.2,
      window: NO_WINDOW,
      cap: 0,
      rows: N,
      capacityRows: N,
      q: headMatrix(qkv, 3 * D),
      k: headMatrix(qkv, 3 * D, D),
      v: headMatrix(qkv, 3 * D, 2 * D),
      queryTokens: test.input("tokens", Uint32Array.from({ length: N }, (_, i) => i)),
      tiles: test.input("tiles", tiles.queryTiles),
      tileCount: tiles.queryTiles.length / 4,
    }, slots);
    return Object.values(slots);
  },
};

for (const target of TARGETS) {
  for (const [name, record] of Object.entries(OPS)) {
    Deno.test(`${name} (${target.label}) gives the same bits when its grid is folded`, async () => {
      const run = async (device: Gpu) => {
        using test = new OpTest(device, target);
        const outputs = record(test, new Random(9), target.isSoftware);
        await test.run();
        return outputs.map((slot) => test.floats(slot));
      };
      const [plain, folded] = [await run(gpu), await run(few)];
      plain.forEach((values, i) => assertSameBits(`${name} ${i}`, folded[i], values));
      assert.ok(plain.flatMap((values) => [...values]).length > 0);
    });
  }
}

Deno.test("a grid with dimensions of its own is refused where it would not fit", async () => {
  using test = new OpTest(few, TARGETS[0]);
  const columns = 193;
  const slot = (name: string) => test.output(name, columns);
  const vectors = (name: string) => headMatrix(slot(name), columns);
  normBackward(test.recorder, { ...RMS, rows: 1, columns }, {
    x: vectors("x"),
    dy: vectors("dy"),
    dx: vectors("dx"),
    weight: slot("weight"),
    stats: slot("stats"),
    dweight: slot("dweight"),
  }, { addToInput: false, accumulate: () => false, capacityRows: 1 });
  await assert.rejects(test.run(), { name: "RangeError", message: /^4 workgroups in one dimension/ });
});
