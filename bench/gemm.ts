/** Matrix products by shape and tile, in GFLOP/s and as a share of what the adapter multiplies and adds at best. */
import { chooseGemmTile, GEMM_TILES, type GemmTile, gemmTileRuns } from "../engine/ops/matmul.ts";
import { openGpu } from "../pipeline/gpu/open.ts";
import type { Benchmark, BenchOptions, BenchResult } from "./benchmark.ts";
import { type CountedShape, demoShapes, totalFlops } from "./gemm_shapes.ts";
import { gemmFlops, gemmName, timeGemm } from "./gemm_timing.ts";
import { measureRates, shareOf } from "./roofline.ts";
import { significant } from "./statistics.ts";

interface Measured extends CountedShape {
  chosen: GemmTile;
  /** Median milliseconds of one product by tile. */
  ms: Record<GemmTile, number>;
}

const LAYOUTS = ["NT", "NN", "TN"] as const;

/** A cube of each layout, and products of decoding steps of the demo model. */
const EXTRA: CountedShape[] = [
  ...LAYOUTS.map((layout) => ({ layout, M: 512, N: 512, K: 512, count: 0 })),
  ...[1, 8, 64].map((M) => ({ layout: "NT" as const, M, N: 384, K: 128, count: 0 })),
];

/** GFLOP/s of all operations of these shapes over all of their time. */
const mean = (shapes: Measured[], tileOf: (shape: Measured) => GemmTile) =>
  totalFlops(shapes) / shapes.reduce((sum, shape) => sum + shape.count * shape.ms[tileOf(shape)], 0) / 1e6;

async function run({ rounds, progress }: BenchOptions): Promise<BenchResult> {
  using gpu = await openGpu();
  const tiles = (Object.keys(GEMM_TILES) as GemmTile[]).filter((tile) => gemmTileRuns(gpu, tile));
  const rates = await measureRates(gpu);
  const measured: Measured[] = [];
  for (const shape of [...EXTRA, ...await demoShapes(gpu)]) {
    progress(`gemm: ${gemmName(shape)}`);
    const ms = await timeGemm(gpu, shape, tiles, { rounds, waitMs: rates.waitMs });
    measured.push({ ...shape, ms, chosen: chooseGemmTile(gpu, shape, shape.M, shape.N) });
  }
  const gflops = (shape: Measured, tile: GemmTile) => gemmFlops(shape) / shape.ms[tile] / 1e6;
  const format = (value: number) => String(significant(value, 3));
  const share = (value: number) => shareOf(value, rates.fmaGflops);
  const means = [
    { title: "demo step, all", shapes: measured },
    ...LAYOUTS.map((layout) => ({
      title: `demo step, ${layout}`,
      shapes: measured.filter((shape) => shape.layout === layout),
    })),
  ].map(({ title, shapes }) => ({
    title,
    chosen: mean(shapes, ({ chosen }) => chosen),
    byTile: Object.fromEntries(tiles.map((tile) => [tile, mean(shapes, () => tile)])),
  }));
  return {
    method: "GFLOP/s (2·M·N·K) of C = A·B, median of rounds in which the tiles take turns, " +
      (gpu.hasTimestamps
        ? "by the device's own clock"
        : `less the ${format(rates.waitMs)} ms that a submit and a readback take by themselves`) +
      "; every product is compared with float64 sums at 64 elements first. " +
      "“demo step” weighs the shapes of one optimizer step on 128 fingerprints by their " +
      `operations (all operations ÷ all time). * is the tile that the engine picks; its share is of the ` +
      `${format(rates.fmaGflops)} GFLOP/s of f32 multiply-adds measured in this run.`,
    tables: [{
      title: `GEMM, GFLOP/s, ${rounds} rounds`,
      columns: ["layout M×N×K", "a step", ...tiles, "of the f32 rate"],
      rows: [
        ...measured.map((shape) => [
          ...[gemmName(shape), String(shape.count)],
          ...tiles.map((tile) => format(gflops(shape, tile)) + (tile === shape.chosen ? " *" : "")),
          share(gflops(shape, shape.chosen)),
        ]),
        ...means.map(({ title, chosen, byTile }) => [
          ...[title, ""],
          ...tiles.map((tile) => format(byTile[tile])),
          share(chosen),
        ]),
        [
          ...["demo step, tiles as picked", "", format(means[0].chosen)],
          ...tiles.slice(1).map(() => ""),
          share(means[0].chosen),
        ],
      ],
    }],
    data: {
      rates,
      means,
      shapes: measured.map((shape) => ({
        ...shape,
        gflops: Object.fromEntries(tiles.map((tile) => [tile, gflops(shape, tile)])),
      })),
    },
  };
}

/** `deno task bench gemm`. */
export const gemmBenchmark: Benchmark = { name: "gemm", what: "matrix products by shape and tile", run };
