/**
 * Models wider than the goldens (all narrower than 73) against the float64 reference: sizes where kernels run on full
 * tiles, several micro-batches, and a vocabulary of more than one chunk.
 */
import assert from "node:assert/strict";
import { VOCABULARY_CHUNK } from "../../engine/model/head.ts";
import type { LanguageModel } from "../../engine/language_model.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { assertMaxAbs, assertNear, assertRelL2, assertSameBits, maxAbs } from "../compare.ts";
import { freshGpu, sharedGpu } from "../gpu_device.ts";
import { forward, lossAndGradients } from "../reference/decoder.ts";
import { adamw, clipFactor, globalNorm, zeroMoments } from "../reference/optimizer.ts";
import {
  assertGradients,
  concat,
  modelFolder,
  randomExamples,
  TINY,
  TOLERANCE,
  withModel,
} from "./support.ts";

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

/** A tied matrix of random models makes logits of ±90 at deviation 0.5: as a head it needs 1/√C. */
function shrinkEmbedding(name: string, data: Float32Array): void {
  if (name === "model.embed_tokens.weight") data.forEach((x, i) => data[i] = x / 8);
}

for (const tied of [false, true]) {
  Deno.test(`wide model, ${tied ? "tied" : "untied"}: whole, in micro-batches, and recomputed`, async () => {
    const config = { ...WIDE, tie_word_embeddings: tied };
    using folder = modelFolder(config, tied ? 3 : 2, tied ? shrinkEmbedding : undefined);
    const examples = randomExamples([131, 1, 96, 64, 17, 2], WIDE.vocab_size, 5);
    assert.ok(examples.reduce((sum, { ids }) => sum + ids.length, 0) >= 300);
    const sequences = examples.map(({ ids }) => ids);
    const logits = concat(forward(config, folder.weights, sequences));
    const expected = lossAndGradients(config, folder.weights, examples);
    // Errors were 1e-6 to 2.3e-6 for gradients and 7e-6 for logits when this was written: a tenth of what is allowed.
    const check = async (model: LanguageModel) => {
      const found = await model.lossAndGradients(examples);
      assertNear("loss", found.loss, expected.loss, TOLERANCE.loss);
      assertGradients(found.gradients, expected.gradients);
      return found;
    };

    const whole = await withModel(gpu, folder, async (model) => {
      assertMaxAbs("logits", concat(await model.logits(sequences)), logits, TOLERANCE.logits);
      return await check(model);
    });
    const recomputed = await withModel(gpu, folder, check, { keepActivations: false });
    assert.equal(recomputed.loss, whole.loss);
    for (const [name, gradient] of whole.gradients) {
      assertSameBits(name, recomputed.gradients.get(name)!, gradient);
    }
    // The longest sequence stands alone, shorter ones share a micro-batch.
    await withModel(gpu, folder, async (model) => {
      assertMaxAbs("logits", concat(await model.logits(sequences)), logits, TOLERANCE.logits);
      await check(model);
    }, { maxTokens: 100 });
  });
}

for (const tied of [false, true]) {
  Deno.test(`vocabulary of two chunks, ${tied ? "tied" : "untied"}`, async () => {
    const config = { ...TINY, vocab_size: 2 * VOCABULARY_CHUNK - 1, tie_word_embeddings: tied };
    using folder = modelFolder(config, 4);
    const examples = randomExamples([23, 9, 14], config.vocab_size, 6);
    // First and last token of each chunk, as inputs and as labels.
    const edges = [0, VOCABULARY_CHUNK - 1, VOCABULARY_CHUNK, config.vocab_size - 1];
    examples.push({ ids: [5, ...edges], labels: [-100, ...edges] });
    const sequences = examples.map(({ ids }) => ids);
    const reference = forward(config, folder.weights, sequences);
    const expected = lossAndGradients(config, folder.weights, examples);
    for (const keepActivations of [true, false]) {
      await withModel(gpu, folder, async (model) => {
        assertMaxAbs("logits", concat(await model.logits(sequences)), concat(reference), TOLERANCE.logits);
        const { loss, gradients } = await model.lossAndGradients(examples);
        assertNear("loss", loss, expected.loss, TOLERANCE.loss);
        assertGradients(gradients, expected.gradients);

        const scored = await model.score(examples);
        const rows = scored.flat();
        const nats = -rows.reduce((sum, { logProbability }) => sum + logProbability, 0) / rows.length;
        assertNear("mean log-probability", nats, expected.loss, TOLERANCE.loss);
        assertGreedy(examples, reference, config.vocab_size, scored);
      }, { keepActivations });
    }
  });
}

Deno.test("vocabulary of 262,144: one optimizer step of a narrow Gemma 3 is the reference's", async () => {
  const config = {
    model_type: "gemma3_text",
    vocab_size: 262_144,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 8,
    sliding_window: 5,
    sliding_window_pattern: 2,
    query_pre_attn_scalar: 8,
    rope_theta: 1e6,
    rope_local_base_freq: 1e4,
    rms_norm_eps: 1e-6,
    max_position_embeddings: 64,
  };
  using folder = modelFolder(config, 21, shrinkEmbedding);
  const examples = randomExamples([18, 18], config.vocab_size, 22, 1);
  const expected = lossAndGradients(config, folder.weights, examples);
  // The whole embedding is 16 MiB; this device binds 3 MiB of it.
  using device = await freshGpu({ limits: { maxStorageBufferBindingSize: 3 << 20 } });
  await withModel(device, folder, async (model) => {
    assert.equal(model.parameters.all[0].shards.length, 6);
    const { gradients, loss } = await model.lossAndGradients(examples);
    assertNear("loss", loss, expected.loss, TOLERANCE.loss);
    // The head's gradient adds 262,144 products one by one: √262,144 roundings of partial sums, of random sign.
    const sum = TOLERANCE.gradientOverMax + Math.sqrt(config.vocab_size) * 2 ** -24;
    assertGradients(gradients, expected.gradients, { gradientOverMax: sum, gradientRelL2: sum });
    using trainer = new Trainer(model, { learningRate: 1e-3, totalSteps: 1 });
    const { gradNorm } = await trainer.step(examples);
    const norm = globalNorm(expected.gradients.values());
    assertNear("gradient norm", gradNorm, norm, 1e-5 * norm);
    const factor = clipFactor(norm, 1);
    for (const [name, start] of folder.weights) {
      const [p, gradient] = [start.slice(), expected.gradients.get(name)!];
      const numbers = { learningRate: 1e-3, weightDecay: 0, step: 1 };
      adamw(p, gradient.map((g) => g * factor), zeroMoments(p.length), numbers);
      // Adam's first step has the gradient's sign alone: elements of pure noise are left out.
      const noise = 1e-4 * maxAbs(gradient);
      const found = await model.parameter(name);
      const near = (values: ArrayLike<number>) =>
        Float64Array.from(gradient, (g, i) => Math.abs(g) < noise ? 0 : values[i] - start[i]);
      assertRelL2(`update of ${name}`, near(found), near(p), 1e-4);
    }
  });
});

/** The greedy token is the reference's, or one within rounding of it. */
function assertGreedy(
  examples: readonly { labels: readonly number[] }[],
  reference: readonly Float64Array[],
  V: number,
  scored: readonly (readonly { greedy: number }[])[],
): void {
  examples.forEach(({ labels }, e) => {
    let row = 0;
    labels.forEach((label, t) => {
      if (t === 0 || label === -100) return;
      const logits = reference[e].subarray((t - 1) * V, t * V);
      const best = logits.reduce((top, x) => Math.max(top, x));
      assertNear(`greedy logit, example ${e} token ${t}`, logits[scored[e][row++].greedy], best, 1e-4);
    });
    assert.equal(row, scored[e].length);
  });
}
