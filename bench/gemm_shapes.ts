/** Which matrix products some work dispatches. */
import type { Gpu } from "../engine/gpu/context.ts";
import { Model } from "../mod.ts";
import { randomFingerprints, withRandomModel } from "./demo_shape.ts";
import { gemmFlops, gemmName, type GemmShape } from "./gemm_timing.ts";

/** A product and how often it was dispatched. */
export interface CountedShape extends GemmShape {
  count: number;
}

/** Every shape that `work` dispatches, those with most operations first. */
export async function countGemms(gpu: Gpu, work: () => Promise<unknown>): Promise<CountedShape[]> {
  const shapes = new Map<string, CountedShape>();
  gpu.onDispatch = ({ kernel, constants }, { params: { M, N, K } }) => {
    if (!kernel.name.startsWith("gemm_")) return;
    const layout = constants.A_T ? "TN" : constants.B_T ? "NT" : "NN";
    const shape = { layout, bf16: Boolean(constants.B_BF16), M, N, K } as const;
    const counted = shapes.get(gemmName(shape)) ?? { ...shape, count: 0 };
    counted.count++;
    shapes.set(gemmName(shape), counted);
  };
  try {
    await work();
  } finally {
    gpu.onDispatch = undefined;
  }
  return [...shapes.values()].sort((a, b) => totalFlops([b]) - totalFlops([a]));
}

/** Operations of all dispatches of these shapes. */
export function totalFlops(shapes: readonly CountedShape[]): number {
  return shapes.reduce((sum, shape) => sum + shape.count * gemmFlops(shape), 0);
}

/** Fingerprints, and tokens of each, in the step that benchmarks take. */
export const DEMO_STEP = { fingerprints: 128, tokens: 18 };

/** The products of one step of the demo model. */
export function demoShapes(gpu: Gpu): Promise<CountedShape[]> {
  return withRandomModel(async (dir) => {
    using model = await Model.load(gpu, dir);
    const examples = randomFingerprints(DEMO_STEP.fingerprints, DEMO_STEP.tokens);
    return await countGemms(gpu, () => model.lossAndGradients(examples));
  });
}
