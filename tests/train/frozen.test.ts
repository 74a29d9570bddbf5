/** Frozen parameters: no gradient, no optimizer state, no weight product; those that are trained get the same bits. */
import assert from "node:assert/strict";
import type { Gpu } from "../../engine/gpu/context.ts";
import { parameterSpecs } from "../../engine/models/spec.ts";
import { modelSpec } from "../../engine/models/families.ts";
import { planTraining } from "../../engine/train/plan.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { VARIANTS } from "../models/variants.ts";
import { assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { type Config, modelFolder, parametersOf, randomExamples, TINY, withModel } from "./support.ts";

const gpu = await sharedGpu();

/** Which parameters are trained, by a name of the choice. */
const CHOICES: Record<string, (name: string) => boolean> = {
  "the last block": (name) => /\.1\./.test(name),
  "the first block": (name) => /\.0\./.test(name),
  "norms and biases": (name) => /norm|bias/.test(name),
  "matrices of attention": (name) => /(q|k|v|qkv|query_key_value)(_proj)?\.weight$/.test(name),
  "the embedding": (name) => /embed/.test(name),
  "what follows the blocks": (name) => !/\.\d+\.|embed/.test(name),
};

/** Weight products (TN) among the dispatches of `work`. */
async function weightProducts(gpu: Gpu, work: () => Promise<unknown>): Promise<number> {
  let count = 0;
  gpu.onDispatch = ({ kernel, constants }) => {
    if (kernel.name.startsWith("gemm_") && constants.A_T) count++;
  };
  try {
    await work();
  } finally {
    gpu.onDispatch = undefined;
  }
  return count;
}

/** Variants whose parameters differ; those that only rotate or look back otherwise have the same ones. */
const STRUCTURES = [
  "llama with biases and erf gelu",
  "qwen3 with biases and layer types",
  "gemma3 with older rope fields",
  "gpt_neox one after the other",
  "gpt_neox tied, without attention biases, with newer rope fields",
  "phi tied, with grouped queries",
  "phi3 with a partial longrope",
];

const CONFIGS: Record<string, Config> = {
  llama: TINY,
  "llama, tied": { ...TINY, tie_word_embeddings: true },
  ...Object.fromEntries(STRUCTURES.map((name) => [name, VARIANTS[name]])),
};

for (const [kind, config] of Object.entries(CONFIGS)) {
  Deno.test(`frozen, ${kind}: trained parameters get the bits of full training, others nothing`, async () => {
    using folder = modelFolder(config);
    const V = config.vocab_size as number;
    const examples = randomExamples([9, 14], V, 3);
    const whole = await withModel(gpu, folder, (model) => model.lossAndGradients(examples));
    const matrices = parameterSpecs(modelSpec(config)).filter(({ shape }) => shape.length > 1);
    for (const [choice, trainable] of Object.entries(CHOICES)) {
      const trained = [...whole.gradients.keys()].filter(trainable);
      if (!trained.length) continue;
      await withModel(gpu, folder, async (model) => {
        let found: typeof whole | undefined;
        const products = await weightProducts(
          gpu,
          async () => found = await model.lossAndGradients(examples),
        );
        assert.equal(found!.loss, whole.loss);
        assert.deepEqual([...found!.gradients.keys()].sort(), trained.sort(), choice);
        for (const name of trained) {
          assertSameBits(`${choice}: ${name}`, found!.gradients.get(name)!, whole.gradients.get(name)!);
        }
        // Embeddings that aren't the head as well have no product.
        const { tied, tensors: { embedding } } = model.spec;
        const expected = matrices.filter(({ name }) => trainable(name) && (tied || name !== embedding));
        assert.equal(products, expected.length, choice);
        const before = await parametersOf(model);
        using trainer = new Trainer(model, { learningRate: 1e-2, totalSteps: 1 });
        await trainer.step(examples);
        for (const [name, values] of await parametersOf(model)) {
          const same = values.every((value, i) => Object.is(value, before.get(name)![i]));
          assert.equal(same, !trainable(name), `${choice}: ${name}`);
        }
      }, { trainable });
    }
  });
}

Deno.test("frozen: the plan has no gradients, moments and saved blocks that nobody needs", () => {
  const config = { ...TINY, num_hidden_layers: 6, hidden_size: 96, head_dim: 24, intermediate_size: 200 };
  const bytes = (trainable?: (name: string) => boolean) => {
    const { parts } = planTraining({ isSoftware: true }, modelSpec(config), {
      train: { tokens: 128, rows: 128 },
      score: { tokens: 64, rows: 64 },
      tables: [],
      keepsInitial: false,
      keepActivations: true,
      dtype: "f32",
      master: "f32",
      trainable,
    });
    return Object.fromEntries(parts.map(({ name, bytes }) => [name, bytes]));
  };
  const [all, last] = [bytes(), bytes((name) => name.includes("layers.5."))];
  assert.equal(all.weights, last.weights);
  const share = last.gradients / all.gradients;
  assert.ok(share > 0.05 && share < 0.25, `${share} of the gradients`);
  assert.ok(last["optimizer moments"] < 0.3 * all["optimizer moments"]);
  assert.ok(last["activations of blocks"] < 0.5 * all["activations of blocks"]);
});

Deno.test("frozen: a Trainer of nothing is refused", async () => {
  using folder = modelFolder(TINY);
  await withModel(gpu, folder, (model) => {
    assert.throws(() => new Trainer(model, { learningRate: 1, totalSteps: 1 }), {
      name: "RangeError",
      message: "no parameter of the model is trained",
    });
    return Promise.resolve();
  }, { trainable: () => false });
});
