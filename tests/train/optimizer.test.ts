/** Optimizers as data, and the stages of a step. */
import assert from "node:assert/strict";
import { Slot } from "../../engine/gpu/pool.ts";
import { OptimizerState } from "../../engine/train/optimizer.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { assertRelL2, assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { lossAndGradients } from "../reference/decoder.ts";
import { sgd } from "./sgd.ts";
import { modelFolder, parametersOf, randomExamples, TINY, withModel } from "./support.ts";

const gpu = await sharedGpu();
const V = TINY.vocab_size as number;
const RATE = { learningRate: 0.05, schedule: "constant", totalSteps: 4 } as const;

Deno.test("a stranger's optimizer follows its float64 trajectory", async () => {
  using folder = modelFolder(TINY);
  const weights = new Map(Array.from(folder.weights, ([name, data]) => [name, data.slice()]));
  const velocity = new Map(Array.from(weights, ([name, data]) => [name, new Float64Array(data.length)]));
  await withModel(gpu, folder, async (model) => {
    using trainer = new Trainer(model, { ...RATE, maxGradNorm: 0, optimizer: sgd(0.9) });
    for (let s = 0; s < RATE.totalSteps; s++) {
      const examples = randomExamples([7, 12, 4], V, 20 + s);
      const { gradients } = lossAndGradients(folder.config, weights, examples);
      for (const [name, w] of weights) {
        const [v, g] = [velocity.get(name)!, gradients.get(name)!];
        for (let i = 0; i < w.length; i++) {
          v[i] = 0.9 * v[i] + g[i];
          w[i] -= RATE.learningRate * v[i];
        }
      }
      await trainer.step(examples);
    }
    for (const [name, found] of await parametersOf(model)) assertRelL2(name, found, weights.get(name)!, 2e-6);
  });
});

Deno.test("an optimizer that doesn't average is averaged by a pass of its own", async () => {
  using folder = modelFolder(TINY);
  const run = (inStep: boolean) =>
    withModel(gpu, folder, async (model) => {
      using trainer = new Trainer(model, { ...RATE, optimizer: sgd(0.5) });
      await trainer.loadInitial();
      for (let s = 0; s < 2; s++) {
        const prepared = trainer.backward.prepare([
          { ids: [1, 2, 3 + s], rows: [{ position: 2, weight: 1, target: { kind: "label", token: 5 } }] },
        ]);
        await trainer.submit(prepared, inStep ? { average: 0.25 } : {}).result();
        if (!inStep) await trainer.average(0.25);
      }
      return await parametersOf(model);
    });
  const expected = await run(false);
  for (const [name, found] of await run(true)) assertSameBits(name, found, expected.get(name)!);
});

Deno.test("state tensors are counted by what the optimizer declares", async () => {
  using folder = modelFolder(TINY);
  await withModel(gpu, folder, ({ parameters, training }) => {
    const gradient = (parameter: typeof parameters.all[number]) => training.gradients.of(parameter);
    const state = new OptimizerState(sgd(0), parameters.trainable, gradient);
    const weights = parameters.all.reduce((sum, { count }) => sum + Math.ceil(count / 4) * 16, 0);
    assert.equal(state.totalBytes, weights + 16);
    return Promise.resolve();
  });
});

for (const dtype of ["f32", "bf16"] as const) {
  Deno.test(`reduce runs between backward and clipping, ${dtype}: two halves of a batch give what the whole gives`, async () => {
    using folder = modelFolder(TINY);
    const [first, second] = [randomExamples([9, 5], V, 1, 1), randomExamples([8, 6], V, 2, 1)];
    const rows = (examples: typeof first) =>
      examples.map(({ ids }) => ({
        ids,
        rows: ids.slice(1).map((token, position) => {
          return { position, weight: 1 / 24, target: { kind: "label" as const, token } };
        }),
      }));
    const options = { ...RATE, maxGradNorm: 0.1 };
    const whole = await withModel(gpu, folder, async (model) => {
      using trainer = new Trainer(model, options);
      const { gradNorm } = await trainer.stepSequences([...rows(first), ...rows(second)], { limit: 2 });
      return { gradNorm, weights: await parametersOf(model) };
    }, { dtype });
    await withModel(gpu, folder, async (model) => {
      const order: string[] = [];
      using trainer = new Trainer(model, {
        ...options,
        // As another rank's gradients would be: the second half's, added.
        reduce: () => {
          order.push("reduce");
          const { training } = model;
          const prepared = training.prepare(rows(second));
          const losses = new Slot(prepared.rows * 4, "losses").realize(gpu);
          training.submit(prepared, losses, { accumulate: true });
          losses.dispose();
          return Promise.resolve();
        },
      });
      const pending = trainer.submit(trainer.backward.prepare(rows(first)), {
        onGradients: () => void order.push("gradients"),
      });
      const { gradNorm } = await pending.result();
      assert.equal(gradNorm, whole.gradNorm);
      assert.deepEqual([...new Set(order)], ["gradients", "reduce"]);
      for (const [name, found] of await parametersOf(model)) {
        assertSameBits(name, found, whole.weights.get(name)!);
      }
    }, { dtype });
  });
}

Deno.test("a failing reduce fails the step and leaves the weights", async () => {
  using folder = modelFolder(TINY);
  await withModel(gpu, folder, async (model) => {
    const before = await parametersOf(model);
    const reduce = () => Promise.reject(new Error("a rank is gone"));
    using trainer = new Trainer(model, { ...RATE, reduce });
    await assert.rejects(trainer.step(randomExamples([9], V, 1, 1)), { message: "a rank is gone" });
    assert.equal(trainer.steps, 0);
    for (const [name, found] of await parametersOf(model)) assertSameBits(name, found, before.get(name)!);
  });
});
