/** Every way that a family's config can go, on the GPU against the float64 reference, recomputed as well. */
import assert from "node:assert/strict";
import { assertMaxAbs, assertNear, assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { VARIANTS } from "../models/variants.ts";
import { forward, lossAndGradients } from "../reference/decoder.ts";
import {
  assertNoisyGradients,
  concat,
  modelFolder,
  oneRounding,
  randomExamples,
  TOLERANCE,
  withModel,
} from "../train/support.ts";

const gpu = await sharedGpu();

for (const [name, config] of Object.entries(VARIANTS)) {
  Deno.test(`${name}: logits, loss and gradients`, async () => {
    using folder = modelFolder(config, 11);
    const V = config.vocab_size as number;
    // Longer and shorter than windows; one token alone; past the variants' longrope limits.
    const examples = randomExamples([13, 1, 21, 6], V, 12, 0.5);
    const sequences = examples.map(({ ids }) => ids);
    const logits = concat(forward(config, folder.weights, sequences));
    const expected = lossAndGradients(config, folder.weights, examples);
    // Models of six dimensions can be badly conditioned, and some gradients are zero but for rounding.
    const disturbed = lossAndGradients(config, oneRounding(folder.weights), examples).gradients;
    const whole = await withModel(gpu, folder, async (model) => {
      assertMaxAbs("logits", concat(await model.logits(sequences)), logits, TOLERANCE.logits);
      const { loss, gradients } = await model.lossAndGradients(examples);
      assertNear("loss", loss, expected.loss, TOLERANCE.loss);
      assertNoisyGradients(gradients, expected.gradients, disturbed);
      return { loss, gradients };
    });
    await withModel(gpu, folder, async (model) => {
      const { loss, gradients } = await model.lossAndGradients(examples);
      assert.equal(loss, whole.loss);
      for (const [parameter, gradient] of whole.gradients) {
        assertSameBits(parameter, gradients.get(parameter)!, gradient);
      }
    }, { keepActivations: false });
  });
}
