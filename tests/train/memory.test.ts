/** Device memory: what is planned, what is taken, and that all of it is given back. */
import assert from "node:assert/strict";
import { LanguageModel } from "../../engine/language_model.ts";
import { modelSpec } from "../../engine/models/families.ts";
import type { StorageOptions } from "../../engine/model/parameters.ts";
import { planTraining } from "../../engine/train/plan.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { sharedGpu } from "../gpu_device.ts";
import { modelFolder, randomExamples, TINY } from "./support.ts";

const gpu = await sharedGpu();

/** Large enough that weights and activations, not buffers of a few bytes, make the sum. */
const SMALL = { ...TINY, hidden_size: 96, intermediate_size: 200, vocab_size: 700, head_dim: 24 };

const F32 = { dtype: "f32", master: "f32" } as const;
const LAYOUTS = [
  { keepActivations: true, ...F32 },
  { keepActivations: false, ...F32 },
  { keepActivations: true, dtype: "bf16", master: "f32" },
  { keepActivations: false, dtype: "bf16", master: "none" },
] as const;

for (const layout of LAYOUTS) {
  Deno.test(`planTraining: within 10 % of the peak of a run, ${JSON.stringify(layout)}`, async () => {
    using out = modelFolder(SMALL);
    assert.equal(gpu.memory.allocatedBytes, 0);
    gpu.resetPeak();
    const capacity = { train: { tokens: 192, rows: 128 }, score: { tokens: 256, rows: 64 } };
    const examples = randomExamples([60, 60, 60], SMALL.vocab_size, 3, 0.5);
    {
      using model = await LanguageModel.load(gpu, out.dir, layout);
      model.training.reserve(capacity.train);
      model.passes.get("score", capacity.score);
      using trainer = new Trainer(model, { learningRate: 1e-3, totalSteps: 2 });
      for (let s = 0; s < 2; s++) {
        await trainer.step(examples);
        await model.score(examples.slice(0, 1));
        await trainer.average(0.5);
      }
    }
    const { peakBytes, allocatedBytes } = gpu.memory;
    assert.equal(allocatedBytes, 0);
    const plan = planTraining(gpu, modelSpec(SMALL), {
      ...capacity,
      ...layout,
      tables: [],
      keepsInitial: true,
    });
    assert.equal(plan.parts.reduce((sum, { bytes }) => sum + bytes, 0), plan.totalBytes);
    const share = plan.totalBytes / peakBytes;
    assert.ok(share > 0.9 && share < 1.1, `planned ${plan.totalBytes}, took ${peakBytes}`);
  });
}

Deno.test("planTraining: activation checkpointing takes less, more capacity takes more", () => {
  const spec = modelSpec({ ...SMALL, num_hidden_layers: 8 });
  const total = (tokens: number, keepActivations: boolean) =>
    planTraining({ isSoftware: true }, spec, {
      train: { tokens, rows: 64 },
      score: { tokens: 64, rows: 64 },
      tables: [],
      keepsInitial: false,
      keepActivations,
      ...F32,
    }).totalBytes;
  assert.ok(total(1024, false) < 0.6 * total(1024, true));
  assert.ok(total(1024, true) < total(2048, true));
});

Deno.test("planTraining: Llama 3.1 8B, without a device and at once", () => {
  const spec = modelSpec({
    model_type: "llama",
    hidden_size: 4096,
    intermediate_size: 14336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 128256,
    rope_theta: 500000,
    rope_scaling: {
      rope_type: "llama3",
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
  });
  const began = performance.now();
  const capacity = { tokens: 4096, rows: 256 };
  const plan = (keepsInitial: boolean, storage: StorageOptions = F32) =>
    planTraining({ isSoftware: false, maxBindingBytes: 2 ** 31 - 256 }, spec, {
      train: capacity,
      score: capacity,
      tables: [{ name: "distributions", bytes: 1 << 20 }],
      keepsInitial,
      keepActivations: true,
      ...storage,
    });
  const { parts, totalBytes } = plan(false);
  assert.ok(performance.now() - began < 1000);
  const bytes = Object.fromEntries(parts.map(({ name, bytes }) => [name, bytes]));
  const weights = 8_030_261_248 * 4;
  assert.equal(bytes.weights, weights);
  assert.equal(bytes.gradients, weights);
  assert.equal(bytes.distributions, 1 << 20);
  assert.ok(Math.abs(bytes["optimizer moments"] / weights - 2) < 1e-3);
  // A block keeps its input, h, qkv, attended, middle, h2, gate and up, and activated: 69,632 floats a token, so 31
  // blocks of 4,096 tokens are 32.94 GiB. The last has few rows, and backward works in what later blocks gave back.
  const inputs = 32 * 4096 * 4096 * 4;
  assert.equal(bytes["block inputs (checkpoints)"], inputs);
  assert.equal(bytes["head chunk"], 256 * 8192 * 4);
  const activations = (inputs + bytes["head chunk"] + bytes["activations of blocks"]) / 2 ** 30;
  assert.ok(activations > 32.94 && activations < 34, `${activations} GiB`);
  assert.ok(bytes["measuring pass"] < 4 * 2 ** 30);
  assert.ok(totalBytes > 4 * weights && totalBytes < 4 * weights + 38 * 2 ** 30);
  assert.equal(plan(true).totalBytes - totalBytes, weights);
  // 16 bytes a parameter with masters in two planes, 14 without; norms stay f32.
  const split = plan(false, { dtype: "bf16", master: "f32" });
  assert.ok(Math.abs(split.totalBytes - totalBytes) < 1 << 20);
  const alone = plan(false, { dtype: "bf16", master: "none" });
  assert.ok(Math.abs(totalBytes - alone.totalBytes - weights / 2) < 1 << 21);
});

Deno.test("dispose: a model with every kind of pass, gradients and a trainer gives all memory back", async () => {
  using out = modelFolder(TINY);
  assert.equal(gpu.memory.allocatedBytes, 0);
  const examples = randomExamples([9, 5], TINY.vocab_size as number, 1);
  const model = await LanguageModel.load(gpu, out.dir);
  await model.logits([[1, 2]]);
  await model.score(examples);
  await model.lossAndGradients(examples);
  const loaded = gpu.memory.allocatedBytes;
  const first = new Trainer(model, { learningRate: 1e-2, totalSteps: 1 });
  await first.step(examples);
  await first.average(0.5);
  const second = new Trainer(model, { learningRate: 1e-2, totalSteps: 1 });
  await second.step(examples);
  second.dispose();
  first.dispose();
  assert.equal(gpu.memory.allocatedBytes, loaded);
  // Larger batches record anew, in place of the old passes.
  await model.logits([Array.from({ length: 100 }, () => 1)]);
  await model.lossAndGradients(randomExamples([90], TINY.vocab_size as number, 1));
  model.dispose();
  assert.equal(gpu.memory.allocatedBytes, 0);
  model.dispose();
  assert.equal(gpu.memory.allocatedBytes, 0);
});
