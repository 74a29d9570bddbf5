/** The host's side of a step: what is made, submitted and waited for, and averaging in the update's own pass. */
import assert from "node:assert/strict";
import { type Example, exampleSequences } from "../../engine/model/examples.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import type { ModelOptions } from "../../engine/model/model.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { assertSameBits } from "../compare.ts";
import { countGpuCalls } from "../gpu_calls.ts";
import { freshGpu, sharedGpu } from "../gpu_device.ts";
import { modelFolder, parametersOf, randomExamples, TINY } from "./support.ts";

const gpu = await sharedGpu();
const V = TINY.vocab_size as number;
/** Weighted as a mean over 40 rows or so; the weights don't matter here. */
const sequencesOf = (examples: readonly Example[]) => exampleSequences(examples, 1 / 40);

Deno.test("after the first step nothing is made on the device, and each step waits once", async () => {
  using folder = modelFolder(TINY);
  using model = await LanguageModel.load(gpu, folder.dir);
  using trainer = new Trainer(model, { learningRate: 1e-2, totalSteps: 9 });
  await trainer.loadInitial();
  const step = (seed: number, average?: number) =>
    // Always the same number of sequences, so of micro-batches; lengths and rows differ.
    trainer.stepSequences(sequencesOf(randomExamples([20, 9 + seed, 20, 14], V, seed)), {
      limit: 2,
      average,
    });
  await step(1);
  await step(2, 0.5);
  await countGpuCalls(gpu, async (calls) => {
    for (let seed = 3; seed <= 8; seed++) {
      const before = { ...calls };
      await step(seed, seed % 2 ? undefined : 0.25);
      assert.equal(calls.created - before.created, 0, `step ${seed}`);
      assert.equal(calls.maps - before.maps, 1, `step ${seed}`);
      // Two micro-batches, clipping, the update, the readback.
      assert.equal(calls.submits - before.submits, 5, `step ${seed}`);
    }
  });
});

Deno.test("only kernels that run are compiled, each once", async () => {
  using own = await freshGpu();
  const compiled: string[] = [];
  const { pipelines } = own;
  const set = pipelines.set.bind(pipelines);
  pipelines.set = (key, entry) => {
    compiled.push(key);
    return set(key, entry);
  };
  const ran = new Set<string>();
  own.onDispatch = ({ key }) => ran.add(key);
  try {
    using folder = modelFolder(TINY);
    using model = await LanguageModel.load(own, folder.dir, { maxTokens: 32 });
    const examples = randomExamples([12, 30, 7], V, 1);
    await model.score(examples);
    using trainer = new Trainer(model, { learningRate: 1e-2, totalSteps: 2 });
    for (let s = 0; s < 2; s++) await trainer.stepSequences(sequencesOf(examples), { average: 0.5 });
  } finally {
    own.onDispatch = undefined;
  }
  assert.deepEqual(compiled.sort(), [...ran].sort());
});

Deno.test("losses and gradients of several micro-batches wait once for the losses", async () => {
  using folder = modelFolder(TINY);
  using model = await LanguageModel.load(gpu, folder.dir, { maxTokens: 24 });
  const sequences = sequencesOf(randomExamples([20, 9, 20, 14], V, 5));
  await countGpuCalls(gpu, async (calls) => {
    const losses = await model.training.run(sequences);
    assert.equal(calls.maps, 1);
    assert.ok(losses.length > 4 && losses.every((loss) => loss > 0));
  });
});

Deno.test("Trainer.submit: the next step is prepared meanwhile, with the bits of one after the other", async () => {
  using folder = modelFolder(TINY);
  const steps = [3, 4, 5].map((seed) => sequencesOf(randomExamples([12, 30, 7], V, seed)));
  const run = async (ahead: boolean) => {
    using model = await LanguageModel.load(gpu, folder.dir, { maxTokens: 32 });
    using trainer = new Trainer(model, { learningRate: 1e-2, totalSteps: 3 });
    const results = [];
    let next = model.training.prepare(steps[0]);
    for (const [i, sequences] of steps.entries()) {
      if (!ahead) results.push(await trainer.stepSequences(sequences));
      else {
        const pending = trainer.submit(next);
        if (i + 1 < steps.length) next = model.training.prepare(steps[i + 1]);
        // A longer sequence makes the pass anew; a measurement comes between.
        if (i === 1) await model.lossAndGradients(randomExamples([80], V, 1));
        results.push(await pending.result());
      }
    }
    return { results, parameters: await parametersOf(model) };
  };
  const plain = await run(false);
  const { results, parameters } = await run(true);
  for (const [name, values] of plain.parameters) assertSameBits(name, parameters.get(name)!, values);
  assert.deepEqual(results, plain.results);
});

Deno.test("Trainer.submit: a step whose result nobody asked for, and averaging without weights, are errors", async () => {
  using folder = modelFolder(TINY);
  using model = await LanguageModel.load(gpu, folder.dir);
  using trainer = new Trainer(model, { learningRate: 1e-2, totalSteps: 3 });
  const prepared = model.training.prepare(sequencesOf(randomExamples([12, 7], V, 1)));
  assert.throws(() => trainer.submit(prepared, { average: 0.5 }), {
    name: "TypeError",
    message: /loadInitial/,
  });
  assert.throws(() => trainer.submit(prepared, { average: 1.5 }), {
    message: /lambda is 1\.5, expected 0 to 1/,
  });
  assert.equal(trainer.steps, 0);
  const pending = trainer.submit(prepared);
  assert.throws(() => trainer.submit(prepared), { name: "TypeError", message: /step 1 was not asked for/ });
  await pending.result();
  await trainer.submit(prepared).result();
  assert.equal(trainer.steps, 2);
});

const STORAGES: ModelOptions[] = [{}, { dtype: "bf16" }, { dtype: "bf16", master: "none" }];
for (const storage of STORAGES) {
  Deno.test(`a step that averages: as a step and average() after it, ${JSON.stringify(storage)}`, async () => {
    using folder = modelFolder(TINY);
    const run = async (together: boolean) => {
      using model = await LanguageModel.load(gpu, folder.dir, storage);
      const settings = { learningRate: 1e-2, totalSteps: 4, weightDecay: 0.1, seed: 3 };
      using trainer = new Trainer(model, settings);
      const norms = [];
      for (let s = 0; s < 4; s++) {
        const sequences = sequencesOf(randomExamples([12, 30, 7], V, s));
        const averages = s % 2 === 1;
        const average = averages && together ? 0.25 : undefined;
        norms.push((await trainer.stepSequences(sequences, { average })).gradNorm);
        if (averages && !together) await trainer.average(0.25);
      }
      return { norms, parameters: await parametersOf(model) };
    };
    const [one, two] = [await run(true), await run(false)];
    if (storage.master !== "none") {
      assert.deepEqual(one.norms, two.norms);
      for (const [name, values] of two.parameters) assertSameBits(name, one.parameters.get(name)!, values);
      return;
    }
    assert.deepEqual(one.norms.slice(0, 2), two.norms.slice(0, 2));
    for (const [name, values] of two.parameters) {
      // Each rounding moves a weight by less than 2^-7 of it: six of them in the two passes, four in the one.
      const size = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) + 4 * 1e-2;
      one.parameters.get(name)!.forEach((value, i) => {
        assert.ok(Math.abs(value - values[i]) < 10 * 2 ** -7 * size, `${name}[${i}]: ${value}, ${values[i]}`);
      });
    }
  });
}
