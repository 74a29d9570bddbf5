/** Saving a model and reading it back. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { LanguageModel } from "../../engine/language_model.ts";
import type { ModelOptions } from "../../engine/model/model.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { narrow } from "../../engine/tensor/dtype.ts";
import { batch, GOLDEN_MODELS, loadGolden } from "../golden.ts";
import { sharedGpu } from "../gpu_device.ts";
import { randomWeights } from "../reference/decoder_shape.ts";
import { encodeSafetensors, parseSafetensors, widen } from "../safetensors.ts";
import { folder, parametersOf, randomExamples, TINY } from "../train/support.ts";

const gpu = await sharedGpu();
const WEIGHTS = "model.safetensors";

/** All tensors of a folder's weights, in one file or in pieces. */
function tensorsOf(dir: string): ReturnType<typeof parseSafetensors> {
  const files = namesIn(dir).filter((name) => /^model.*\.safetensors$/.test(name));
  return new Map(files.flatMap((name) => [...parseSafetensors(Deno.readFileSync(join(dir, name)))]));
}

function namesIn(dir: string): string[] {
  return Array.from(Deno.readDirSync(dir), ({ name }) => name).sort();
}

/** A copy of a golden's model with a tokenizer file beside it. */
function copyOf(dir: string, to: string): string {
  Deno.mkdirSync(to);
  for (const name of ["config.json", WEIGHTS]) Deno.copyFileSync(join(dir, name), join(to, name));
  Deno.writeTextFileSync(join(to, "tokenizer.json"), '{"version": "1.0"}\n');
  return to;
}

/** Rounding to bfloat16, to nearest, ties to even, from the definition and not by bit tricks. */
function nearestBfloat16(x: number): number {
  if (x === 0) return x;
  const step = 2 ** (Math.floor(Math.log2(Math.abs(x))) - 7);
  const down = Math.floor(x / step);
  const rest = x / step - down;
  return (rest > 0.5 || rest === 0.5 && down % 2 !== 0 ? down + 1 : down) * step;
}

/** What a master becomes when it is saved, by the checkpoint's type. */
const ROUND: Record<string, (x: number) => number> = {
  BF16: nearestBfloat16,
  F16: Math.f16round,
  F32: (x: number) => x,
};

/** How a model can be kept and still give back every bit of its checkpoint. */
function exactStorages(dtype: string): ModelOptions[] {
  const bf16: ModelOptions[] = dtype === "BF16" ? [{ dtype: "bf16", master: "none" }] : [];
  return [{}, { dtype: "bf16" }, ...bf16];
}

for (const name of GOLDEN_MODELS) {
  const golden = loadGolden(name);
  const { weights_dtype, tied } = golden.golden;

  Deno.test(`save ${name}: untrained weights byte by byte, other files as they were`, async () => {
    for (const options of exactStorages(weights_dtype)) {
      using out = folder();
      const source = copyOf(golden.dir, join(out.dir, "source"));
      using model = await LanguageModel.load(gpu, source, options);
      const [target, pieces] = [join(out.dir, "target"), join(out.dir, "pieces")];
      await model.save(target);
      const expected = tensorsOf(source);
      assert.deepEqual([...tensorsOf(target).keys()], [...expected.keys()]);
      assert.deepEqual(tensorsOf(target), expected);
      await model.save(pieces, { maxFileBytes: 50_000 });
      assert.deepEqual(tensorsOf(pieces), expected);
      for (const dir of [target, pieces]) {
        for (const file of ["config.json", "tokenizer.json"]) {
          assert.equal(Deno.readTextFileSync(join(dir, file)), Deno.readTextFileSync(join(source, file)));
        }
      }
      assert.deepEqual(namesIn(target), ["config.json", WEIGHTS, "tokenizer.json"]);
      const others = namesIn(pieces).filter((file) => !/^model-0000\d-of-0000\d\.safetensors$/.test(file));
      assert.deepEqual(others, ["config.json", "model.safetensors.index.json", "tokenizer.json"]);
    }
  });

  Deno.test(`save ${name}: after a step, the masters rounded to the checkpoint's type`, async () => {
    using out = folder();
    const target = join(out.dir, "target");
    using model = await LanguageModel.load(gpu, golden.dir);
    using trainer = new Trainer(model, { learningRate: 1e-3, totalSteps: 1, weightDecay: 0.01 });
    await trainer.step(batch(golden, "right"));
    await model.save(target);
    const masters = await parametersOf(model);
    using saved = await LanguageModel.load(gpu, target);
    for (const [parameter, values] of await parametersOf(saved)) {
      assert.notDeepEqual(masters.get(parameter), golden.weights.get(parameter)!.data, parameter);
      assert.deepEqual(values, masters.get(parameter)!.map(ROUND[weights_dtype]), parameter);
    }
    const [found, stored] = [tensorsOf(target), tensorsOf(golden.dir)];
    const kinds = (tensors: typeof found) =>
      Array.from(tensors, ([name, { dtype, shape }]) => ({ name, dtype, shape }));
    assert.deepEqual(kinds(found), kinds(stored));
    // What is no parameter stays as it was, but a tied head's copy follows the embedding.
    const { embedding, head } = model.spec.tensors;
    for (const [tensor, { bytes }] of found) {
      if (masters.has(tensor)) continue;
      const follows = tied && tensor === head.weight;
      assert.deepEqual(bytes, follows ? found.get(embedding)!.bytes : stored.get(tensor)!.bytes, tensor);
    }
  });
}

for (const master of ["f32", "none"] as const) {
  Deno.test(`save: after a step in bf16 with master ${master}, what the model computes with or its master`, async () => {
    using out = folder();
    const golden = loadGolden("qwen3");
    using model = await LanguageModel.load(gpu, golden.dir, { dtype: "bf16", master });
    using trainer = new Trainer(model, { learningRate: 1e-3, totalSteps: 1 });
    await trainer.step(batch(golden, "right"));
    const masters = await parametersOf(model);
    for (const saveDtype of [undefined, "F32", "F16"] as const) {
      const target = join(out.dir, String(saveDtype));
      await model.save(target, { saveDtype });
      const found = tensorsOf(target);
      for (const [parameter, values] of masters) {
        const rounded = values.map(ROUND[saveDtype ?? "BF16"]);
        assert.deepEqual(widen(parameter, found.get(parameter)!), rounded, parameter);
        const matrix = model.parameters.get(parameter).shape.length === 2;
        if (master === "none" && matrix) assert.deepEqual(values, values.map(nearestBfloat16));
      }
    }
  });
}

Deno.test("save: a model in pieces is loaded from them and keeps them", async () => {
  using out = folder();
  const { dir } = loadGolden("gpt_neox");
  const [pieces, again] = [join(out.dir, "pieces"), join(out.dir, "again")];
  using model = await LanguageModel.load(gpu, dir);
  await model.save(pieces, { maxFileBytes: 50_000 });
  using loaded = await LanguageModel.load(gpu, pieces);
  for (const name of model.parameterNames()) {
    assert.deepEqual(await loaded.parameter(name), await model.parameter(name), name);
  }
  await loaded.save(again);
  assert.deepEqual(namesIn(again), namesIn(pieces));
  for (const name of namesIn(pieces)) {
    assert.deepEqual(Deno.readFileSync(join(again, name)), Deno.readFileSync(join(pieces, name)), name);
  }
});

Deno.test("save: a tied head's copy in the checkpoint follows the embedding", async () => {
  using out = folder();
  const source = join(out.dir, "source");
  const target = join(out.dir, "target");
  Deno.mkdirSync(source);
  const weights = randomWeights(TINY, 3);
  weights.set("lm_head.weight", weights.get("model.embed_tokens.weight")!);
  Deno.writeTextFileSync(join(source, "config.json"), JSON.stringify({ ...TINY, tie_word_embeddings: true }));
  Deno.writeFileSync(join(source, WEIGHTS), encodeSafetensors(weights));
  using model = await LanguageModel.load(gpu, source);
  using trainer = new Trainer(model, { learningRate: 1e-2, totalSteps: 1 });
  await trainer.step(randomExamples([9, 8], TINY.vocab_size as number, 2));
  await model.save(target);
  const saved = tensorsOf(target);
  const embedding = await model.parameter("model.embed_tokens.weight");
  assert.notDeepEqual(embedding, weights.get("lm_head.weight")!.data);
  for (const name of ["model.embed_tokens.weight", "lm_head.weight"]) {
    assert.deepEqual(widen(name, saved.get(name)!), embedding, name);
  }
});

Deno.test("save: saveDtype rounds to that type; float16 keeps subnormals and refuses what would be infinite", async () => {
  using out = folder();
  const source = join(out.dir, "source");
  Deno.mkdirSync(source);
  const weights = randomWeights(TINY, 4);
  const { data } = weights.get("model.norm.weight")!;
  data.set([1e-7, -3e-6, 65504, 2 ** -24, 1.00048828125]);
  Deno.writeTextFileSync(join(source, "config.json"), JSON.stringify({ ...TINY, torch_dtype: "float32" }));
  Deno.writeFileSync(join(source, WEIGHTS), encodeSafetensors(weights));
  using model = await LanguageModel.load(gpu, source);
  for (const saveDtype of ["F16", "BF16"] as const) {
    const target = join(out.dir, saveDtype);
    await model.save(target, { saveDtype });
    const config = JSON.parse(Deno.readTextFileSync(join(target, "config.json")));
    assert.equal(config.torch_dtype, saveDtype === "F16" ? "float16" : "bfloat16");
    const saved = tensorsOf(target);
    for (const [name, { data }] of weights) {
      assert.equal(saved.get(name)!.dtype, saveDtype);
      assert.deepEqual(saved.get(name)!.bytes, new Uint8Array(narrow(saveDtype, data)), name);
      const rounded = saveDtype === "F16" ? data.map((x) => Math.f16round(x)) : data.map(nearestBfloat16);
      assert.deepEqual(widen(name, saved.get(name)!), rounded, name);
    }
    using again = await LanguageModel.load(gpu, target);
    assert.equal((await again.parameter("model.norm.weight")).length, data.length);
  }

  data[3] = 7e4;
  const large = join(out.dir, "large");
  Deno.mkdirSync(large);
  Deno.copyFileSync(join(source, "config.json"), join(large, "config.json"));
  Deno.writeFileSync(join(large, WEIGHTS), encodeSafetensors(weights));
  using tooLarge = await LanguageModel.load(gpu, large);
  const target = join(out.dir, "refused");
  await assert.rejects(tooLarge.save(target, { saveDtype: "F16" }), {
    name: "RangeError",
    message: /"model\.norm\.weight": value 70000 at element 3 is too large for F16/,
  });
  assert.deepEqual(namesIn(out.dir), [
    ...["BF16", "F16", "large", "source"],
  ]);
});

Deno.test("save: not over the folder that the weights come from, nor over anything else unasked", async () => {
  using out = folder();
  const source = copyOf(loadGolden("mistral").dir, join(out.dir, "source"));
  using model = await LanguageModel.load(gpu, source);
  await assert.rejects(model.save(source), { name: "RangeError" });
  await assert.rejects(model.save(source, { overwrite: true }), { name: "RangeError" });
  const target = join(out.dir, "target");
  await model.save(target);
  await assert.rejects(model.save(target), { name: "ModelDirError", message: /the folder exists/ });
  await model.save(target, { overwrite: true });
});
