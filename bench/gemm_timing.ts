/** Timing and checking single matrix products. */
import type { Gpu } from "../engine/gpu/context.ts";
import { Recorder, type Recording } from "../engine/gpu/recorder.ts";
import type { Slot } from "../engine/gpu/pool.ts";
import { gemm, type GemmForm, type GemmTile } from "../engine/ops/matmul.ts";
import { narrow, widen } from "../engine/tensor/dtype.ts";
import { matrix } from "../engine/tensor/matrix.ts";
import { randomStream } from "./demo_shape.ts";
import { median } from "./statistics.ts";

/** C[M, N] = A·B over K. */
export interface GemmShape extends Pick<GemmForm, "layout" | "bf16"> {
  M: number;
  N: number;
  K: number;
}

/** Floating-point operations of one product. */
export const gemmFlops = ({ M, N, K }: GemmShape): number => 2 * M * N * K;

/** As tables call it. */
export const gemmName = ({ layout, bf16, M, N, K }: GemmShape): string =>
  `${layout}${bf16 ? " bf16" : ""} ${M}×${N}×${K}`;

/** Enough work a sample that neither waiting (12 ms on lavapipe) nor the clock's steps can blur it. */
const FLOPS_PER_SAMPLE = { software: 5e8, hardware: 2e11 };

/** Of the largest products only the first rows are read back to be checked. */
const READ_ELEMENTS = 2 ** 24;

interface Operands {
  a: Float32Array<ArrayBuffer>;
  b: Float32Array<ArrayBuffer>;
}

/** One product with its operands on the device, recorded often enough for a sample. */
class Timed {
  readonly repeats: number;
  readonly #recording: Recording<null>;
  readonly #output: Slot;

  constructor(
    readonly gpu: Gpu,
    readonly shape: GemmShape,
    readonly tile: GemmTile,
    readonly operands: Operands,
  ) {
    const { layout, bf16, M, N, K } = shape;
    const perSample = gpu.isSoftware ? FLOPS_PER_SAMPLE.software : FLOPS_PER_SAMPLE.hardware;
    // Few rows run at a twentieth of the usual rate: their samples may be smaller.
    this.repeats = Math.min(200, Math.max(1, Math.ceil(perSample * Math.min(1, M / 32) / gemmFlops(shape))));
    const recorder = new Recorder<null>(gpu);
    const slot = (label: string, bytes: number) => recorder.pool.acquire(bytes, label);
    const [a, b] = [slot("a", M * K * 4), slot("b", K * N * (bf16 ? 2 : 4))];
    this.#output = slot("c", M * N * 4);
    for (let i = 0; i < this.repeats; i++) {
      gemm(recorder, {
        layout,
        a: matrix(a, layout === "TN" ? M : K),
        b: { ...matrix(b, layout === "NT" ? K : N), bf16 },
        c: matrix(this.#output, N),
        m: M,
        n: N,
        k: K,
        capacityM: M,
      }, tile);
    }
    this.#recording = recorder.finish(gpu);
    gpu.write(a.buffer, operands.a);
    gpu.write(b.buffer, bf16 ? new Uint8Array(narrow("BF16", operands.b)) : operands.b);
  }

  /** Compares some elements with sums in float64. @throws Error when one is off, and what the GPU reported. */
  async verify(): Promise<void> {
    const { layout, M, N, K } = this.shape;
    const { a, b } = this.operands;
    const rows = Math.min(M, Math.ceil(READ_ELEMENTS / N));
    const [bytes] = await this.#recording.run(null, [{ slot: this.#output, bytes: rows * N * 4 }]);
    await this.gpu.check();
    const c = new Float32Array(bytes.buffer);
    const random = randomStream(5);
    const corners = [[0, 0], [rows - 1, N - 1], [rows - 1, 0], [0, N - 1]];
    const inside = Array.from(
      { length: 60 },
      () => [Math.floor(random() * rows), Math.floor(random() * N)],
    );
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
          `gemm ${this.tile} ${gemmName(this.shape)}: element (${i}, ${j}) is ${got}, expected ${sum}`,
        );
      }
    }
  }

  /** Milliseconds of all repeats: by the device's own clock, or without one the wall's less what waiting takes. */
  async sample(waitMs: number): Promise<number> {
    if (this.gpu.hasTimestamps) {
      const spans = await this.#recording.profile(null);
      return spans.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    }
    const began = performance.now();
    await this.#recording.run(null, [{ slot: this.#output, bytes: 4 }]);
    return performance.now() - began - waitMs;
  }

  dispose(): void {
    this.#recording.dispose();
  }
}

function uniform(elements: number, seed: number): Float32Array<ArrayBuffer> {
  const random = randomStream(seed);
  const values = new Float32Array(elements);
  for (let i = 0; i < elements; i++) values[i] = random() * 2 - 1;
  return values;
}

/**
 * Median milliseconds of one product by tile, over rounds in which the tiles take turns; `waitMs` is what a submit and a
 * readback take by themselves, for devices without timestamps.
 * @throws Error when a tile's product is wrong.
 */
export async function timeGemm<T extends GemmTile>(
  gpu: Gpu,
  shape: GemmShape,
  tiles: readonly T[],
  { rounds, waitMs }: { rounds: number; waitMs: number },
): Promise<Record<T, number>> {
  const { M, N, K, bf16 } = shape;
  const operands = { a: uniform(M * K, 3), b: uniform(K * N, 4) };
  if (bf16) widen("BF16", narrow("BF16", operands.b), operands.b);
  const timed: Timed[] = [];
  try {
    for (const tile of tiles) timed.push(new Timed(gpu, shape, tile, operands));
    for (const product of timed) await product.verify();
    const samples = tiles.map((): number[] => []);
    for (let round = 0; round < rounds; round++) {
      for (const [i, product] of timed.entries()) samples[i].push(await product.sample(waitMs));
    }
    const ms = timed.map(({ repeats }, i) => Math.max(1e-6, median(samples[i])) / repeats);
    return Object.fromEntries(tiles.map((tile, i) => [tile, ms[i]])) as Record<T, number>;
  } finally {
    for (const product of timed) product.dispose();
  }
}
