import tiledSource from "../../shaders/gemm_tiled.wgsl" with { type: "text" };
import registerSource from "../../shaders/gemm_register.wgsl" with { type: "text" };
import shuffleSource from "../../shaders/gemm_shuffle.wgsl" with { type: "text" };
import ioSource from "../../shaders/gemm_io.wgsl" with { type: "text" };
import { defineKernel, type KernelVariant } from "../gpu/kernel.ts";
import { dim, type KernelTarget, type Recorder } from "../gpu/recorder.ts";
import {
  type Gemm,
  gemmBindings,
  type GemmForm,
  gemmForm,
  type GemmLayout,
  gemmParams,
} from "./gemm_product.ts";
import { GEMM_TABLE } from "./gemm_table.ts";
import { matrixGemm, matrixTakes } from "./matmul_matrix.ts";

export type { GemmForm, GemmLayout };

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
import { kernelSettings } from "./target.ts";

/**
 * Tile shapes by name; `outputs` is the [rows, columns] of C that one workgroup computes. Which one is used is in
 * gemm_table.ts.
 */
export const GEMM_TILES = {
  /** For software adapters: 16×8 outputs an invocation, no workgroup memory. */
  register: { kernel: register, constants: { TM: 16, TN: 8 }, outputs: [16, 64] },
  /** For the few rows of decoding. */
  registerFew: { kernel: register, constants: { TM: 4, TN: 8 }, outputs: [4, 64] },
  /** Where subgroups can be had as well: A is shared by shuffles, twice as fast on lavapipe. */
  shuffle: { kernel: shuffle, constants: { TM: 32, TN: 8 }, outputs: [32, 64] },
  shuffleFew: { kernel: shuffle, constants: { TM: 8, TN: 8 }, outputs: [8, 64] },
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

/** Takes `tile` where C has at most `maxRows` rows and is cut into at least `minWorkgroups` of it. */
export interface TileRule {
  tile: GemmTile;
  maxRows?: number;
  minWorkgroups?: number;
}

/** Layout, and how B is stored where that isn't f32. */
export type GemmTableKey = GemmLayout | "NT bf16" | "NN bf16";

/** The contents of gemm_table.ts. */
export type GemmTable = Readonly<
  Record<
    "hardware" | "software" | "softwareSubgroups",
    {
      /** Adapter, driver and date. */
      readonly measured: string;
      readonly rules: Readonly<Record<GemmTableKey, readonly TileRule[]>>;
    }
  >
>;

const table: GemmTable = GEMM_TABLE;

/** The key of gemm_table.ts that holds for an adapter. */
export function gemmAdapterClass({ isSoftware, hasSubgroups }: KernelTarget): keyof GemmTable {
  if (!isSoftware) return "hardware";
  return hasSubgroups ? "softwareSubgroups" : "software";
}

/** The tile of the first rule that holds for C's [m, n]. @throws RangeError where none does. */
export function tileByRules(rules: readonly TileRule[], m: number, n: number): GemmTile {
  const rule = rules.find(({ tile, maxRows = Infinity, minWorkgroups = 0 }) => {
    const [rows, columns] = GEMM_TILES[tile].outputs;
    return m <= maxRows && Math.ceil(m / rows) * Math.ceil(n / columns) >= minWorkgroups;
  });
  if (!rule) throw new RangeError(`no tile for ${m}×${n}: the last rule of a list must hold for all`);
  return rule.tile;
}

/** Picks a tile by adapter class, layout, storage and the largest [m, n] that C may have, from gemm_table.ts. */
export function chooseGemmTile(
  target: KernelTarget,
  { layout, bf16 }: Pick<GemmForm, "layout" | "bf16">,
  m: number,
  n: number,
): GemmTile {
  const forced = kernelSettings(target).force?.gemmTile;
  if (forced !== undefined) {
    if (!(forced in GEMM_TILES)) throw new RangeError(`no GEMM tile is called "${forced}"`);
    return forced as GemmTile;
  }
  const key: GemmTableKey = bf16 && layout !== "TN" ? `${layout} bf16` : layout;
  return tileByRules(table[gemmAdapterClass(target)].rules[key], m, n);
}

/** Whether a tile's kernel compiles and is right on this adapter. */
export function gemmTileRuns(target: KernelTarget, tile: GemmTile): boolean {
  return GEMM_TILES[tile].kernel !== shuffle || target.hasSubgroups === true;
}

/** The kernel of a tile for a form. @throws TypeError for TN with a bf16 operand. */
function gemmVariant(
  tile: GemmTile,
  { layout, vec, bf16 = false, bias = false }: GemmForm,
): KernelVariant {
  if (bf16 && layout === "TN") throw new TypeError("TN takes no bf16 operand");
  const { kernel, constants } = GEMM_TILES[tile];
  const [aT, bT] = [layout === "TN", layout === "NT"];
  return kernel.variant({ ...constants, A_T: aT, B_T: bT, VEC: vec, B_BF16: bf16, BIAS: bias });
}

/** Records a matrix product, on the adapter's matrix units where that was asked for; `tile` overrides the choice. */
export function gemm<S>(recorder: Recorder<S>, product: Gemm<S>, tile?: GemmTile): void {
  const { target } = recorder;
  const { matrix: unit, force } = kernelSettings(target);
  const isFree = tile === undefined && force?.gemmTile === undefined;
  if (isFree && unit && matrixTakes(product)) return matrixGemm(recorder, product, unit);
  const { m, n, k, capacityM } = product;
  const form = gemmForm(product, target);
  const name = tile ?? chooseGemmTile(target, form, capacityM, n);
  const [rows, columns] = GEMM_TILES[name].outputs;
  recorder.dispatch(
    gemmVariant(name, form),
    gemmBindings(recorder, product),
    (sizes) => ({
      params: gemmParams(product, sizes),
      groups: [Math.ceil(n / columns), Math.ceil(dim(m, sizes) / rows), 1],
    }),
    (sizes) => 2 * dim(m, sizes) * n * dim(k, sizes),
  );
}
