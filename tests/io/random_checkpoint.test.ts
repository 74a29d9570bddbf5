import assert from "node:assert/strict";
import { join } from "node:path";
import { MODEL_SHAPES } from "../../bench/model_shapes.ts";
import { copyTokenizer, writeRandomModel } from "../../bench/random_checkpoint.ts";
import { openModelDir } from "../../engine/io/model_dir.ts";
import { elementsOf } from "../../engine/io/safetensors.ts";
import { modelSpec } from "../../engine/models/families.ts";
import { parameterSpecs } from "../../engine/models/spec.ts";
import { fill, GOLDEN, names, withFolder } from "./support.ts";

/** Parameters of the published models, a tied matrix once. */
const PARAMETERS: Record<string, number> = {
  "llama-3.2-1b": 1_235_814_400,
  "llama-3.2-3b": 3_212_749_824,
  "llama-3.1-8b": 8_030_261_248,
  "mistral-7b": 7_248_023_552,
  "qwen2.5-0.5b": 494_032_768,
  "qwen2.5-1.5b": 1_543_714_304,
  "qwen2.5-3b": 3_085_938_688,
  "qwen2.5-7b": 7_615_616_512,
  "gemma-2-2b": 2_614_341_888,
  "gemma-2-9b": 9_241_705_984,
  "pythia-160m": 162_322_944,
  "pythia-410m": 405_334_016,
  "pythia-1b": 1_011_781_632,
  "pythia-1.4b": 1_414_647_808,
  "pythia-2.8b": 2_775_208_960,
  "pythia-6.9b": 6_857_302_016,
  "phi-3-mini": 3_821_079_552,
};

Deno.test("random checkpoints: every shape has as many parameters as the published model", () => {
  assert.deepEqual(Object.keys(MODEL_SHAPES), Object.keys(PARAMETERS));
  for (const [name, config] of Object.entries(MODEL_SHAPES)) {
    const count = parameterSpecs(modelSpec(config)).reduce((sum, { shape }) => sum + elementsOf(shape), 0);
    assert.equal(count, PARAMETERS[name], name);
  }
});

Deno.test("random checkpoints: a small one opens as its config says, is repeatable and initialised sensibly", async () => {
  await withFolder(async (dir) => {
    for (const family of ["llama", "gemma2", "gpt_neox", "qwen2"]) {
      const config = JSON.parse(await Deno.readTextFile(join(GOLDEN, family, "config.json")));
      const write = (out: string, seed: number) =>
        writeRandomModel(join(dir, out), config, { seed, dtype: "F16", maxFileBytes: 40_000 });
      const [first, again, other] = [1, 1, 2].map((seed, i) => ({ seed, out: `${family}${i}` }));
      for (const { seed, out } of [first, again, other]) await write(out, seed);
      for (const name of await names(join(dir, first.out))) {
        const bytes = await Promise.all([first, again, other].map(({ out }) => {
          return Deno.readFile(join(dir, out, name)).catch(() => undefined);
        }));
        assert.deepEqual(bytes[0], bytes[1], name);
        if (name.endsWith(".safetensors")) assert.notDeepEqual(bytes[0], bytes[2], name);
      }

      const folder = await openModelDir(join(dir, first.out));
      using checkpoint = folder.checkpoint;
      assert.deepEqual(folder.config, { ...config, torch_dtype: "float16" });
      assert.ok(checkpoint.files.length > 1);
      const spec = modelSpec(folder.config);
      const specs = parameterSpecs(spec);
      assert.deepEqual([...checkpoint.tensors.keys()].sort(), specs.map(({ name }) => name).sort());
      for (const { name, shape } of specs) {
        assert.deepEqual(checkpoint.tensors.get(name)!.shape, shape);
        assert.equal(checkpoint.tensors.get(name)!.dtype, "F16");
        const values = await checkpoint.read(name);
        const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
        const deviation = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
        if (shape.length === 2) {
          // Six standard errors of what uniform noise gives.
          const expected = 1 / Math.sqrt(shape[1]);
          assert.ok(Math.abs(mean) < 6 * expected / Math.sqrt(values.length), `${name}: mean ${mean}`);
          assert.ok(Math.abs(deviation / expected - 1) < 6 * 0.45 / Math.sqrt(values.length), name);
        } else if (name.endsWith(".bias")) assert.ok(deviation > 0 && deviation < 0.035, name);
        else assert.deepEqual(values, new Float32Array(shape[0]).fill(1 - spec.norm.offset), name);
      }
    }
  });
});

Deno.test("random checkpoints: only into an empty folder; a tokenizer comes along, other files don't", async () => {
  await withFolder(async (dir) => {
    const config = { ...MODEL_SHAPES["pythia-160m"], num_hidden_layers: 1, hidden_size: 96, vocab_size: 40 };
    const options = { seed: 1, dtype: "BF16" as const };
    await writeRandomModel(join(dir, "new"), config, options);
    await assert.rejects(writeRandomModel(join(dir, "new"), config, options), /new is not empty/);
    const others = { "config.json": "x", "model.safetensors": "x", "generation_config.json": "x" };
    await fill(join(dir, "from"), {
      ...others,
      "tokenizer.json": "{}",
      "merges.txt": "a b",
      "vocab.json": "1",
    });
    await copyTokenizer(join(dir, "from"), join(dir, "new"));
    assert.deepEqual(await names(join(dir, "new")), [
      "config.json",
      "merges.txt",
      "model.safetensors",
      "tokenizer.json",
      "vocab.json",
    ]);
    assert.notEqual(await Deno.readTextFile(join(dir, "new", "config.json")), "x");
    await assert.rejects(copyTokenizer(join(dir, "new", "nothing"), dir), Deno.errors.NotFound);
    await fill(join(dir, "bare"), { "vocab.json": "" });
    await assert.rejects(copyTokenizer(join(dir, "bare"), dir), /bare has no tokenizer.json/);
  });
});
