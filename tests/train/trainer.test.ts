import assert from "node:assert/strict";
import type { LanguageModel } from "../../engine/language_model.ts";
import { Trainer, type TrainerOptions } from "../../engine/train/trainer.ts";
import { assertNear, assertRelL2, assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { lossAndGradients } from "../reference/decoder.ts";
import { adamw, average, clipFactor, globalNorm, zeroMoments } from "../reference/optimizer.ts";
import { learningRateAt } from "../reference/schedule.ts";
import { modelFolder, parametersOf, randomExamples, TINY, TOLERANCE, withModel } from "./support.ts";

const gpu = await sharedGpu();
const V = TINY.vocab_size as number;
const EXAMPLES = randomExamples([9, 17, 3, 12], V, 11);

async function withTrainer<T>(
  options: TrainerOptions,
  body: (trainer: Trainer, model: LanguageModel) => Promise<T>,
): Promise<T> {
  using folder = modelFolder(TINY);
  return await withModel(gpu, folder, async (model) => {
    using trainer = new Trainer(model, options);
    return await body(trainer, model);
  });
}

function assertParameters(
  found: ReadonlyMap<string, Float32Array>,
  expected: ReadonlyMap<string, Float32Array>,
): void {
  for (const [name, values] of expected) assertSameBits(name, found.get(name)!, values);
}

const SETTINGS = [
  { schedule: "constant", warmupSteps: 0, maxGradNorm: 0, weightDecay: 0.1, betas: [0.9, 0.999], lambda: 0 },
  { schedule: "linear", warmupSteps: 2, maxGradNorm: 0.5, weightDecay: 0, betas: [0.8, 0.9], lambda: 0.4 },
] as const;

for (const { lambda, ...settings } of SETTINGS) {
  Deno.test(`Trainer follows the float64 trajectory: ${JSON.stringify(settings)}`, async () => {
    using folder = modelFolder(TINY);
    const { config } = folder;
    const rate = { learningRate: 2e-3, totalSteps: 5 };
    // ε well above the noise of the gradients (1e-7), so that no element's step is arbitrary.
    const epsilon = 1e-3;
    const weights = new Map(Array.from(folder.weights, ([name, data]) => [name, data.slice()]));
    const moments = new Map(Array.from(weights, ([name, data]) => [name, zeroMoments(data.length)]));
    await withModel(gpu, folder, async (model) => {
      using trainer = new Trainer(model, { ...rate, ...settings, epsilon });
      for (let s = 0; s < rate.totalSteps; s++) {
        const examples = randomExamples([7, 12, 4], V, 20 + s);
        const { loss, gradients } = lossAndGradients(config, weights, examples);
        const norm = globalNorm(gradients.values());
        const clip = clipFactor(norm, settings.maxGradNorm);
        const learningRate = learningRateAt({ ...rate, ...settings, kind: settings.schedule }, s);
        for (const [name, p] of weights) {
          const g = gradients.get(name)!.map((x) => x * clip);
          const { betas, weightDecay } = settings;
          const decay = name.includes("norm") ? 0 : weightDecay;
          adamw(p, g, moments.get(name)!, {
            learningRate,
            weightDecay: decay,
            step: s + 1,
            betas,
            epsilon,
          });
          average(p, folder.weights.get(name)!, lambda);
        }
        const found = await trainer.step(examples);
        await trainer.average(lambda);
        assertNear(`loss of step ${s}`, found.loss, loss, TOLERANCE.loss);
        assertNear(`gradient norm of step ${s}`, found.gradNorm, norm, 5e-5 * norm);
        assertNear(`learning rate of step ${s}`, found.learningRate, learningRate, 1e-15);
      }
      assert.equal(trainer.steps, rate.totalSteps);
      for (const [name, values] of await parametersOf(model)) {
        const start = folder.weights.get(name)!;
        const update = (x: ArrayLike<number>) => start.map((value, i) => x[i] - value);
        // 5e-4 is the goldens' final_update_rel_l2_unskipped: updates are small beside a weight's own rounding.
        assertRelL2(`update of ${name}`, update(values), update(weights.get(name)!), 5e-4);
      }
    });
  });
}

Deno.test("Trainer.average: 1 gives the checkpoint's weights, 0 changes nothing, 0.5 the middle", async () => {
  await withTrainer({ learningRate: 1e-2, totalSteps: 2 }, async (trainer, model) => {
    const start = await parametersOf(model);
    await trainer.step(EXAMPLES);
    const stepped = await parametersOf(model);
    assert.notDeepEqual(stepped, start);
    await trainer.average(0);
    assertParameters(await parametersOf(model), stepped);
    await trainer.average(0.5);
    for (const [name, values] of await parametersOf(model)) {
      const [a, b] = [start.get(name)!, stepped.get(name)!];
      values.forEach((x, i) => assertNear(`${name}[${i}]`, x, (a[i] + b[i]) / 2, 1e-7 * Math.abs(x) + 1e-9));
    }
    await trainer.average(1);
    assertParameters(await parametersOf(model), start);
    await trainer.step(EXAMPLES);
    await trainer.average(1);
    assertParameters(await parametersOf(model), start);
  });
});

Deno.test("Trainer.average: a checkpoint that can't be read again is an error every time", async () => {
  await withTrainer({ learningRate: 1e-2, totalSteps: 1 }, async (trainer, model) => {
    await trainer.step(EXAMPLES);
    const stepped = await parametersOf(model);
    const { allocatedBytes } = gpu.memory;
    model.source.checkpoint.close();
    for (let i = 0; i < 2; i++) await assert.rejects(trainer.average(0.5));
    assert.equal(gpu.memory.allocatedBytes, allocatedBytes);
    assertParameters(await parametersOf(model), stepped);
  });
});

Deno.test("Trainer on a trained model averages to the weights at its construction", async () => {
  await withTrainer({ learningRate: 1e-2, totalSteps: 1 }, async (first, model) => {
    await first.step(EXAMPLES);
    const between = await parametersOf(model);
    using second = new Trainer(model, { learningRate: 1e-2, totalSteps: 1 });
    await second.step(EXAMPLES);
    assert.notDeepEqual(await parametersOf(model), between);
    await second.average(1);
    assertParameters(await parametersOf(model), between);
  });
});

Deno.test("Trainer starts with moments of zero, whatever ran before", async () => {
  const options = { learningRate: 1e-2, totalSteps: 1 };
  await withTrainer(options, async (first, model) => {
    await first.step(EXAMPLES);
    const once = await parametersOf(model);
    await first.average(1);
    using second = new Trainer(model, options);
    await second.step(EXAMPLES);
    assertParameters(await parametersOf(model), once);
  });
});

Deno.test("Trainer: a learning rate of 0 leaves every bit", async () => {
  await withTrainer({ learningRate: 0, totalSteps: 1, weightDecay: 0.5 }, async (trainer, model) => {
    const start = await parametersOf(model);
    await trainer.step(EXAMPLES);
    assertParameters(await parametersOf(model), start);
  });
});

Deno.test("Trainer.step: errors name the reason and neither count nor change anything", async () => {
  await withTrainer({ learningRate: 1e-2, totalSteps: 1 }, async (trainer, model) => {
    const start = await parametersOf(model);
    const wrong: [RegExp, unknown[]][] = [
      [/no supervised token/, []],
      [/no supervised token/, [{ ids: [1, 2], labels: [-100, -100] }]],
      [/no supervised token/, [{ ids: [1], labels: [1] }]],
      [/sequence 1, position 0: token 53 is outside the vocabulary of 53/, [
        ...EXAMPLES.slice(0, 1),
        { ids: [V, 1], labels: [-100, 1] },
      ]],
    ];
    for (const [message, examples] of wrong) {
      await assert.rejects(trainer.step(examples as typeof EXAMPLES), { name: "RangeError", message });
    }
    assert.equal(trainer.steps, 0);
    assertParameters(await parametersOf(model), start);
    await trainer.step(EXAMPLES);
    await assert.rejects(trainer.step(EXAMPLES), {
      name: "RangeError",
      message: /all 1 steps of this Trainer are done/,
    });
    for (const lambda of [-0.1, 1.1, NaN]) {
      await assert.rejects(trainer.average(lambda), {
        name: "RangeError",
        message: /lambda is .*expected 0 to 1/,
      });
    }
  });
});

Deno.test("Trainer: options out of range are named", async () => {
  using folder = modelFolder(TINY);
  await withModel(gpu, folder, (model) => {
    const wrong: Record<string, unknown> = {
      learningRate: -1,
      totalSteps: 0,
      weightDecay: NaN,
      betas: [0.9, 1],
      epsilon: 0,
      maxGradNorm: -1,
      warmupSteps: 1.5,
      schedule: "cosine",
    };
    for (const [name, value] of Object.entries(wrong)) {
      const options = { learningRate: 1e-3, totalSteps: 1, [name]: value } as unknown as TrainerOptions;
      assert.throws(() => new Trainer(model, options), {
        name: "RangeError",
        message: new RegExp(`^${name} is `),
      });
    }
    return Promise.resolve();
  });
});
