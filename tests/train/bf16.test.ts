/** Weights stored as bf16: exact where the checkpoint is bf16, else as the reference on rounded weights. */
import assert from "node:assert/strict";
import { Model, Trainer } from "../../mod.ts";
import { assertMaxAbs, assertRelL2, assertSameBits, maxAbs } from "../compare.ts";
import {
  assertNear,
  batch,
  floats,
  type Golden,
  GOLDEN_MODELS,
  keptIndices,
  loadGolden,
  trainBatches,
} from "../golden.ts";
import { sharedGpu } from "../gpu_device.ts";
import { forward, lossAndGradients } from "../reference/decoder.ts";
import { adamw, average, clipFactor, globalNorm, zeroMoments } from "../reference/optimizer.ts";
import { nearestBf16 } from "../reference/storage.ts";
import { assertGradients, concat, folder, parametersOf } from "./support.ts";

const gpu = await sharedGpu();

/** Weights as they are computed with: matrices in bf16, vectors as they are. */
function rounded(golden: Golden, weights: Iterable<[string, ArrayLike<number>]>): Map<string, Float64Array> {
  return new Map(Array.from(weights, ([name, data]) => {
    const isMatrix = golden.weights.get(name)!.shape.length > 1;
    return [name, Float64Array.from(data, (x) => isMatrix ? nearestBf16(x) : x)];
  }));
}

for (const name of GOLDEN_MODELS) {
  const golden = loadGolden(name);
  const { tolerances, weights_dtype, train } = golden.golden;
  const { config } = golden;

  if (weights_dtype === "BF16") {
    Deno.test(`bf16 ${name}: a bf16 checkpoint gives the bits of f32, and is saved as it was`, async () => {
      using whole = await Model.load(gpu, golden.dir);
      const examples = batch(golden, "right");
      const logits = concat(await whole.logits(examples.map(({ ids }) => ids)));
      const { loss, gradients } = await whole.lossAndGradients(examples);
      for (const master of ["f32", "none"] as const) {
        using model = await Model.load(gpu, golden.dir, { dtype: "bf16", master });
        assert.deepEqual(concat(await model.logits(examples.map(({ ids }) => ids))), logits);
        const found = await model.lossAndGradients(examples);
        assert.equal(found.loss, loss);
        for (const [parameter, gradient] of gradients) {
          assertSameBits(parameter, found.gradients.get(parameter)!, gradient);
        }
        using out = folder();
        await model.save(`${out.dir}/saved`);
        assert.deepEqual(
          Deno.readFileSync(`${out.dir}/saved/model.safetensors`),
          Deno.readFileSync(`${golden.dir}/model.safetensors`),
        );
      }
    });
  } else {
    Deno.test(`bf16 ${name}: a ${weights_dtype} checkpoint is rounded to nearest, within the bound of that`, async () => {
      const stored = Array.from(golden.weights, ([parameter, { data }]) => [parameter, data] as const);
      const weights = rounded(golden, stored as [string, Float32Array][]);
      using model = await Model.load(gpu, golden.dir, { dtype: "bf16", master: "f32" });
      const examples = batch(golden, "right");
      const sequences = examples.map(({ ids }) => ids);
      const expected = concat(forward(config, weights, sequences));
      const logits = concat(await model.logits(sequences));
      assertMaxAbs("logits", logits, expected, tolerances.logits_abs);
      const reference = lossAndGradients(config, weights, examples);
      const { loss, gradients } = await model.lossAndGradients(examples);
      assertNear("loss", loss, reference.loss, tolerances.loss_abs);
      assertGradients(gradients, reference.gradients);
      // Rounding to nearest moves a weight by at most 2^-8 of itself, so to first order the loss by Σ|g·w|·2^-8.
      let bound = 0;
      for (const [parameter, { data, shape }] of golden.weights) {
        const g = floats(golden, `grad/${parameter}`);
        if (shape.length > 1) data.forEach((w, i) => bound += Math.abs(g[i] * w) * 2 ** -8);
      }
      assertNear("loss, unrounded", loss, golden.golden.batches.right.loss, bound);
      assert.ok(maxAbs(logits.map((z, i) => z - floats(golden, "right.logits")[i])) > tolerances.logits_abs);
    });
  }

  Deno.test(`bf16 ${name}: two steps with masters and averaging, against the reference from the same masters`, async () => {
    using model = await Model.load(gpu, golden.dir, { dtype: "bf16", master: "f32" });
    using trainer = new Trainer(model, {
      learningRate: train.lr_initial,
      totalSteps: train.steps,
      weightDecay: train.weight_decay,
      betas: train.betas,
      epsilon: train.eps,
      maxGradNorm: train.max_grad_norm,
    });
    const moments = new Map(train.parameter_order.map((parameter) => {
      return [parameter, zeroMoments(golden.weights.get(parameter)!.data.length)];
    }));
    for (const [s, examples] of trainBatches(golden).slice(0, 2).entries()) {
      const masters = await parametersOf(model);
      const { loss, gradients } = lossAndGradients(config, rounded(golden, masters), examples);
      const norm = globalNorm(gradients.values());
      const found = await trainer.step(examples);
      assertNear(`loss of step ${s}`, found.loss, loss, tolerances.train_loss_abs);
      assertNear(`norm of step ${s}`, found.gradNorm, norm, tolerances.train_grad_norm_rel * norm);
      await trainer.average(train.average_lambda);
      const after = await parametersOf(model);
      const factor = clipFactor(norm, train.max_grad_norm);
      for (const [parameter, master] of masters) {
        const start = golden.weights.get(parameter)!;
        const p = Float64Array.from(master);
        const weightDecay = start.shape.length > 1 ? train.weight_decay : 0;
        const clipped = gradients.get(parameter)!.map((g) => g * factor);
        adamw(p, clipped, moments.get(parameter)!, {
          learningRate: found.learningRate,
          weightDecay,
          step: s + 1,
          betas: train.betas,
          epsilon: train.eps,
        });
        average(p, Float64Array.from(start.data), train.average_lambda);
        // Elements whose gradient is noise step either way.
        const indices = keptIndices(golden, parameter);
        const kept = (values: ArrayLike<number>) => indices.map((i) => values[i] - master[i]);
        assertRelL2(
          `${parameter} after step ${s}`,
          kept(after.get(parameter)!),
          kept(p),
          tolerances.final_update_rel_l2_unskipped,
        );
      }
    }
  });
}

Deno.test("bf16 without masters: the same bits again, other bits with another seed", async () => {
  const golden = loadGolden("llama");
  const run = async (seed: number) => {
    using model = await Model.load(gpu, golden.dir, { dtype: "bf16", master: "none" });
    using trainer = new Trainer(model, { learningRate: 1e-3, totalSteps: 5, seed });
    for (const examples of trainBatches(golden).slice(0, 3)) await trainer.step(examples);
    const parameters = await parametersOf(model);
    for (const [name, data] of parameters) {
      if (golden.weights.get(name)!.shape.length > 1) assertSameBits(name, data.map(nearestBf16), data);
    }
    return concat([...parameters.values()]);
  };
  const [first, again, other] = [await run(1), await run(1), await run(2)];
  assert.deepEqual(again, first);
  assert.notDeepEqual(other, first);
});
