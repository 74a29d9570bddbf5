/** Parameters split into row shards: the same bits as whole ones. */
import assert from "node:assert/strict";
import { Gpu } from "../../engine/gpu/context.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import type { ModelOptions } from "../../engine/model/model.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { type Config, folder, modelFolder, parametersOf, randomExamples } from "../train/support.ts";

const gpu = await sharedGpu();

/** Matrices of 33 to 140 KiB. */
const CONFIG: Config = {
  model_type: "qwen2",
  hidden_size: 48,
  intermediate_size: 176,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 743,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  max_position_embeddings: 128,
};

/** A device that binds no more than this: the embedding falls into 3 or 6 shards. */
function smaller(bytes: number): Gpu {
  const limits = { maxStorageBufferBindingSize: bytes };
  return new Gpu(gpu.device, gpu.device.adapterInfo, { limits }, gpu.enables);
}

/** Loss, gradients and parameters after two steps and an average, and logits and scores. */
async function everything(target: Gpu, dir: string, saved: string, options: ModelOptions) {
  using model = await LanguageModel.load(target, dir, options);
  const shards = model.parameters.all.map((parameter) => parameter.shards.length);
  const examples = randomExamples([17, 9, 23, 1, 14], 743, 3);
  const { loss, gradients } = await model.lossAndGradients(examples);
  const logits = await model.logits(examples.map(({ ids }) => ids));
  const scores = await model.score(examples);
  using trainer = new Trainer(model, { learningRate: 1e-3, totalSteps: 3, weightDecay: 0.01, seed: 5 });
  const norms = [];
  for (let step = 0; step < 2; step++) norms.push((await trainer.step(examples)).gradNorm);
  await trainer.average(0.25);
  const parameters = await parametersOf(model);
  const pieces = await Promise.all(
    model.parameterNames().map((name) => model.parameter(name)),
  );
  await model.save(saved, { overwrite: true });
  return { shards, loss, gradients, logits, scores, norms, parameters, pieces };
}

for (const tied of [true, false]) {
  for (
    const options of [
      { dtype: "f32" },
      { dtype: "bf16", master: "f32" },
      { dtype: "bf16", master: "none" },
    ] as const
  ) {
    Deno.test(`shards: all bits of an unsplit model, ${JSON.stringify({ tied, ...options })}`, async () => {
      using source = modelFolder({ ...CONFIG, tie_word_embeddings: tied });
      using out = folder();
      // Micro-batches that both devices hold: other ones add gradients in another order.
      const chosen = { ...options, maxTokens: 23 };
      const whole = await everything(gpu, source.dir, `${out.dir}/whole`, chosen);
      assert.ok(whole.shards.every((count) => count === 1));
      const expected = Deno.readFileSync(`${out.dir}/whole/model.safetensors`);
      for (const [bytes, most] of [[64 << 10, 3], [32 << 10, 6]] as const) {
        const split = await everything(smaller(bytes), source.dir, `${out.dir}/split`, chosen);
        assert.equal(Math.max(...split.shards), most);
        assert.equal(split.loss, whole.loss);
        assert.deepEqual(split.norms, whole.norms);
        assert.deepEqual(split.scores, whole.scores);
        split.logits.forEach((logits, i) => assertSameBits(`logits ${i}`, logits, whole.logits[i]));
        for (const [name, gradient] of whole.gradients) {
          assertSameBits(`gradient of ${name}`, split.gradients.get(name)!, gradient);
        }
        for (const [name, parameter] of whole.parameters) {
          assertSameBits(name, split.parameters.get(name)!, parameter);
        }
        assert.deepEqual(Deno.readFileSync(`${out.dir}/split/model.safetensors`), expected);
      }
    });
  }
}

Deno.test("shards: a row that no binding holds is an error that gives the numbers", async () => {
  using source = modelFolder(CONFIG);
  await assert.rejects(LanguageModel.load(smaller(8 << 10), source.dir), {
    name: "RangeError",
    message: /rows of 48 numbers need \d+ bytes in one binding, but at most 8192/,
  });
});

Deno.test("a sequence that fits no micro-batch of the device is an error that says how long one may be", async () => {
  using source = modelFolder(CONFIG);
  using model = await LanguageModel.load(smaller(32 << 10), source.dir);
  await assert.rejects(model.logits([new Array(64).fill(1)]), {
    name: "RangeError",
    message: /a sequence of 64 tokens: this model and device take at most 23 at a time/,
  });
});
