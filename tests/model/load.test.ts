/** What a model refuses: folders that don't fit their config, and inputs out of range. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { LanguageModel } from "../../engine/language_model.ts";
import { freshGpu, sharedGpu } from "../gpu_device.ts";
import { writeSafetensors } from "../../engine/io/safetensors_writer.ts";
import { randomWeights } from "../reference/decoder_shape.ts";
import { nearestBf16 } from "../reference/storage.ts";
import { encodeSafetensors } from "../safetensors.ts";
import { folder, modelFolder, TINY, withModel } from "../train/support.ts";

const gpu = await sharedGpu();
const V = TINY.vocab_size as number;
const Q = "model.layers.1.self_attn.q_proj.weight";

type Tensors = ReturnType<typeof randomWeights>;

/** Asserts that a folder with these weights is refused, and that nothing stays allocated. */
async function assertRefused(
  expected: Record<string, unknown>,
  change: (weights: Tensors) => void,
  edit: (file: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> = (file) => file,
): Promise<void> {
  using out = folder();
  const weights = randomWeights(TINY, 1);
  change(weights);
  Deno.writeTextFileSync(join(out.dir, "config.json"), JSON.stringify(TINY));
  Deno.writeFileSync(join(out.dir, "model.safetensors"), edit(encodeSafetensors(weights)));
  const { allocatedBytes } = gpu.memory;
  await assert.rejects(LanguageModel.load(gpu, out.dir), expected);
  assert.equal(gpu.memory.allocatedBytes, allocatedBytes);
}

Deno.test("Model.load: a tensor that is missing or has another shape or dtype is named", async () => {
  await assertRefused(
    { name: "CheckpointMismatchError", tensor: Q, message: `tensor "${Q}" is missing from the checkpoint` },
    (weights) => weights.delete(Q),
  );
  await assertRefused(
    {
      name: "CheckpointMismatchError",
      tensor: Q,
      message: /shape \[12,48\], but config.json gives \[24,24\]/,
    },
    (weights) => weights.get(Q)!.shape = [12, 48],
  );
  await assertRefused(
    { name: "CheckpointMismatchError", tensor: "lm_head.weight", message: /missing/ },
    (weights) => weights.delete("lm_head.weight"),
  );
  await assertRefused(
    { name: "CheckpointMismatchError", tensor: Q, message: /has dtype I32, expected F32, F16 or BF16/ },
    () => {},
    (file) => {
      const text = new TextDecoder("latin1").decode(file);
      const at = text.indexOf('"F32"', text.indexOf(Q));
      return Uint8Array.from([
        ...file.subarray(0, at),
        ...new TextEncoder().encode('"I32"'),
        ...file.subarray(at + 5),
      ]);
    },
  );
});

Deno.test("Model.load: matrices of bf16 are widened exactly, large ones and small ones, split or not", async () => {
  for (const [hidden_size, vocab_size] of [[24, 45_001], [6, 6_001]]) {
    const config = { ...TINY, hidden_size, vocab_size };
    using out = folder();
    const tensors = [...randomWeights(config, 3)].map(([name, { shape, data }]) => {
      return {
        name,
        shape,
        dtype: "BF16" as const,
        values: data.map(nearestBf16) as Float32Array<ArrayBuffer>,
      };
    });
    Deno.writeTextFileSync(join(out.dir, "config.json"), JSON.stringify(config));
    await writeSafetensors(join(out.dir, "model.safetensors"), tensors);
    for (const limits of [{}, { maxStorageBufferBindingSize: 1 << 16 }]) {
      using device = await freshGpu({ limits });
      using model = await LanguageModel.load(device, out.dir);
      for (const { name, values } of tensors) assert.deepEqual(await model.parameter(name), values, name);
    }
  }
});

Deno.test("Model.load: tensors that are no parameters are ignored, a tied head's copy too", async () => {
  const config = { ...TINY, tie_word_embeddings: true };
  using out = folder();
  const weights = randomWeights(TINY, 1);
  weights.set("lm_head.weight", weights.get("model.embed_tokens.weight")!);
  weights.set("model.layers.0.self_attn.rotary_emb.inv_freq", { shape: [3], data: new Float32Array(3) });
  Deno.writeTextFileSync(join(out.dir, "config.json"), JSON.stringify(config));
  Deno.writeFileSync(join(out.dir, "model.safetensors"), encodeSafetensors(weights));
  await withModel(gpu, out, (model) => {
    assert.ok(!model.parameterNames().includes("lm_head.weight"));
    assert.equal(model.parameterNames().length, 20);
    return Promise.resolve();
  });
});

Deno.test("Model.load: a config that isn't supported, and a folder without weights or config", async () => {
  using out = modelFolder(TINY);
  const path = join(out.dir, "config.json");
  const { allocatedBytes } = gpu.memory;
  Deno.writeTextFileSync(
    path,
    JSON.stringify({ ...TINY, rope_scaling: { rope_type: "axial", factor: 2 } }),
  );
  await assert.rejects(LanguageModel.load(gpu, out.dir), {
    name: "ConfigError",
    field: "rope_scaling.rope_type",
  });
  Deno.writeTextFileSync(path, "{");
  await assert.rejects(LanguageModel.load(gpu, out.dir), { name: "JsonFileError", path });
  Deno.removeSync(path);
  await assert.rejects(LanguageModel.load(gpu, out.dir), { name: "ModelDirError", message: /config\.json/ });
  Deno.writeTextFileSync(path, JSON.stringify(TINY));
  Deno.removeSync(join(out.dir, "model.safetensors"));
  await assert.rejects(LanguageModel.load(gpu, out.dir), {
    name: "SafetensorsError",
    message: /model\.safetensors/,
  });
  await assert.rejects(LanguageModel.load(gpu, join(out.dir, "nothing")), { name: "ModelDirError" });
  assert.equal(gpu.memory.allocatedBytes, allocatedBytes);
});

Deno.test("Model.load: an error in the middle frees what was loaded before", async () => {
  using out = modelFolder(TINY);
  const path = join(out.dir, "model.safetensors");
  const { size } = Deno.statSync(path);
  const { allocatedBytes } = gpu.memory;
  const create = gpu.createBuffer;
  let buffers = 0;
  gpu.createBuffer = (...args) => {
    // Another program cuts the file while its sixth tensor is being read.
    if (++buffers === 6) Deno.truncateSync(path, size / 8);
    return create.apply(gpu, args);
  };
  try {
    await assert.rejects(LanguageModel.load(gpu, out.dir), { name: "SafetensorsError" });
  } finally {
    gpu.createBuffer = create;
  }
  assert.ok(buffers >= 6);
  assert.equal(gpu.memory.allocatedBytes, allocatedBytes);
});

Deno.test("Model.load: a buffer over the device's limit is refused, and nothing stays", async () => {
  // Room for the embedding of 53 × 24 floats, but not for the 128 rows that a part of a gate of 256 × 24 needs.
  using small = await freshGpu({ limits: { maxBufferSize: 53 * 24 * 4 + 256 } });
  using out = modelFolder(TINY);
  await withModel(small, out, () => Promise.resolve());
  using large = modelFolder({ ...TINY, intermediate_size: 256 });
  await assert.rejects(LanguageModel.load(small, large.dir), {
    name: "RangeError",
    message: /^128 rows of 24 numbers need 12288 bytes in one binding, but at most 5120 can be bound$/,
  });
  assert.equal(small.memory.allocatedBytes, 0);
});

Deno.test("Model: sequences out of range are named, and the model works on", async () => {
  using out = modelFolder(TINY);
  await withModel(gpu, out, async (model) => {
    const [expected] = await model.logits([[1, 2, 3]]);
    const range = (message: RegExp) => ({ name: "RangeError", message });
    await assert.rejects(model.logits([[1], []]), range(/sequence 1 is empty/));
    for (const token of [V, -1, 1.5, NaN]) {
      const message = new RegExp(`sequence 0, position 1: token ${token} is outside the vocabulary of ${V}`);
      await assert.rejects(model.logits([[1, token]]), range(message));
    }
    for (const label of [V, -1, -99, 0.5]) {
      const message = new RegExp(`sequence 0, position 0: label ${label} is outside the vocabulary of ${V}`);
      const examples = [{ ids: [1, 2], labels: [-100, label] }];
      await assert.rejects(model.lossAndGradients(examples), range(message));
      await assert.rejects(model.score(examples), range(message));
    }
    await assert.rejects(
      model.lossAndGradients([{ ids: [1, 2, 3], labels: [-100, 2] }]),
      range(/example 0 has 3 ids and 2 labels/),
    );
    for (const examples of [[], [{ ids: [], labels: [] }], [{ ids: [1, 2], labels: [1, -100] }]]) {
      await assert.rejects(model.lossAndGradients(examples), range(/no supervised token/));
    }
    await assert.rejects(
      model.logitsAt([{ ids: [1, 2], positions: [1, 1] }]),
      range(/row at position 1 after 1/),
    );
    await assert.rejects(model.logitsAt([{ ids: [1, 2], positions: [2] }]), range(/position 2 after -1/));
    await assert.rejects(model.parameter("nothing"), range(/no parameter "nothing"/));
    assert.deepEqual(await model.logits([]), []);
    assert.deepEqual(await model.score([]), []);
    assert.deepEqual((await model.logits([[1, 2, 3]]))[0], expected);
  });
});

Deno.test("Model.logits: only the asked positions, the same bits, one token or many", async () => {
  using out = modelFolder(TINY);
  await withModel(gpu, out, async (model) => {
    const ids = Array.from({ length: 70 }, (_, i) => (i * 7) % V);
    const [whole] = await model.logits([ids]);
    const [some, none, one] = await model.logitsAt([
      { ids, positions: [0, 13, 69] },
      { ids: [1], positions: [] },
      { ids, positions: [20] },
    ]);
    const at = (position: number) => whole.slice(position * V, (position + 1) * V);
    assert.deepEqual(some, Float32Array.from([...at(0), ...at(13), ...at(69)]));
    assert.equal(none.length, 0);
    assert.deepEqual(one, at(20));
    assert.deepEqual((await model.logits([ids.slice(0, 1)]))[0], at(0));
  });
});
