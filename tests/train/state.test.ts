/** A Trainer gives and takes its whole state: what follows has the same bits. */
import assert from "node:assert/strict";
import { Trainer, type TrainerOptions } from "../../engine/train/trainer.ts";
import type { ModelOptions } from "../../engine/model/model.ts";
import { assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { sgd } from "./sgd.ts";
import { modelFolder, parametersOf, randomExamples, TINY, withModel } from "./support.ts";

const gpu = await sharedGpu();
const V = TINY.vocab_size as number;
const batchOf = (step: number) => randomExamples([12, 5, 9], V, 40 + step);
const STEPS = 6;
const OPTIONS: TrainerOptions = { learningRate: 1e-2, totalSteps: STEPS, weightDecay: 0.1, seed: 9 };

const CASES: [string, ModelOptions, Partial<TrainerOptions>][] = [
  ["f32", {}, {}],
  ["bf16 with masters", { dtype: "bf16" }, {}],
  ["bf16 alone", { dtype: "bf16", master: "none" }, {}],
  ["some parameters frozen", { trainable: (name) => !name.includes("mlp") }, {}],
  ["another optimizer", {}, { optimizer: sgd(0.9) }],
];

for (const [kind, modelOptions, options] of CASES) {
  for (const stop of [0, 1, 4]) {
    Deno.test(`state, ${kind}: going on after ${stop} steps gives the bits of an unbroken run`, async () => {
      using folder = modelFolder(TINY);
      const train = async (trainer: Trainer, from: number, to: number) => {
        const results = [];
        for (let s = from; s < to; s++) {
          results.push(await trainer.step(batchOf(s)));
          // An averaging in between counts for its own random bits.
          if (s % 2) await trainer.average(0.25);
        }
        return results;
      };
      const whole = await withModel(gpu, folder, async (model) => {
        using trainer = new Trainer(model, { ...OPTIONS, ...options });
        await trainer.loadInitial();
        const results = await train(trainer, 0, STEPS);
        return { results, weights: await parametersOf(model) };
      }, modelOptions);
      const state = await withModel(gpu, folder, async (model) => {
        using trainer = new Trainer(model, { ...OPTIONS, ...options });
        await trainer.loadInitial();
        await train(trainer, 0, stop);
        return await trainer.state();
      }, modelOptions);
      assert.equal(state.steps, stop);
      await withModel(gpu, folder, async (model) => {
        using trainer = new Trainer(model, { ...OPTIONS, ...options });
        await trainer.loadInitial();
        await trainer.restore(state);
        assert.deepEqual(await train(trainer, stop, STEPS), whole.results.slice(stop));
        for (const [name, found] of await parametersOf(model)) {
          assertSameBits(name, found, whole.weights.get(name)!);
        }
        await assert.rejects(trainer.step(batchOf(0)), {
          message: `all ${STEPS} steps of this Trainer are done`,
        });
      }, modelOptions);
    });
  }
}

Deno.test("state: what doesn't fit is named and nothing is changed", async () => {
  using folder = modelFolder(TINY);
  await withModel(gpu, folder, async (model) => {
    using trainer = new Trainer(model, OPTIONS);
    await trainer.step(batchOf(0));
    const state = await trainer.state();
    const expected = await parametersOf(model);
    const changed = (change: (tensors: Map<string, Uint8Array<ArrayBuffer>>) => void) => {
      const tensors = new Map(
        Array.from(state.tensors, ([name, bytes]) => [name, new Uint8Array(bytes.length)]),
      );
      change(tensors);
      return { ...state, tensors };
    };
    const name = "model.norm.weight/0/first moment";
    const message = (text: string) => ({ name: "TypeError", message: text });
    await assert.rejects(
      trainer.restore(changed((tensors) => tensors.delete(name))),
      message(`state of "${name}": expected 96 bytes, found none`),
    );
    await assert.rejects(
      trainer.restore(changed((tensors) => tensors.set(name, new Uint8Array(92)))),
      message(`state of "${name}": expected 96 bytes, found 92`),
    );
    await assert.rejects(
      trainer.restore(changed((tensors) => tensors.set("model.norm.weight/0/velocity", new Uint8Array(96)))),
      message('state of "model.norm.weight/0/velocity": this training has no such tensor'),
    );
    await assert.rejects(trainer.restore({ ...state, steps: STEPS + 1 }), { name: "RangeError" });
    const pending = trainer.submit(trainer.backward.prepare([
      { ids: [1, 2], rows: [{ position: 1, weight: 1, target: { kind: "label", token: 3 } }] },
    ]));
    await assert.rejects(trainer.state(), message("the result of step 2 was not asked for"));
    await assert.rejects(trainer.restore(state), message("the result of step 2 was not asked for"));
    await pending.result();
    await trainer.restore(state);
    for (const [parameter, found] of await parametersOf(model)) {
      assertSameBits(parameter, found, expected.get(parameter)!);
    }
  });
});
