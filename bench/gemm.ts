/** Matrix products by shape and tile, in GFLOP/s. */
import type { Gpu } from "../engine/gpu/context.ts";
import { observeDispatches, Recorder, type Recording } from "../engine/gpu/recorder.ts";
import type { Slot } from "../engine/gpu/pool.ts";
import {
  chooseGemmTile,
  gemm,
  GEMM_TILES,
  type GemmLayout,
  type GemmTile,
  gemmTileRuns,
} from "../engine/ops/matmul.ts";
import { matrix } from "../engine/tensor/matrix.ts";
import { Model } from "../mod.ts";
import { openGpu } from "../pipeline/gpu.ts";
import type { Benchmark, BenchOptions, BenchResult } from "./benchmark.ts";
import { randomFingerprints, randomStream, withRandomModel } from "./demo_shape.ts";
import { median, significant } from "./statistics.ts";

interface Shape {
  layout: GemmLayout;
  M: number;
  N: number;
  K: number;
  /** Times it occurs in one step of the demo model; 0 where it doesn't. */
  count: number;
}

const flops = ({ M, N, K }: Shape) => 2 * M * N * K;

/** Enough work a sample that waiting for it (11 ms and more) weighs little. */
const FLOPS_PER_SAMPLE = { software: 5e8, hardware: 2e11 };

/** The products of one step on 128 fingerprints of 18 tokens, seen as they are dispatched. */
async function demoShapes(gpu: Gpu): Promise<Shape[]> {
  const shapes = new Map<string, Shape>();
  await withRandomModel(async (dir) => {
    using model = await Model.load(gpu, dir);
    observeDispatches(({ kernel, constants }, { params }) => {
      if (!kernel.name.startsWith("gemm_")) return;
      const { M, N, K } = params;
      const layout = constants.A_T ? "TN" : constants.B_T ? "NT" : "NN";
      const key = `${layout} ${M} ${N} ${K}`;
      const shape = shapes.get(key) ?? { layout, M, N, K, count: 0 };
      shape.count++;
      shapes.set(key, shape);
    });
    try {
      await model.lossAndGradients(randomFingerprints(128, 18));
    } finally {
      observeDispatches(undefined);
    }
  });
  return [...shapes.values()].sort((a, b) => b.count * flops(b) - a.count * flops(a));
}

/** One product with its operands on the device, recorded often enough for a sample. */
class Timed {
  readonly repeats: number;
  readonly #recording: Recording<null>;
  readonly #output: Slot;

  constructor(
    readonly gpu: Gpu,
    readonly shape: Shape,
    readonly tile: GemmTile,
    readonly operands: { a: Float32Array<ArrayBuffer>; b: Float32Array<ArrayBuffer> },
  ) {
    const { layout, M, N, K } = shape;
    const perSample = gpu.isSoftware ? FLOPS_PER_SAMPLE.software : FLOPS_PER_SAMPLE.hardware;
    this.repeats = Math.min(2000, Math.max(1, Math.ceil(perSample / flops(shape))));
    const recorder = new Recorder<null>(gpu);
    const slot = (label: string, elements: number) => recorder.pool.acquire(elements * 4, label);
    const [a, b] = [slot("a", M * K), slot("b", K * N)];
    this.#output = slot("c", M * N);
    for (let i = 0; i < this.repeats; i++) {
      gemm(recorder, {
        layout,
        a: matrix(a, layout === "TN" ? M : K),
        b: matrix(b, layout === "NT" ? K : N),
        c: matrix(this.#output, N),
        ...{ m: M, n: N, k: K, capacityM: M },
      }, tile);
    }
    this.#recording = recorder.finish(gpu);
    gpu.write(a.buffer, operands.a);
    gpu.write(b.buffer, operands.b);
  }

  /** Compares some elements with sums in float64. @throws Error when one is off, and what the GPU reported. */
  async verify(): Promise<void> {
    const { layout, M, N, K } = this.shape;
    const { a, b } = this.operands;
    const [bytes] = await this.#recording.run(null, [{ slot: this.#output, bytes: M * N * 4 }]);
    await this.gpu.check();
    const c = new Float32Array(bytes.buffer);
    const random = randomStream(5);
    const corners = [[0, 0], [M - 1, N - 1], [M - 1, 0], [0, N - 1]];
    const inside = Array.from({ length: 60 }, () => [Math.floor(random() * M), Math.floor(random() * N)]);
    for (const [i, j] of [...corners, ...inside]) {
      let [sum, magnitude] = [0, 0];
      for (let k = 0; k < K; k++) {
        const x = a[layout === "TN" ? k * M + i : i * K + k];
        const y = b[layout === "NT" ? j * K + k : k * N + j];
        sum += x * y;
        magnitude += Math.abs(x * y);
      }
      const got = c[i * N + j];
      if (!(Math.abs(got - sum) <= (2 + 2 * Math.sqrt(K)) * 2 ** -24 * magnitude)) {
        throw new Error(
          `gemm ${this.tile} ${name(this.shape)}: element (${i}, ${j}) is ${got}, expected ${sum}`,
        );
      }
    }
  }

  /** Milliseconds of one product. */
  async sample(): Promise<number> {
    const began = performance.now();
    await this.#recording.run(null, [{ slot: this.#output, bytes: 4 }]);
    return (performance.now() - began) / this.repeats;
  }

  dispose(): void {
    this.#recording.dispose();
  }
}

const name = ({ layout, M, N, K }: Shape) => `${layout} ${M}×${N}×${K}`;

function uniform(elements: number, seed: number): Float32Array<ArrayBuffer> {
  const random = randomStream(seed);
  return Float32Array.from({ length: elements }, () => random() * 2 - 1);
}

interface Measured extends Shape {
  /** Median milliseconds of one product by tile. */
  ms: Record<string, number>;
}

async function measure(gpu: Gpu, shape: Shape, tiles: GemmTile[], rounds: number): Promise<Measured> {
  const { M, N, K } = shape;
  const operands = { a: uniform(M * K, 3), b: uniform(K * N, 4) };
  const timed: Timed[] = [];
  try {
    for (const tile of tiles) timed.push(new Timed(gpu, shape, tile, operands));
    for (const product of timed) await product.verify();
    const samples = tiles.map((): number[] => []);
    for (let round = 0; round < rounds; round++) {
      for (const [i, product] of timed.entries()) samples[i].push(await product.sample());
    }
    return { ...shape, ms: Object.fromEntries(tiles.map((tile, i) => [tile, median(samples[i])])) };
  } finally {
    for (const product of timed) product.dispose();
  }
}

async function run({ rounds, progress }: BenchOptions): Promise<BenchResult> {
  using gpu = await openGpu();
  const tiles = (Object.keys(GEMM_TILES) as GemmTile[]).filter((tile) => gemmTileRuns(gpu, tile));
  const cubes = (["NT", "NN", "TN"] as const).map((layout) => ({ layout, M: 512, N: 512, K: 512, count: 0 }));
  const measured: Measured[] = [];
  for (const shape of [...cubes, ...await demoShapes(gpu)]) {
    progress(`gemm: ${name(shape)}`);
    measured.push(await measure(gpu, shape, tiles, rounds));
  }
  const gflops = (shape: Shape, ms: number) => flops(shape) / ms / 1e6;
  const chosen = (shape: Shape) => chooseGemmTile(gpu, shape.M, shape.N);
  /** All of a step's operations over all of their time. */
  const mean = (shapes: Measured[], msOf: (shape: Measured) => number) =>
    shapes.reduce((sum, shape) => sum + shape.count * flops(shape), 0) /
    shapes.reduce((sum, shape) => sum + shape.count * msOf(shape), 0) / 1e6;
  const format = (value: number) => String(significant(value, 3));
  const means = [
    { title: "demo step, all", shapes: measured },
    ...(["NT", "NN", "TN"] as const).map((layout) => ({
      title: `demo step, ${layout}`,
      shapes: measured.filter((shape) => shape.layout === layout),
    })),
  ].map(({ title, shapes }) => ({
    title,
    chosen: mean(shapes, (shape) => shape.ms[chosen(shape)]),
    byTile: Object.fromEntries(tiles.map((tile) => [tile, mean(shapes, (shape) => shape.ms[tile])])),
  }));
  const shapes = measured.map((shape) => ({
    ...shape,
    chosen: chosen(shape),
    gflops: Object.fromEntries(tiles.map((tile) => [tile, gflops(shape, shape.ms[tile])])),
  }));
  return {
    method:
      "GFLOP/s (2·M·N·K) of C = A·B in f32, median of rounds in which the tiles take turns; every product is compared " +
      "with float64 sums at 64 elements first. “demo step” weighs the shapes of one optimizer step on 128 " +
      "fingerprints by their operations (all operations ÷ all time). * is the tile that the engine picks.",
    tables: [{
      title: `GEMM, GFLOP/s, ${rounds} rounds`,
      columns: ["layout M×N×K", "a step", ...tiles],
      rows: [
        ...shapes.map((shape) => [
          ...[name(shape), String(shape.count)],
          ...tiles.map((tile) => format(shape.gflops[tile]) + (tile === shape.chosen ? " *" : "")),
        ]),
        ...means.map(({ title, byTile }) => [title, "", ...tiles.map((tile) => format(byTile[tile]))]),
        ["demo step, tiles as picked", "", format(means[0].chosen), ...tiles.slice(1).map(() => "")],
      ],
    }],
    data: { shapes, means },
  };
}

/** `deno task bench gemm`. */
export const gemmBenchmark: Benchmark = { name: "gemm", what: "matrix products by shape and tile", run };
