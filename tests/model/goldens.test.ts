/** The engine against the goldens, through the public API and within `tolerances` (never `tolerances_gpu`). */
import assert from "node:assert/strict";
import { Model, Trainer } from "../../mod.ts";
import {
  assertFinalParameter,
  assertGradient,
  assertMaxAbs,
  assertNear,
  batch,
  floats,
  generations,
  type Golden,
  GOLDEN_MODELS,
  keptIndices,
  l2,
  loadGolden,
  trainBatches,
} from "../golden.ts";
import { sharedGpu } from "../gpu_device.ts";
import { argmax } from "../reference/decoder.ts";
import { concat, parametersOf } from "../train/support.ts";

const gpu = await sharedGpu();

for (const name of GOLDEN_MODELS) {
  const golden = loadGolden(name);
  const { tolerances, batches } = golden.golden;

  Deno.test(`golden ${name}: parameters are those of the checkpoint`, async () => {
    using model = await Model.load(gpu, golden.dir);
    assert.deepEqual(model.parameterNames().sort(), [...golden.golden.train.parameter_order].sort());
    for (const [parameter, { data }] of golden.weights) {
      assert.deepEqual(await model.parameter(parameter), data, parameter);
    }
  });

  for (const side of ["right", "left"] as const) {
    Deno.test(`golden ${name}: logits, loss and gradients of the ${side} batch`, async () => {
      using model = await Model.load(gpu, golden.dir);
      const examples = batch(golden, side);
      const logits = concat(await model.logits(examples.map(({ ids }) => ids)));
      assertMaxAbs("logits", logits, floats(golden, "right.logits"), tolerances.logits_abs);
      const { loss, gradients } = await model.lossAndGradients(examples);
      assertNear("loss", loss, batches[side].loss, tolerances.loss_abs);
      assert.equal(gradients.size, golden.golden.train.parameter_order.length);
      for (const [parameter, gradient] of gradients) assertGradient(golden, parameter, gradient);
    });
  }

  if (batches.long) {
    Deno.test(`golden ${name}: a batch beyond the short rotary frequencies, and back`, async () => {
      using model = await Model.load(gpu, golden.dir);
      for (const side of ["long", "right", "long"] as const) {
        const examples = batch(golden, side);
        const logits = concat(await model.logits(examples.map(({ ids }) => ids)));
        assertMaxAbs("logits", logits, floats(golden, `${side}.logits`), tolerances.logits_abs);
      }
      const { loss, gradients } = await model.lossAndGradients(batch(golden, "long"));
      assertNear("loss", loss, batches.long.loss, tolerances.loss_abs);
      for (const [parameter, gradient] of gradients) assertGradient(golden, parameter, gradient, "long.grad");
    });
  }

  Deno.test(`golden ${name}: five steps with averaging`, async () => {
    using model = await Model.load(gpu, golden.dir);
    const { train } = golden.golden;
    using trainer = new Trainer(model, {
      learningRate: train.lr_initial,
      totalSteps: train.steps,
      weightDecay: train.weight_decay,
      betas: train.betas,
      epsilon: train.eps,
      maxGradNorm: train.max_grad_norm,
    });
    for (const [s, examples] of trainBatches(golden).entries()) {
      const { loss, gradNorm, learningRate } = await trainer.step(examples);
      assertNear(`loss of step ${s}`, loss, train.loss[s], tolerances.train_loss_abs);
      const normTolerance = tolerances.train_grad_norm_rel * train.grad_norm[s];
      assertNear(`gradient norm of step ${s}`, gradNorm, train.grad_norm[s], normTolerance);
      assertNear(`learning rate of step ${s}`, learningRate, train.lr[s], 1e-12);
      await trainer.average(train.average_lambda);
      await assertDistances(golden, model, s);
    }
    for (const [parameter, value] of await parametersOf(model)) {
      assertFinalParameter(golden, parameter, value);
    }
  });

  Deno.test(`golden ${name}: greedy tokens, and the distribution after a prompt`, async () => {
    using model = await Model.load(gpu, golden.dir);
    const V = model.spec.vocabulary;
    const written = generations(golden).map(({ prompt, tokens }) => ({ ids: [...prompt], prompt, tokens }));
    const steps = written[0].tokens.length;
    for (let t = 0; t < steps; t++) {
      // One by one: longrope's frequencies go by the longest sequence of a call.
      for (const [i, { ids }] of written.entries()) {
        const [logits] = await model.logits([ids]);
        if (t === 0 && i === 0) assertDistribution(golden, logits.subarray(-V));
        ids.push(argmax(logits.subarray(-V)));
      }
    }
    for (const { ids, prompt, tokens } of written) assert.deepEqual(ids.slice(prompt.length), tokens);

    // The path that checks fingerprints: one teacher-forced pass, argmax on the device.
    const limit = model.spec.ropes[0].long?.after ?? Infinity;
    const asked = written.filter(({ ids }) => ids.length <= limit);
    assert.ok(asked.length >= 2);
    const scored = await model.score(asked.map(({ ids, prompt }) => ({
      ids,
      labels: ids.map((id, t) => t < prompt.length ? -100 : id),
    })));
    assert.deepEqual(
      scored.map((rows) => rows.map(({ greedy }) => greedy)),
      asked.map(({ tokens }) => tokens),
    );
    const p = floats(golden, "gen.probs")[written[0].tokens[0]];
    assertNear("log-probability", scored[0][0].logProbability, Math.log(p), tolerances.logits_abs);
  });
}

function assertDistribution(golden: Golden, logits: Float32Array): void {
  const { tolerances } = golden.golden;
  assertMaxAbs("gen.logits", logits, floats(golden, "gen.logits"), tolerances.logits_abs);
  const top = Math.max(...logits);
  const weights = Float64Array.from(logits, (x) => Math.exp(x - top));
  const sum = weights.reduce((total, x) => total + x, 0);
  const probabilities = weights.map((x) => x / sum);
  assertMaxAbs("gen.probs", probabilities, floats(golden, "gen.probs"), tolerances.probs_abs);
}

/**
 * Distance of each parameter from its start, within `final_update_rel_l2_unskipped`. Adam's steps of skipped elements are
 * noise, each up to the learning rate: they may add the norm of so many.
 */
async function assertDistances(golden: Golden, model: Model, step: number): Promise<void> {
  const { train, tolerances } = golden.golden;
  const expected = floats(golden, "train.update_l2");
  const parameters = await parametersOf(model);
  train.parameter_order.forEach((parameter, p) => {
    const start = golden.weights.get(parameter)!.data;
    const now = parameters.get(parameter)!;
    const distance = l2(Float64Array.from(now, (value, i) => value - start[i]));
    const wanted = expected[step * train.parameter_order.length + p];
    const noise = train.lr.slice(0, step + 1).reduce((sum, lr) => sum + lr, 0) *
      Math.sqrt(start.length - keptIndices(golden, parameter).length);
    const tolerance = tolerances.final_update_rel_l2_unskipped * wanted + noise;
    assertNear(`${parameter}: distance after step ${step}`, distance, wanted, tolerance);
  });
}
