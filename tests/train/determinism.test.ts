/** Same numbers from run to run, and what may not change them: order, micro-batches, tokens that nobody asks about. */
import assert from "node:assert/strict";
import { type Example, exampleSequences } from "../../engine/model/examples.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { assertNear, assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { assertGradients, modelFolder, parametersOf, randomExamples, TINY, withModel } from "./support.ts";

const gpu = await sharedGpu();
const V = TINY.vocab_size as number;
const EXAMPLES = randomExamples([9, 17, 3, 30, 2, 12, 21, 5], V, 7);

type Numbers = ReadonlyMap<string, Float32Array>;

function assertAllSameBits(found: Numbers, expected: Numbers): void {
  assert.equal(found.size, expected.size);
  for (const [name, values] of expected) assertSameBits(name, found.get(name)!, values);
}

for (const tied of [false, true]) {
  const config = { ...TINY, tie_word_embeddings: tied };
  const kind = tied ? "tied" : "untied";

  Deno.test(`${kind}: two runs have the same bits`, async () => {
    using folder = modelFolder(config);
    const run = () =>
      withModel(gpu, folder, async (model) => {
        const { loss, gradients } = await model.lossAndGradients(EXAMPLES);
        using trainer = new Trainer(model, { learningRate: 1e-2, totalSteps: 3, weightDecay: 0.1 });
        const steps = [];
        for (let s = 0; s < 3; s++) steps.push(await trainer.step(EXAMPLES));
        await trainer.average(0.3);
        return { loss, gradients, steps, parameters: await parametersOf(model) };
      });
    const [first, second] = [await run(), await run()];
    assert.equal(second.loss, first.loss);
    assertAllSameBits(second.gradients, first.gradients);
    assert.deepEqual(second.steps, first.steps);
    assert.equal(first.steps[0].loss, first.loss);
    assertAllSameBits(second.parameters, first.parameters);
  });

  Deno.test(`${kind}: nothing of an earlier batch stays in the buffers`, async () => {
    using folder = modelFolder(config);
    await withModel(gpu, folder, async (model) => {
      const first = await model.lossAndGradients(EXAMPLES);
      // Same capacity, fewer of everything.
      await model.lossAndGradients(randomExamples([4, 5], V, 8, 1));
      const again = await model.lossAndGradients(EXAMPLES);
      assert.equal(again.loss, first.loss);
      assertAllSameBits(again.gradients, first.gradients);
    });
  });

  Deno.test(`${kind}: the order of examples and micro-batches change only rounding`, async () => {
    using folder = modelFolder(config);
    // Sums of some 50 float32 terms in another order: a few of their 6e-8, amplified by two blocks.
    const rounding = { gradientOverMax: 2e-6, gradientRelL2: 2e-6 };
    const expected = await withModel(gpu, folder, (model) => model.lossAndGradients(EXAMPLES));
    const orders: Example[][] = [EXAMPLES.toReversed(), [...EXAMPLES.slice(3), ...EXAMPLES.slice(0, 3)]];
    for (const examples of orders) {
      const found = await withModel(gpu, folder, (model) => model.lossAndGradients(examples));
      assertNear("loss", found.loss, expected.loss, 2e-6);
      assertGradients(found.gradients, expected.gradients, rounding);
    }
    for (const maxTokens of [1, 20, 33]) {
      const found = await withModel(gpu, folder, (model) => model.lossAndGradients(EXAMPLES), { maxTokens });
      assertNear("loss", found.loss, expected.loss, 2e-6);
      assertGradients(found.gradients, expected.gradients, rounding);
      // A product accumulates token by token from what is there, so splitting the tokens keeps its bits; sums of norm
      // weights go by groups of rows, and a tied matrix adds head and embedding in turn.
      for (const [name, gradient] of expected.gradients) {
        if (name.includes("norm") || tied && name.includes("embed")) continue;
        assertSameBits(`${name}, ${maxTokens} tokens`, found.gradients.get(name)!, gradient);
      }
    }
  });

  Deno.test(`${kind}: the limit of sequences in a micro-batch changes only rounding`, async () => {
    using folder = modelFolder(config);
    const step = (limit?: number) =>
      withModel(gpu, folder, async (model) => {
        using trainer = new Trainer(model, { learningRate: 1e-3, totalSteps: 1 });
        return await trainer.stepSequences(exampleSequences(EXAMPLES, 0.1), { limit });
      });
    const expected = await step();
    for (const limit of [1, 3]) {
      const found = await step(limit);
      assert.equal(found.losses.length, expected.losses.length);
      found.losses.forEach((loss, i) => assertNear(`row ${i}`, loss / 10, expected.losses[i] / 10, 1e-6));
      assertNear("gradient norm", found.gradNorm, expected.gradNorm, 1e-6 * expected.gradNorm);
    }
  });

  Deno.test(`${kind}: what nobody asks about changes nothing`, async () => {
    using folder = modelFolder(config);
    const silent = ({ ids }: Example): Example => ({ ids, labels: ids.map(() => -100) });
    const changed: Example[] = [
      silent(EXAMPLES[3]),
      ...EXAMPLES.map(({ ids, labels }) => ({
        // A label of the first token is never predicted, and what follows the last label is never seen.
        ids: [...ids, 1, 2, 3],
        labels: [ids[0], ...labels.slice(1), -100, -100, -100],
      })),
      silent({ ids: [4], labels: [] }),
      { ids: [7], labels: [7] },
    ];
    await withModel(gpu, folder, async (model) => {
      const expected = await model.lossAndGradients(EXAMPLES);
      const found = await model.lossAndGradients(changed);
      assert.equal(found.loss, expected.loss);
      assertAllSameBits(found.gradients, expected.gradients);
      const scored = await model.score(changed);
      assert.deepEqual(scored.slice(1, -2), await model.score(EXAMPLES));
      assert.deepEqual([scored[0], ...scored.slice(-2)], [[], [], []]);
    });
  });
}
