import type { Gpu } from "../../engine/gpu/context.ts";
import { Recorder } from "../../engine/gpu/recorder.ts";
import { gemm } from "../../engine/ops/matmul.ts";
import { matrix } from "../../engine/tensor/matrix.ts";
import { uniform } from "../../engine/tensor/random.ts";

/** How far a product on this GPU is from the exact one. */
export interface ProductError {
  /** The product's [m, n, k]. */
  shape: [number, number, number];
  /** ‖found − exact‖ / ‖exact‖ (Frobenius). */
  relativeError: number;
}

/** Measures the error of one product of uniform numbers, as {@link gemm} does it on this GPU, against float64. */
export async function productError(gpu: Gpu): Promise<ProductError> {
  const [m, n, k] = [128, 128, 1024];
  const operand = (rows: number, which: number) =>
    Float32Array.from({ length: rows * k }, (_, i) => 2 * uniform(1, which, i) - 1);
  const [a, b] = [operand(m, 0), operand(n, 1)];

  const recorder = new Recorder<void>(gpu);
  const slot = (elements: number, label: string) => recorder.pool.acquire(elements * 4, label);
  const slots = { a: slot(m * k, "a"), b: slot(n * k, "b"), c: slot(m * n, "c") };
  const sides = { a: matrix(slots.a, k), b: matrix(slots.b, k), c: matrix(slots.c, n) };
  gemm(recorder, { layout: "NT", ...sides, m, n, k, capacityM: m });
  const recording = recorder.finish(gpu);
  let found: Float32Array;
  try {
    gpu.write(slots.a.buffer, a);
    gpu.write(slots.b.buffer, b);
    const [bytes] = await recording.run(undefined, [{ slot: slots.c, bytes: m * n * 4 }]);
    found = new Float32Array(bytes.buffer);
  } finally {
    recording.dispose();
  }

  let [difference, norm] = [0, 0];
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let exact = 0;
      for (let x = 0; x < k; x++) exact += a[i * k + x]! * b[j * k + x]!;
      difference += (found[i * n + j]! - exact) ** 2;
      norm += exact ** 2;
    }
  }
  return { shape: [m, n, k], relativeError: Math.sqrt(difference / norm) };
}
