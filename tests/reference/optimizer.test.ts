import assert from "node:assert/strict";
import { assertClose, assertNear, floats, loadOptimizerGolden } from "../golden.ts";
import { float64 } from "./linear_algebra.ts";
import { adamw, average, clipFactor, globalNorm, zeroMoments } from "./optimizer.ts";
import { learningRateAt, type Schedule } from "./schedule.ts";

Deno.test("AdamW, clipping, averaging and schedules reproduce the optimizer golden", () => {
  const golden = loadOptimizerGolden();
  const steps = 6;
  for (const [name, settings] of Object.entries(golden.cases)) {
    const initial = [0, 1, 2].map((i) => float64(floats(golden, `p0.${i}`)));
    const parameters = initial.map((p) => p.slice());
    const moments = parameters.map((p) => zeroMoments(p.length));
    const schedule: Schedule = {
      kind: settings.warmup_steps === null ? "constant" : "linear",
      learningRate: settings.lr_initial,
      totalSteps: steps,
      warmupSteps: settings.warmup_steps ?? 0,
    };
    for (let s = 0; s < steps; s++) {
      const row = (tensor: string, length: number) =>
        floats(golden, tensor).subarray(s * length, (s + 1) * length);
      const gradients = parameters.map((p, i) => float64(row(`grad.${i}`, p.length)));
      const norm = globalNorm(gradients);
      const learningRate = learningRateAt(schedule, s);
      assertNear(`${name} step ${s} norm`, norm, settings.grad_norm[s], 1e-12);
      assertNear(`${name} step ${s} rate`, learningRate, settings.lr[s], 1e-15);
      const factor = clipFactor(norm, settings.max_grad_norm);
      parameters.forEach((p, i) => {
        adamw(p, gradients[i].map((g) => g * factor), moments[i], {
          learningRate,
          weightDecay: settings.weight_decay[i],
          step: s + 1,
          betas: settings.betas,
          epsilon: settings.eps,
        });
        average(p, initial[i], settings.average_lambda);
        const close = (kind: string, found: Float64Array) =>
          assertClose(`${name}.${kind}.${i} step ${s}`, found, row(`${name}.${kind}.${i}`, p.length), {
            relative: 6e-8,
            absolute: 1e-15,
          });
        close("param", p);
        close("m", moments[i].m);
        close("v", moments[i].v);
      });
    }
  }
});

Deno.test("clipping is off for 0 and null, and passes NaN on", () => {
  assert.equal(clipFactor(5, 0), 1);
  assert.equal(clipFactor(5, null), 1);
  assert.equal(clipFactor(0.5, 1), 1);
  assert.equal(clipFactor(4, 1), 1 / 4.000001);
  assert.ok(Number.isNaN(clipFactor(NaN, 1)));
});
