/** Saving a model and reading it back. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Model } from "../../engine/train/model.ts";
import { Trainer } from "../../engine/train/trainer.ts";
import { narrow } from "../../engine/tensor/dtype.ts";
import { batch, GOLDEN_MODELS, loadGolden } from "../golden.ts";
import { sharedGpu } from "../gpu_device.ts";
import { randomWeights } from "../reference/decoder_shape.ts";
import { encodeSafetensors, parseSafetensors, widen } from "../safetensors.ts";
import { folder, parametersOf, randomExamples, TINY } from "./support.ts";

const gpu = await sharedGpu();
const WEIGHTS = "model.safetensors";

function tensorsOf(dir: string): ReturnType<typeof parseSafetensors> {
  return parseSafetensors(Deno.readFileSync(join(dir, WEIGHTS)));
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

for (const name of GOLDEN_MODELS) {
  const golden = loadGolden(name);

  Deno.test(`save ${name}: untrained weights byte by byte, other files as they were`, async () => {
    using out = folder();
    const source = copyOf(golden.dir, join(out.dir, "source"));
    const target = join(out.dir, "target");
    using model = await Model.load(gpu, source);
    await model.save(target);
    const [found, expected] = [tensorsOf(target), tensorsOf(source)];
    assert.deepEqual([...found.keys()], [...expected.keys()]);
    assert.deepEqual(found, expected);
    for (const file of ["config.json", "tokenizer.json"]) {
      assert.equal(Deno.readTextFileSync(join(target, file)), Deno.readTextFileSync(join(source, file)));
    }
    assert.deepEqual(Array.from(Deno.readDirSync(target), ({ name }) => name).sort(), [
      "config.json",
      WEIGHTS,
      "tokenizer.json",
    ]);
  });

  Deno.test(`save ${name}: after a step, the masters rounded to the checkpoint's type`, async () => {
    using out = folder();
    const target = join(out.dir, "target");
    using model = await Model.load(gpu, golden.dir);
    using trainer = new Trainer(model, { learningRate: 1e-3, totalSteps: 1, weightDecay: 0.01 });
    await trainer.step(batch(golden, "right"));
    await model.save(target);
    const masters = await parametersOf(model);
    using saved = await Model.load(gpu, target);
    const round = golden.golden.weights_dtype === "BF16" ? nearestBfloat16 : (x: number) => x;
    for (const [parameter, values] of await parametersOf(saved)) {
      assert.notDeepEqual(masters.get(parameter), golden.weights.get(parameter)!.data, parameter);
      assert.deepEqual(values, masters.get(parameter)!.map(round), parameter);
    }
    const dtypes = (dir: string) => Array.from(tensorsOf(dir), ([tensor, { dtype }]) => [tensor, dtype]);
    assert.deepEqual(dtypes(target), dtypes(golden.dir));
  });
}

Deno.test("save: a tied head's copy in the checkpoint follows the embedding", async () => {
  using out = folder();
  const source = join(out.dir, "source");
  const target = join(out.dir, "target");
  Deno.mkdirSync(source);
  const weights = randomWeights(TINY, 3);
  weights.set("lm_head.weight", weights.get("model.embed_tokens.weight")!);
  Deno.writeTextFileSync(join(source, "config.json"), JSON.stringify({ ...TINY, tie_word_embeddings: true }));
  Deno.writeFileSync(join(source, WEIGHTS), encodeSafetensors(weights));
  using model = await Model.load(gpu, source);
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
  using model = await Model.load(gpu, source);
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
    using again = await Model.load(gpu, target);
    assert.equal((await again.parameter("model.norm.weight")).length, data.length);
  }

  data[3] = 7e4;
  const large = join(out.dir, "large");
  Deno.mkdirSync(large);
  Deno.copyFileSync(join(source, "config.json"), join(large, "config.json"));
  Deno.writeFileSync(join(large, WEIGHTS), encodeSafetensors(weights));
  using tooLarge = await Model.load(gpu, large);
  const target = join(out.dir, "refused");
  await assert.rejects(tooLarge.save(target, { saveDtype: "F16" }), {
    name: "RangeError",
    message: /"model\.norm\.weight": value 70000 at element 3 is too large for F16/,
  });
  assert.deepEqual(Array.from(Deno.readDirSync(out.dir), ({ name }) => name).sort(), [
    ...["BF16", "F16", "large", "source"],
  ]);
});

Deno.test("save: not over the folder that the weights come from, nor over anything else unasked", async () => {
  using out = folder();
  const source = copyOf(loadGolden("mistral").dir, join(out.dir, "source"));
  using model = await Model.load(gpu, source);
  await assert.rejects(model.save(source), { name: "RangeError" });
  await assert.rejects(model.save(source, { overwrite: true }), { name: "RangeError" });
  const target = join(out.dir, "target");
  await model.save(target);
  await assert.rejects(model.save(target), { name: "ModelDirError", message: /the folder exists/ });
  await model.save(target, { overwrite: true });
});
