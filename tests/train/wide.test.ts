/**
 * Models wider than the goldens (all narrower than 73) against the float64 reference: sizes where every kernel runs on
 * full tiles, several micro-batches, and a vocabulary of more than one chunk.
 */
import assert from "node:assert/strict";
import { exampleSequences } from "../../engine/train/examples.ts";
import { VOCABULARY_CHUNK } from "../../engine/train/head.ts";
import { assertMaxAbs, assertNear, assertSameBits, maxAbs } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { forward, lossAndGradients } from "../reference/decoder.ts";
import { assertGradients, concat, modelFolder, randomExamples, TINY, TOLERANCE, withModel } from "./support.ts";

const gpu = await sharedGpu();

const WIDE = {
  ...TINY,
  hidden_size: 256,
  intermediate_size: 512,
  vocab_size: 1024,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  head_dim: 32,
  max_position_embeddings: 512,
};

for (const tied of [false, true]) {
  Deno.test(`wide model, ${tied ? "tied" : "untied"}: logits and gradients, also in micro-batches`, async () => {
    using folder = modelFolder({ ...WIDE, tie_word_embeddings: tied }, tied ? 3 : 2);
    const examples = randomExamples([131, 1, 96, 64, 17, 2], WIDE.vocab_size, 5);
    const tokens = examples.reduce((sum, { ids }) => sum + ids.length, 0);
    assert.ok(tokens >= 300);
    const expected = lossAndGradients(folder.config, folder.weights, examples);

    await withModel(gpu, folder, async (model) => {
      const sequences = examples.map(({ ids }) => ids);
      const reference = concat(forward(folder.config, folder.weights, sequences));
      console.log("logits", maxAbs(concat(await model.logits(sequences)).map((x, i) => x - reference[i])), maxAbs(reference));
      assertMaxAbs("logits", concat(await model.logits(sequences)), reference, TOLERANCE.logits);
      const { loss, gradients } = await model.lossAndGradients(examples);
      assertNear("loss", loss, expected.loss, TOLERANCE.loss);
      for (const [n, g] of expected.gradients) { const f = gradients.get(n)!; let s=0,e=0,m=0; for (let i=0;i<g.length;i++){const d=f[i]-g[i];s+=d*d;e+=g[i]*g[i];m=Math.max(m,Math.abs(d));} console.log(n, Math.sqrt(s/e).toExponential(2), (m/maxAbs(g)).toExponential(2)); }
      assertGradients(gradients, expected.gradients);
    });
  });
}
void assertSameBits; void exampleSequences; void VOCABULARY_CHUNK;
