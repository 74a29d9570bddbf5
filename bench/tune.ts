/** Measures every GEMM tile that runs on the adapter, and writes engine/ops/gemm_table.ts from it. */
import { fileURLToPath } from "node:url";
import { saveAtomic } from "../engine/io/atomic.ts";
import type { Gpu } from "../engine/gpu/context.ts";
import type { KernelTarget } from "../engine/gpu/recorder.ts";
import { GEMM_TABLE } from "../engine/ops/gemm_table.ts";
import {
  GEMM_TILES,
  gemmAdapterClass,
  type GemmTable,
  type GemmTableKey,
  type GemmTile,
  gemmTileRuns,
  type TileRule,
} from "../engine/ops/matmul.ts";
import { openGpu } from "../pipeline/gpu/open.ts";
import type { Benchmark, BenchOptions, BenchResult } from "./benchmark.ts";
import { environment } from "./environment.ts";
import { fitTileRules, tableSource, type Thresholds } from "./gemm_rules.ts";
import { gemmFlops, gemmName, type GemmShape, timeGemm } from "./gemm_timing.ts";
import { measureRates } from "./roofline.ts";
import { significant } from "./statistics.ts";

const TABLE_FILE = fileURLToPath(new URL("../engine/ops/gemm_table.ts", import.meta.url));

const FORMS: Record<GemmTableKey, Pick<GemmShape, "layout" | "bf16">> = {
  "NT": { layout: "NT" },
  "NN": { layout: "NN" },
  "TN": { layout: "TN" },
  "NT bf16": { layout: "NT", bf16: true },
  "NN bf16": { layout: "NN", bf16: true },
};

/** Rows of activations: decoding's few, supervised rows, tokens of a micro-batch. */
const ROWS = { software: [1, 4, 8, 16, 32, 64, 2176], hardware: [1, 8, 64, 512, 4096, 18432] };

/** [out, in] of weights: the demo model's and a wider one; the hardware's are of Llama 3.2 1B and 3.1 8B. */
const WEIGHTS = {
  software: [[128, 128], [384, 128], [128, 384], [2048, 128], [512, 512]],
  hardware: [[512, 2048], [2048, 2048], [2048, 8192], [1024, 4096], [4096, 4096], [14336, 4096], [
    4096,
    14336,
  ]],
};

const WORKGROUPS = [25, 50, 100, 200, 400, 800];

/** Tiles this much slower than the fastest in one round get no further rounds. */
const HOPELESS = 2.5;

interface Product extends GemmShape {
  ms: Record<GemmTile, number>;
}

function shapes(gpu: Gpu, key: GemmTableKey): GemmShape[] {
  const kind = gpu.isSoftware ? "software" : "hardware";
  return ROWS[kind].flatMap((rows) =>
    WEIGHTS[kind].map(([outputs, inputs]) => {
      const [M, N, K] = {
        NT: [rows, outputs, inputs],
        NN: [rows, inputs, outputs],
        TN: [outputs, inputs, rows],
      }[FORMS[key].layout];
      return { ...FORMS[key], M, N, K };
    })
  );
}

async function timeProducts(gpu: Gpu, key: GemmTableKey, { rounds, progress }: BenchOptions) {
  const tiles = (Object.keys(GEMM_TILES) as GemmTile[]).filter((tile) => gemmTileRuns(gpu, tile));
  const { waitMs } = await measureRates(gpu);
  const products: Product[] = [];
  for (const shape of shapes(gpu, key)) {
    progress(`tune: ${gemmName(shape)}`);
    const once = await timeGemm(gpu, shape, tiles, { rounds: 1, waitMs });
    const fastest = Math.min(...Object.values(once));
    const close = tiles.filter((tile) => once[tile] < HOPELESS * fastest);
    products.push({ ...shape, ms: { ...once, ...await timeGemm(gpu, shape, close, { rounds, waitMs }) } });
  }
  return products;
}

async function run(options: BenchOptions): Promise<BenchResult> {
  using gpu = await openGpu();
  const { adapter, driver, date } = await environment();
  const products = {} as Record<GemmTableKey, Product[]>;
  for (const key of Object.keys(FORMS) as GemmTableKey[]) {
    products[key] = await timeProducts(gpu, key, options);
  }
  // What has subgroups also tells what to do where there are none.
  const targets: KernelTarget[] = gpu.isSoftware && gpu.hasSubgroups ? [gpu, { isSoftware: true }] : [gpu];
  const table = { ...GEMM_TABLE as GemmTable };
  for (const target of targets) {
    const measured = [adapter, driver, date.slice(0, 10)].join("; ");
    table[gemmAdapterClass(target)] = { measured, rules: fitAll(target, products) };
  }
  await saveAtomic(TABLE_FILE, tableSource(table));
  const tiles = Object.keys(GEMM_TILES) as GemmTile[];
  const rows = Object.values(products).flat().map((product) => [
    gemmName(product),
    ...tiles.map((tile) =>
      product.ms[tile] ? String(significant(gemmFlops(product) / product.ms[tile] / 1e6, 3)) : ""
    ),
  ]);
  return {
    method:
      `GFLOP/s of each GEMM tile, median of ${options.rounds} rounds (one where a tile is over ${HOPELESS} ` +
      `times slower than the fastest). Rules fitted to them are written to engine/ops/gemm_table.ts.`,
    tables: [
      { title: "GFLOP/s", columns: ["layout M×N×K", ...tiles], rows },
      {
        title: "Rules",
        columns: ["adapters", "layout", "tiles"],
        rows: targets.flatMap((t) => ruleRows(t, table)),
      },
    ],
    data: { products, table },
  };
}

function fitAll(target: KernelTarget, products: Record<GemmTableKey, Product[]>) {
  const tiles = (Object.keys(GEMM_TILES) as GemmTile[]).filter((tile) => gemmTileRuns(target, tile));
  // A few workgroups keep a processor's cores busy; a GPU needs hundreds.
  const thresholds: Thresholds = target.isSoftware
    ? { maxRows: ROWS.software, minWorkgroups: [] }
    : { maxRows: ROWS.hardware, minWorkgroups: WORKGROUPS };
  return Object.fromEntries(
    Object.entries(products).map(([key, list]) => [key, fitTileRules(list, tiles, thresholds)]),
  ) as Record<GemmTableKey, TileRule[]>;
}

function ruleRows(target: KernelTarget, table: GemmTable): string[][] {
  const name = gemmAdapterClass(target);
  return Object.entries(table[name].rules).map(([key, rules]) => {
    const words = rules.map(({ tile, maxRows, minWorkgroups }) =>
      tile + (maxRows ? ` up to ${maxRows} rows` : "") +
      (minWorkgroups ? ` from ${minWorkgroups} workgroups` : "")
    );
    return [name, key, words.join(", ")];
  });
}

/** `deno task bench tune`; only by name, since it takes minutes and writes a source file. */
export const tuneBenchmark: Benchmark = {
  name: "tune",
  what: "every GEMM tile on many shapes; writes engine/ops/gemm_table.ts",
  onlyByName: true,
  run,
};
