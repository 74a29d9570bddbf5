/** Which dispatches count as a full tile of which kernel family, and the check that each was seen. */
import type { Gpu } from "../../engine/gpu/context.ts";
import assert from "node:assert/strict";
import type { TemplateConstants } from "../../engine/gpu/template.ts";
import { GEMM_TILES } from "../../engine/ops/matmul.ts";

type Params = Readonly<Record<string, number>>;

/** One family: a kernel with some constants fixed. */
interface FullTile {
  kernel: string;
  constants: TemplateConstants;
  /** In words, for the failure's message. */
  meaning: string;
  isFull: (params: Params, constants: TemplateConstants) => boolean;
}

const elementwise = (
  kernel: string,
  constants: TemplateConstants,
  count: (p: Params) => number,
): FullTile => ({
  kernel,
  constants,
  meaning: "at least one whole workgroup of 64 elements",
  isFull: (params) => count(params) >= 64,
});

/** A family twice: with vector width 4, and 1. */
const widths = (family: (VEC: { VEC: boolean }, width: number) => FullTile[]): FullTile[] => [
  ...family({ VEC: true }, 4),
  ...family({ VEC: false }, 1),
];

/** Kernels of shaders/rows.wgsl: 8 rows of one invocation, or a row of 64. */
const rows = (kernel: string, constants: TemplateConstants = {}): FullTile[] => [
  {
    kernel,
    constants: { ...constants, THREADS: 1, ROWS: 8 },
    meaning: "8 rows",
    isFull: (p) => p.rows >= 8,
  },
  {
    kernel,
    constants: { ...constants, THREADS: 64, ROWS: 1 },
    meaning: "64 columns, or vectors of them",
    isFull: (p) => p.columns >= (constants.VEC ? 256 : 64),
  },
];

const attention = (kernel: string): FullTile[] =>
  [{ TILE: 8, SHARE: false }, { TILE: 8, SHARE: true }, { TILE: 32, SHARE: false }].flatMap((tile) =>
    [true, false].flatMap((VEC) =>
      [true, false].map((CAP) => ({
        kernel,
        constants: { ...tile, VEC, CAP, CHUNK4: 8 },
        meaning: "several tiles of a head of more than 32 dimensions",
        isFull: (p: Params, c: TemplateConstants) => p.tiles > 2 && Number(c.D4) > 8,
      }))
    )
  );

const gemms: FullTile[] = Object.values(GEMM_TILES).flatMap(({ kernel, constants, outputs: [m, n] }) =>
  [[false, true], [false, false], [true, false]].flatMap(([A_T, B_T]) =>
    [true, false].map((VEC) => {
      const depth = "TK" in constants ? constants.TK : 4;
      return {
        kernel: kernel.name,
        constants: { ...constants, A_T, B_T, VEC },
        meaning: `${m}×${n} outputs of depth ${depth}`,
        isFull: (p: Params) => p.M >= m && p.N >= n && p.K >= depth,
      };
    })
  )
);

const matrixGemms: FullTile[] = [
  ...[[false, true], [false, false], [true, false]].flatMap(([A_T, B_T]) =>
    [true, false].map((VEC) => ({
      kernel: "gemm_subgroup_matrix",
      constants: { A_T, B_T, VEC },
      meaning: "2×2 subgroups' outputs of depth 32",
      isFull: (p: Params, c: TemplateConstants) =>
        p.M >= 2 * Number(c.UNIT_M) * Number(c.FRAGMENTS_M) &&
        p.N >= 2 * Number(c.UNIT_N) * Number(c.FRAGMENTS_N) && p.K >= 32,
    }))
  ),
  ...[true, false].map((BF16) => ({
    kernel: "largest_magnitude",
    constants: { BF16 },
    meaning: "more than one element an invocation",
    isFull: (p: Params, c: TemplateConstants) => p.rows * p.columns > Number(c.SLABS) * 64,
  })),
];

/** By the test file that must dispatch them: `group` is tests/ops/`group`.test.ts. */
export const FULL_TILES: Readonly<Record<string, readonly FullTile[]>> = {
  matmul: gemms,
  matmul_matrix: matrixGemms,
  attention: [
    ...["attention_forward", "attention_backward_q", "attention_backward_kv"].flatMap(attention),
    elementwise("attention_delta", {}, (p) => p.rows),
  ],
  norm: [
    ...[true, false].flatMap((LAYER) => [
      ...[true, false].flatMap((BIAS) =>
        [true, false].flatMap((RESIDUAL) =>
          widths((VEC) => rows("norm_forward", { LAYER, BIAS, RESIDUAL, ...VEC }))
        )
      ),
      ...widths((VEC) => rows("norm_backward_input", { LAYER, ...VEC })),
      ...widths((VEC, width) => [{
        kernel: "norm_backward_weight",
        constants: { LAYER, ...VEC },
        meaning: "64 columns, or vectors of them, of a slab of vectors",
        isFull: (p: Params) => p.columns >= 64 * width && p.rows * p.heads >= p.slab,
      }]),
    ]),
    {
      kernel: "column_sums",
      constants: {},
      meaning: "64 columns of several slabs",
      isFull: (p) => p.columns >= 64 && p.slabs > 1,
    },
  ],
  bias: [{
    kernel: "column_slabs",
    constants: {},
    meaning: "64 columns of several slabs",
    isFull: (p) => p.columns >= 64 && p.rows > p.slab,
  }],
  rope: widths((VEC, width) => [elementwise("rope", VEC, (p) => p.rows * p.heads * p.rotary / 2 / width)]),
  activation: ["activation_forward", "activation_backward"].flatMap((kernel) =>
    ["SILU", "GELU", "GELU_TANH"].flatMap((kind) =>
      [true, false].flatMap((GATED) =>
        widths((VEC, width) => [
          elementwise(kernel, { [kind]: true, GATED, ...VEC }, (p) => p.rows * p.columns / width),
        ])
      )
    )
  ),
  soft_cap: [elementwise("soft_cap", {}, (p) => p.count)],
  elementwise: [
    elementwise("fill", {}, (p) => p.count),
    ...widths((VEC, width) => [elementwise("average", { ...VEC }, (p) => p.count / width)]),
    elementwise("gather_rows", {}, (p) => p.rows * p.columns),
    elementwise("scatter_add_rows", {}, (p) => p.rows * p.columns),
    ...[true, false].map((BF16) => elementwise("embedding_forward", { BF16 }, (p) => p.rows * p.columns)),
    elementwise("embedding_backward", {}, (p) => p.columns),
  ],
  cross_entropy: [
    ...[[false, false], [true, false], [false, true]].flatMap(([HAS_DENSE, HAS_TOP]) =>
      widths((VEC) => [
        ...rows("cross_entropy_stats", { HAS_DENSE, HAS_TOP, ...VEC }),
        ...[true, false].flatMap((CAP) =>
          rows("cross_entropy_gradient", { HAS_DENSE, HAS_TOP, CAP, ...VEC })
        ),
      ])
    ),
    ...widths((VEC) => rows("argmax", { ...VEC })),
  ],
  kv_cache: [elementwise("kv_cache_write", {}, (p) => p.rows * p.heads * p.head_dim * 2)],
  storage: widths((VEC, width) => [
    elementwise("adamw", { BF16: false, AVERAGE: true, ...VEC }, (p) => p.count / width),
    ...[true, false].flatMap((LOWER) => [
      ...[true, false].map((AVERAGE) =>
        elementwise("adamw", { BF16: true, LOWER, AVERAGE, ...VEC }, (p) => p.count / Math.max(2, width))
      ),
      elementwise("average", { BF16: true, LOWER, ...VEC }, (p) => p.count / Math.max(2, width)),
    ]),
  ]),
  optimizer: [
    ...widths((VEC, width) => [
      elementwise("adamw", { BF16: false, AVERAGE: false, ...VEC }, (p) => p.count / width),
    ]),
    ...widths((VEC) => [
      {
        kernel: "sum_squares",
        constants: { THREADS: 1, ROWS: 8, ...VEC },
        meaning: "8 whole slabs",
        isFull: (p) => p.count >= 8 * p.slab,
      },
      {
        kernel: "sum_squares",
        constants: { THREADS: 64, ROWS: 1, ...VEC },
        meaning: "a whole slab",
        isFull: (p) => p.count >= p.slab,
      },
    ]),
    {
      kernel: "clip_factor",
      constants: { THREADS: 64, ROWS: 1 },
      meaning: "64 slabs",
      isFull: (p) => p.count >= 64,
    },
  ],
};

/**
 * Watches the dispatches of some GPUs from here, and as the file's last test asserts that the group's were all full once;
 * `runs` leaves out what this adapter can't run.
 */
export function coverageTest(
  gpus: Gpu | readonly Gpu[],
  group: string,
  register: (check: () => void) => void,
  runs: (family: FullTile) => boolean = () => true,
): void {
  const families = FULL_TILES[group].filter(runs);
  const seen = new Set<FullTile>();
  const observe: Gpu["onDispatch"] = ({ kernel, constants }, { params }) => {
    for (const family of families) {
      if (family.kernel !== kernel.name || seen.has(family)) continue;
      const fits = Object.entries(family.constants).every(([name, value]) => constants[name] === value);
      if (fits && family.isFull(params, constants)) seen.add(family);
    }
  };
  for (const gpu of [gpus].flat()) gpu.onDispatch = observe;
  register(() => {
    const missing = families.filter((family) => !seen.has(family)).map(({ kernel, constants, meaning }) =>
      `${kernel} ${JSON.stringify(constants)}: ${meaning}`
    );
    assert.deepEqual(missing, [], "kernel families that never ran on a full tile");
  });
}
