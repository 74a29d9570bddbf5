import assert from "node:assert/strict";
import { learningRateAt } from "../../engine/train/schedule.ts";
import { loadOptimizerGolden } from "../golden.ts";
import { assertNear } from "../compare.ts";
import { learningRateAt as expectedRate } from "../reference/schedule.ts";

Deno.test("learningRateAt: the optimizer golden's cases", () => {
  const { cases } = loadOptimizerGolden();
  assert.deepEqual(Object.values(cases).map(({ warmup_steps }) => warmup_steps).sort(), [0, 2, null]);
  for (const [name, { lr, lr_initial, warmup_steps }] of Object.entries(cases)) {
    lr.forEach((expected, s) => {
      const found = learningRateAt({
        learningRate: lr_initial,
        totalSteps: lr.length,
        schedule: warmup_steps === null ? "constant" : "linear",
        warmupSteps: warmup_steps ?? 0,
      }, s);
      assertNear(`case ${name}, step ${s}`, found, expected, 1e-15);
    });
  }
});

Deno.test("learningRateAt: both kinds, with and without warm-up, against the reference", () => {
  for (const kind of ["linear", "constant"] as const) {
    for (const warmupSteps of [0, 1, 2, 5, 7]) {
      const totalSteps = 7;
      for (let s = 0; s < totalSteps; s++) {
        assertNear(
          `${kind}, warm-up ${warmupSteps}, step ${s}`,
          learningRateAt({ learningRate: 0.3, totalSteps, schedule: kind, warmupSteps }, s),
          expectedRate({ kind, learningRate: 0.3, totalSteps, warmupSteps }, s),
          1e-16,
        );
      }
    }
  }
});

Deno.test("learningRateAt: linear without warm-up is the default, and never negative", () => {
  const options = { learningRate: 1, totalSteps: 4 };
  assert.deepEqual([0, 1, 2, 3, 4, 5].map((s) => learningRateAt(options, s)), [1, 0.75, 0.5, 0.25, 0, 0]);
});
