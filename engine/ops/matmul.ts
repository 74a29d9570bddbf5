import tiledSource from "../../shaders/gemm_tiled.wgsl" with { type: "text" };
import registerSource from "../../shaders/gemm_register.wgsl" with { type: "text" };
import shuffleSource from "../../shaders/gemm_shuffle.wgsl" with { type: "text" };
import ioSource from "../../shaders/gemm_io.wgsl" with { type: "text" };
import { defineKernel, type KernelVariant } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type KernelTarget, type Recorder } from "../gpu/recorder.ts";
import type { Matrix } from "../tensor/matrix.ts";

const includes = { "gemm_io.wgsl": ioSource };
const tiled = defineKernel({ name: "gemm_tiled", file: "gemm_tiled.wgsl", source: tiledSource, includes });
const register = defineKernel({
  name: "gemm_register",
  file: "gemm_register.wgsl",
  source: registerSource,
  includes,
});

const shuffle = defineKernel({
  name: "gemm_shuffle",
  file: "gemm_shuffle.wgsl",
  source: shuffleSource,
  includes,
});

/** Tile shapes by name; `outputs` is the [rows, columns] of C that one workgroup computes. */
export const GEMM_TILES = {
  /** For software adapters: 16×8 outputs an invocation, no workgroup memory. */
  register: { kernel: register, constants: { TM: 16, TN: 8 }, outputs: [16, 64] },
  /** Where subgroups can be had as well: A is shared by shuffles, twice as fast on lavapipe. */
  shuffle: { kernel: shuffle, constants: { TM: 32, TN: 8 }, outputs: [32, 64] },
  large: {
    kernel: tiled,
    constants: { THREADS_M: 16, THREADS_N: 16, TM: 8, TN: 8, TK: 16 },
    outputs: [128, 128],
  },
  medium: {
    kernel: tiled,
    constants: { THREADS_M: 8, THREADS_N: 8, TM: 8, TN: 8, TK: 16 },
    outputs: [64, 64],
  },
  small: {
    kernel: tiled,
    constants: { THREADS_M: 8, THREADS_N: 8, TM: 4, TN: 4, TK: 32 },
    outputs: [32, 32],
  },
} as const;

/** Name of a tile shape. */
export type GemmTile = keyof typeof GEMM_TILES;

/** How the operands lie: NT is y = x·Wᵀ (forward), NN is dx = dy·W, TN is dW = dyᵀ·x. */
export type GemmLayout = "NT" | "NN" | "TN";

/** C[m, n] = start + bias + A·B over k. */
export interface Gemm<S> {
  layout: GemmLayout;
  a: Matrix;
  /** f32, or bf16 in pairs where `bf16` says so (not in TN). */
  b: Matrix & { bf16?: boolean };
  c: Matrix;
  m: Dim<S>;
  n: number;
  k: Dim<S>;
  /** The largest m of any run; kernel choice goes by it. */
  capacityM: number;
  /** What C starts from: nothing (default), itself where true, or another buffer with C's leading dimension and offset. */
  start?: Slot | ((sizes: S) => boolean);
  /** A number for each column of C: f32 from element `offset` on. */
  bias?: { slot: Slot; offset: number };
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

/** Picks a tile by shape and adapter class: the largest that still gives the GPU some 200 workgroups. */
export function chooseGemmTile(target: KernelTarget, m: number, n: number): GemmTile {
  if (target.isSoftware) return target.hasSubgroups ? "shuffle" : "register";
  for (const tile of ["large", "medium"] as const) {
    const [rows, columns] = GEMM_TILES[tile].outputs;
    if (Math.ceil(m / rows) * Math.ceil(n / columns) >= 200) return tile;
  }
  return "small";
}

/** Whether a tile's kernel compiles and is right on this adapter. */
export function gemmTileRuns(target: KernelTarget, tile: GemmTile): boolean {
  return tile !== "shuffle" || target.hasSubgroups === true;
}

/** The kernel of a tile for a form. @throws TypeError for TN with a bf16 operand. */
export function gemmVariant(
  tile: GemmTile,
  { layout, vec, bf16 = false, bias = false }: GemmForm,
): KernelVariant {
  if (bf16 && layout === "TN") throw new TypeError("TN takes no bf16 operand");
  const { kernel, constants } = GEMM_TILES[tile];
  const [aT, bT] = [layout === "TN", layout === "NT"];
  return kernel.variant({ ...constants, A_T: aT, B_T: bT, VEC: vec, B_BF16: bf16, BIAS: bias });
}

function canVectorize<S>({ layout, a, b, c, m, n, k }: Gemm<S>): boolean {
  const axes = [a.ld, a.offset, b.ld, b.offset, c.ld, c.offset, n];
  axes.push(layout === "TN" ? m as number : k as number);
  return axes.every((value) => typeof value === "number" && value % 4 === 0);
}

/** Records a matrix product; `tile` overrides the choice. */
export function gemm<S>(recorder: Recorder<S>, product: Gemm<S>, tile?: GemmTile): void {
  const { layout, a, b, c, m, n, k, capacityM, start, bias } = product;
  const name = tile ?? chooseGemmTile(recorder.target, capacityM, n);
  const [rows, columns] = GEMM_TILES[name].outputs;
  const initial = typeof start === "object" ? start : undefined;
  recorder.dispatch(
    gemmVariant(name, {
      layout,
      vec: canVectorize(product),
      bf16: b.bf16 ?? false,
      bias: bias !== undefined,
    }),
    {
      ...{ a: a.slot, b: b.slot, c: c.slot, initial: initial ?? recorder.nothing },
      ...(bias ? { bias: bias.slot } : {}),
    },
    (sizes) => {
      const [M, K] = [dim(m, sizes), dim(k, sizes)];
      const params = {
        ...{ M, N: n, K, lda: a.ld, a_offset: a.offset, ldb: b.ld, b_offset: b.offset },
        ...{ ldc: c.ld, c_offset: c.offset },
        start: initial ? 2 : typeof start === "function" && start(sizes) ? 1 : 0,
        bias_offset: bias?.offset ?? 0,
      };
      return { params, groups: [Math.ceil(n / columns), Math.ceil(M / rows), 1] };
    },
    (sizes) => 2 * dim(m, sizes) * n * dim(k, sizes),
  );
}
