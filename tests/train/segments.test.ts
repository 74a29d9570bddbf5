/** A pass in segments: memory that passes share, weights that are elsewhere meanwhile, gradients seen block by block. */
import assert from "node:assert/strict";
import { Slot } from "../../engine/gpu/pool.ts";
import { copySlot, readSlot } from "../../engine/gpu/transfer.ts";
import { blockParameters } from "../../engine/models/spec.ts";
import type { Parameter } from "../../engine/model/parameters.ts";
import { exampleSequences } from "../../engine/model/examples.ts";
import type { LanguageModel } from "../../engine/language_model.ts";
import { assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { modelFolder, randomExamples, TINY, withModel } from "./support.ts";

const gpu = await sharedGpu();
const V = TINY.vocab_size as number;
const EXAMPLES = randomExamples([20, 9, 17], V, 5);
const SEQUENCES = exampleSequences(EXAMPLES, 0.1);
const TIED = { ...TINY, tie_word_embeddings: true };

/** Runs backward with a hook, and gives losses and gradients. */
async function run(
  model: LanguageModel,
  onGradients?: (parameters: readonly Parameter[]) => void,
): Promise<{ losses: Uint8Array; gradients: Map<string, Float32Array> }> {
  const prepared = model.training.prepare(SEQUENCES);
  const losses = new Slot(prepared.rows * 4, "losses").realize(gpu);
  try {
    model.training.submit(prepared, losses, { onGradients });
    const bytes = await readSlot(gpu, losses, 0, prepared.rows * 4);
    return { losses: bytes, gradients: await model.training.readGradients() };
  } finally {
    losses.dispose();
  }
}

for (const [kind, config] of Object.entries({ untied: TINY, tied: TIED })) {
  for (const maxTokens of [4096, 20]) {
    Deno.test(`onGradients, ${kind}, ${maxTokens} tokens: each parameter once, when its gradient is whole`, async () => {
      using folder = modelFolder(config);
      await withModel(gpu, folder, async (model) => {
        const whole = await run(model);
        const copies: { parameter: Parameter; slot: Slot }[] = [];
        const segments: string[][] = [];
        const found = await run(model, (parameters) => {
          segments.push(parameters.map(({ name }) => name).sort());
          for (const parameter of parameters) {
            const [{ gradient }] = model.training.gradients.of(parameter);
            const slot = new Slot(gradient.bytes, "copy").realize(gpu);
            copySlot(gpu, { slot: gradient }, { slot }, Math.ceil(gradient.bytes / 4) * 4);
            copies.push({ parameter, slot });
          }
        });
        assert.deepEqual(found.losses, whole.losses);
        for (const [name, gradient] of whole.gradients) {
          assertSameBits(name, found.gradients.get(name)!, gradient);
        }
        for (const { parameter, slot } of copies) {
          const bytes = await readSlot(gpu, slot, 0, parameter.count * 4);
          assertSameBits(
            parameter.name,
            new Float32Array(bytes.buffer),
            whole.gradients.get(parameter.name)!,
          );
          slot.dispose();
        }
        const { spec } = model;
        const blocks = [1, 0].map((layer) => blockParameters(spec, layer).map(({ name }) => name).sort());
        const [finalNorm, head, embedding] = ["model.norm.weight", "lm_head.weight", spec.tensors.embedding];
        const first = kind === "tied" ? [finalNorm] : [head, finalNorm];
        assert.deepEqual(segments, [first, ...blocks, [embedding]]);
      }, { maxTokens });
    });
  }
}

Deno.test("gradients of another state of the weights are added on request", async () => {
  using folder = modelFolder(TINY);
  await withModel(gpu, folder, async (model) => {
    const once = (await run(model)).gradients;
    const prepared = model.training.prepare(SEQUENCES);
    const losses = new Slot(prepared.rows * 4, "losses").realize(gpu);
    model.training.submit(prepared, losses, { accumulate: true });
    losses.dispose();
    const twice = await model.training.readGradients();
    for (const [name, gradient] of once) {
      const norm = (x: Float32Array) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));
      assert.ok(norm(gradient) > 0);
      assert.ok(Math.abs(norm(twice.get(name)!) / norm(gradient) - 2) < 1e-5, name);
    }
  });
});

/** A copy of a block's weights in host memory. */
async function hostCopy(
  model: LanguageModel,
  layer: number,
): Promise<{ slot: Slot; bytes: Uint8Array<ArrayBuffer> }[]> {
  const out = [];
  for (const { name } of blockParameters(model.spec, layer)) {
    for (const { weight: slot } of model.parameters.get(name).shards) {
      out.push({ slot, bytes: await readSlot(gpu, slot, 0, Math.ceil(slot.bytes / 4) * 4) });
    }
  }
  return out;
}

for (const dtype of ["f32", "bf16"] as const) {
  Deno.test(`a block's weights may be elsewhere while another computes, ${dtype}: the same bits`, async () => {
    using folder = modelFolder({ ...TINY, num_hidden_layers: 3 });
    await withModel(gpu, folder, async (model) => {
      const whole = await run(model);
      const [batch] = model.training.prepare(SEQUENCES).batches;
      const pass = model.training.reserve({ tokens: 1, rows: 1 });
      const blocks = await Promise.all([0, 1, 2].map((layer) => hostCopy(model, layer)));
      const allocated = () => gpu.memory.allocatedBytes;
      const before = allocated();
      const residentBytes = blocks.map((copies) =>
        copies.reduce((sum, { slot }) => sum + slot.buffer.size, 0)
      );
      const drop = (layer: number) => blocks[layer].forEach(({ slot }) => slot.dispose());
      const fetch = (layer: number) => {
        for (const { slot, bytes } of blocks[layer]) gpu.write(slot.realize(gpu).buffer, bytes);
      };
      [0, 1, 2].forEach(drop);
      assert.equal(before - allocated(), residentBytes[0] + residentBytes[1] + residentBytes[2]);
      const order = ["embedding", "block 0", "block 1", "block 2", "head"];
      order.push("block 2 backward", "block 1 backward", "block 0 backward", "embedding backward");
      const seen: string[] = [];
      const steps = pass.segments(batch);
      const blockOf = (name: string | undefined) =>
        name?.startsWith("block") ? Number(name.split(" ")[1]) : undefined;
      for (let i = 0;; i++) {
        const layer = blockOf(order[i]);
        if (layer !== undefined) fetch(layer);
        // One block at a time is there.
        const most = before - residentBytes.reduce((sum, bytes) => sum + bytes, 0) +
          Math.max(...residentBytes);
        assert.ok(allocated() <= most);
        const { value, done } = steps.next();
        if (layer !== undefined) drop(layer);
        if (done) break;
        seen.push(value);
      }
      assert.deepEqual(seen, order);
      await gpu.check();
      const found = await model.training.readGradients();
      for (const [name, gradient] of whole.gradients) assertSameBits(name, found.get(name)!, gradient);
      [0, 1, 2].forEach(fetch);
    }, { dtype });
  });
}

Deno.test("a segment whose weights are nowhere is an error that names the buffer", async () => {
  using folder = modelFolder(TINY);
  await withModel(gpu, folder, async (model) => {
    const [batch] = model.training.prepare(SEQUENCES).batches;
    const pass = model.training.reserve({ tokens: 64, rows: 64 });
    const [copy] = await hostCopy(model, 1);
    copy.slot.dispose();
    const names: string[] = [];
    assert.throws(() => {
      for (const name of pass.segments(batch)) names.push(name);
    }, { name: "TypeError", message: /the buffer "model\.layers\.1\..*" was freed/ });
    assert.deepEqual(names, ["embedding", "block 0"]);
  });
});

Deno.test("another run of a pass in the middle of its segments is refused", async () => {
  using folder = modelFolder(TINY);
  await withModel(gpu, folder, async (model) => {
    const [batch] = model.training.prepare(SEQUENCES).batches;
    const pass = model.training.reserve({ tokens: 64, rows: 64 });
    const steps = pass.segments(batch);
    steps.next();
    pass.submit(batch);
    assert.throws(() => steps.next(), { name: "TypeError", message: /"block 0": another run/ });
    await gpu.check();
  });
});

Deno.test("kinds of pass share memory, and one that grows it leaves the others right", async () => {
  using folder = modelFolder(TINY);
  const ids = EXAMPLES.map(({ ids }) => ids);
  const alone = async <T>(what: (model: LanguageModel) => Promise<T>) => await withModel(gpu, folder, what);
  const expected = {
    scores: await alone((model) => model.score(EXAMPLES)),
    logits: await alone((model) => model.logits(ids)),
    texts: await alone((model) => model.generate(ids, { maxNewTokens: 6, temperature: 1, seed: 3 })),
    train: await alone((model) => run(model)),
  };
  const bytesOf = async (what: (model: LanguageModel) => Promise<unknown>) =>
    await withModel(gpu, folder, async (model) => {
      const before = gpu.memory.allocatedBytes;
      await what(model);
      return gpu.memory.allocatedBytes - before;
    });
  const apart = await bytesOf((model) => model.score(EXAMPLES)) +
    await bytesOf((model) => model.logits(ids)) +
    await bytesOf((model) => run(model));
  await withModel(gpu, folder, async (model) => {
    const before = gpu.memory.allocatedBytes;
    // Small first: what comes later outgrows its buffers.
    await model.score(EXAMPLES.slice(1, 2));
    for (let round = 0; round < 2; round++) {
      assert.deepEqual((await run(model)).losses, expected.train.losses);
      assert.deepEqual(await model.score(EXAMPLES), expected.scores);
      assert.deepEqual(await model.logits(ids), expected.logits);
      const found = await model.generate(ids, { maxNewTokens: 6, temperature: 1, seed: 3 });
      assert.deepEqual(found, expected.texts);
      assert.deepEqual((await run(model)).gradients, expected.train.gradients);
    }
    const together = gpu.memory.allocatedBytes - before;
    assert.ok(together < 0.9 * apart, `${together} bytes together, ${apart} apart`);
  });
  assert.equal(gpu.memory.allocatedBytes, 0);
});
