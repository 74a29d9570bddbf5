/**
 * The goldens on every kernel variant that the adapter runs, forced: every pair of golden, GEMM tile, row reduction,
 * attention kernel, vector width and activation checkpointing occurs (pairwise, see tests/pairwise.ts).
 */
import assert from "node:assert/strict";
import { openGpu } from "../../engine/ops/target.ts";
import { GEMM_TILES, type GemmTile, gemmTileRuns } from "../../engine/ops/matmul.ts";
import { Model } from "../../mod.ts";
import {
  assertGradient,
  assertMaxAbs,
  assertNear,
  batch,
  floats,
  GOLDEN_MODELS,
  loadGolden,
} from "../golden.ts";
import { sharedGpu } from "../gpu_device.ts";
import { allPairs, pairsOf, pairwise } from "../pairwise.ts";
import { concat } from "../train/support.ts";

const gpu = await sharedGpu();

const FACTORS = {
  golden: GOLDEN_MODELS,
  gemmTile: (Object.keys(GEMM_TILES) as GemmTile[]).filter((tile) => gemmTileRuns(gpu, tile)),
  rows: ["lanes", "workgroup"],
  attention: (["lanes", "shared", "workgroup"] as const).filter((kind) =>
    kind !== "shared" || gpu.hasSubgroups
  ),
  vectorWidth: [1, 4],
  keepActivations: [true, false],
} as const;

const CASES = pairwise(FACTORS);

/** Constants by kernel that must be seen in a combination. */
function expectedConstants({ gemmTile, rows, attention, vectorWidth }: typeof CASES[number]) {
  const { kernel, constants } = GEMM_TILES[gemmTile];
  const vectors = vectorWidth === 1 ? { VEC: false } : {};
  return {
    [kernel.name]: { ...constants, ...vectors },
    norm_forward: { THREADS: rows === "lanes" ? 1 : 64, ...vectors },
    cross_entropy_gradient: { THREADS: rows === "lanes" ? 1 : 64, ...vectors },
    attention_backward_kv: {
      TILE: attention === "workgroup" ? 32 : 8,
      SHARE: attention === "shared",
      ...vectors,
    },
  };
}

Deno.test("forced kernels: every pair of choices is covered", () => {
  const covered = new Set(CASES.flatMap((combination) => pairsOf(combination)));
  assert.deepEqual([...allPairs(FACTORS)].filter((pair) => !covered.has(pair)), []);
});

for (const combination of CASES) {
  const { golden: name, keepActivations, ...force } = combination;
  Deno.test(`golden ${name} with ${Object.values(force).join(", ")}, ${keepActivations ? "kept" : "recomputed"}`, async () => {
    const golden = loadGolden(name);
    const { tolerances, batches } = golden.golden;
    const forced = await openGpu({ device: gpu.device, adapterInfo: gpu.device.adapterInfo, force });
    const seen = new Map<string, Set<string>>();
    forced.onDispatch = ({ kernel, constants }) => {
      seen.set(kernel.name, (seen.get(kernel.name) ?? new Set()).add(JSON.stringify(constants)));
    };
    try {
      using model = await Model.load(forced, golden.dir, { keepActivations });
      const examples = batch(golden, "right");
      const logits = concat(await model.logits(examples.map(({ ids }) => ids)));
      assertMaxAbs("logits", logits, floats(golden, "right.logits"), tolerances.logits_abs);
      const { loss, gradients } = await model.lossAndGradients(examples);
      assertNear("loss", loss, batches.right.loss, tolerances.loss_abs);
      for (const [parameter, gradient] of gradients) assertGradient(golden, parameter, gradient);
    } finally {
      forced.onDispatch = undefined;
    }
    for (const [kernel, constants] of Object.entries(expectedConstants(combination))) {
      const variants = [...seen.get(kernel) ?? []].map((text) => JSON.parse(text));
      assert.ok(variants.length, `${kernel} never ran`);
      for (const variant of variants) {
        for (const [key, value] of Object.entries(constants)) {
          assert.equal(variant[key], value, `${kernel} ${key}`);
        }
      }
    }
    const others = [...seen.keys()].filter((kernel) => kernel.startsWith("gemm_"));
    assert.deepEqual(others, [GEMM_TILES[force.gemmTile].kernel.name]);
  });
}
