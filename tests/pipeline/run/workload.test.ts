import assert from "node:assert/strict";
import { LanguageModel } from "../../../engine/language_model.ts";
import { askFingerprints } from "../../../pipeline/measure/evaluate.ts";
import { fingerprintLengths } from "../../../pipeline/objectives/fingerprints.ts";
import { prepareObjectives } from "../../../pipeline/objectives/prepare.ts";
import { passCapacities } from "../../../pipeline/run/memory_plan.ts";
import { trainFingerprints } from "../../../pipeline/run/train.ts";
import { workloadOf } from "../../../pipeline/run/workload.ts";
import { resolveSettings } from "../../../pipeline/settings/finetune.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { modelFolder, TINY } from "../../train/support.ts";
import { NUMBERS } from "../tokenizer/number_tokenizer.ts";
import { FINGERPRINTS, TEMPLATES } from "../train_support.ts";

const gpu = await sharedGpu();

Deno.test("workloadOf: passes of that capacity take everything that a run asks for", async () => {
  for (const maxTokens of [4096, 24]) {
    using folder = modelFolder(TINY, 3);
    using model = await LanguageModel.load(gpu, folder.dir, { maxTokens });
    const settings = resolveSettings({
      num_train_epochs: 11,
      anchor_samples: 5,
      anchor_batch: 5,
      anchor_length: 7,
      fingerprints_per_step: 4,
      benign_proportion: 0.5,
      benign_length: 9,
      benign_samples: 6,
    });
    const work = workloadOf(fingerprintLengths(NUMBERS, FINGERPRINTS, TEMPLATES), settings);
    const capacity = passCapacities(gpu, model.spec, maxTokens, work);
    const task = {
      model,
      settings,
      prompts: NUMBERS,
      fingerprints: FINGERPRINTS,
      templates: TEMPLATES,
      tokenizer: { ...NUMBERS, eosId: undefined } as typeof NUMBERS,
      startIds: [1],
    };
    using objectives = await prepareObjectives(task);
    const passes = [model.training.reserve(capacity.train), model.passes.get("score", capacity.score)];
    await trainFingerprints({ ...task, objectives: objectives.list, learningRate: 1e-3 });
    await askFingerprints(model, NUMBERS, FINGERPRINTS, TEMPLATES);
    const nothing = { tokens: 0, rows: 0 };
    assert.equal(model.training.reserve(nothing), passes[0]);
    assert.equal(model.passes.get("score", nothing), passes[1]);
    // And little more: within the rounding to 64 of what a step has.
    if (maxTokens === 4096) assert.deepEqual(capacity.train, { tokens: 128, rows: 128 });
  }
});
