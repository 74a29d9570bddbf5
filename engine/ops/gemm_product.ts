import type { Slot } from "../gpu/pool.ts";
import { type Binding, type Dim, dim, type KernelTarget, type Recorder } from "../gpu/recorder.ts";
import type { Matrix } from "../tensor/matrix.ts";
import { kernelSettings } from "./target.ts";

/** How the operands lie: NT is y = x·Wᵀ (forward), NN is dx = dy·W, TN is dW = dyᵀ·x. */
export type GemmLayout = "NT" | "NN" | "TN";

/** C[m, n] = start + bias + A·B over k. */
export interface Gemm<S> {
  layout: GemmLayout;
  a: Matrix;
  /** f32, or bf16 in pairs where `bf16` says so (not in TN). */
  b: Matrix & { bf16?: boolean | undefined };
  c: Matrix;
  m: Dim<S>;
  n: number;
  k: Dim<S>;
  /** The largest m of any run; kernel choice goes by it. */
  capacityM: number;
  /** What C starts from: nothing (default), itself where true, or another buffer with C's leading dimension and offset. */
  start?: (Slot | ((sizes: S) => boolean)) | undefined;
  /** A number for each column of C: f32 from element `offset` on. */
  bias?: { slot: Slot; offset: number } | undefined;
}

/** What a GEMM kernel is specialised for. */
export interface GemmForm {
  layout: GemmLayout;
  /** All leading dimensions, offsets and vector axes are multiples of 4. */
  vec: boolean;
  /** B is stored as bf16. */
  bf16?: boolean;
  bias?: boolean;
}

function canVectorize<S>({ layout, a, b, c, m, n, k }: Gemm<S>): boolean {
  const axes = [a.ld, a.offset, b.ld, b.offset, c.ld, c.offset, n];
  axes.push(layout === "TN" ? m as number : k as number);
  return axes.every((value) => typeof value === "number" && value % 4 === 0);
}

/** The form of a product. @throws TypeError for TN with a bf16 operand. */
export function gemmForm<S>(product: Gemm<S>, target: KernelTarget): GemmForm {
  const { layout, b, bias } = product;
  const bf16 = b.bf16 ?? false;
  if (bf16 && layout === "TN") throw new TypeError("TN takes no bf16 operand");
  return {
    layout,
    vec: kernelSettings(target).force?.vectorWidth !== 1 && canVectorize(product),
    bf16,
    bias: bias !== undefined,
  };
}

/** What shaders/gemm_io.wgsl binds. */
export function gemmBindings<S>(
  recorder: Recorder<S>,
  { a, b, c, start, bias }: Gemm<S>,
): Record<string, Binding> {
  return {
    a: a.slot,
    b: b.slot,
    c: c.slot,
    initial: typeof start === "object" ? start : recorder.nothing,
    ...(bias ? { bias: bias.slot } : {}),
  };
}

/** Params of shaders/gemm_io.wgsl. */
export function gemmParams<S>({ a, b, c, m, n, k, start, bias }: Gemm<S>, sizes: S): Record<string, number> {
  return {
    M: dim(m, sizes),
    N: n,
    K: dim(k, sizes),
    lda: a.ld,
    a_offset: a.offset,
    ldb: b.ld,
    b_offset: b.offset,
    ldc: c.ld,
    c_offset: c.offset,
    start: typeof start === "object" ? 2 : start?.(sizes) ? 1 : 0,
    bias_offset: bias?.offset ?? 0,
  };
}
