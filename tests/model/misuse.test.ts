/** What a program that uses models wrongly is told. */
import assert from "node:assert/strict";
import { LanguageModel } from "../../engine/language_model.ts";
import type { Example } from "../../engine/model/examples.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { sharedGpu } from "../gpu_device.ts";
import { modelFolder, TINY, withModel } from "../train/support.ts";

const gpu = await sharedGpu();

Deno.test("a model that was disposed of says so", async () => {
  using folder = modelFolder(TINY);
  const model = await LanguageModel.load(gpu, folder.dir);
  const trainer = new Trainer(model, { learningRate: 1, totalSteps: 1 });
  trainer.dispose();
  const example = { ids: [1, 2], labels: [-100, 2] };
  await assert.rejects(trainer.step([example]), {
    name: "TypeError",
    message: "the Trainer was disposed of",
  });
  model.dispose();
  const gone = { name: "TypeError", message: "the model was disposed of" };
  await assert.rejects(model.logits([[1, 2]]), gone);
  await assert.rejects(model.score([example]), gone);
  await assert.rejects(model.generate([[1]], { maxNewTokens: 1 }), gone);
  await assert.rejects(model.lossAndGradients([example]), gone);
  await assert.rejects(model.parameter("model.norm.weight"), {
    name: "TypeError",
    message: 'the buffer "model.norm.weight" was freed',
  });
  assert.equal(gpu.memory.allocatedBytes, 0);
});

Deno.test("labels of another length, or none, are named", async () => {
  using folder = modelFolder(TINY);
  await withModel(gpu, folder, async (model) => {
    const good = { ids: [1, 2], labels: [-100, 2] };
    const short = { ids: [1, 2, 3], labels: [-100, -100] };
    const expected = {
      name: "RangeError",
      message:
        "example 1 has 3 ids and 2 labels: expected a label for each id, -100 where nothing is supervised",
    };
    using trainer = new Trainer(model, { learningRate: 1, totalSteps: 1 });
    await assert.rejects(trainer.step([good, short]), expected);
    await assert.rejects(model.lossAndGradients([good, short]), expected);
    await assert.rejects(model.score([good, short]), expected);
    await assert.rejects(trainer.step([{ ids: [1, 2] } as unknown as Example]), {
      name: "TypeError",
      message: "example 0 has no labels: expected a list of token ids",
    });
    assert.equal(trainer.steps, 0);
  });
});
