/**
 * What the engine computes, bit for bit, on the driver that CI has: a change of structure changes none of these digests,
 * and a change that means to says so by writing new ones. Other adapters round otherwise and aren't compared.
 */
import assert from "node:assert/strict";
import { Model, Trainer } from "../mod.ts";
import { loadGolden } from "./golden.ts";
import { sharedGpu } from "./gpu_device.ts";

const gpu = await sharedGpu();
const ADAPTER = "llvmpipe (LLVM 15.0.6, 256 bits)";

/** First 16 hex digits of a SHA-256 by golden and storage. */
const DIGESTS: Record<string, string> = {
  "llama, f32": "5083dbf13f5d5c23",
  "llama, bf16 alone": "d0de589317474d6a",
  "qwen2, f32": "e56310a061ee2aa0",
  "qwen2, bf16 alone": "954cb3ddc8c57c81",
  "gemma2, f32": "7f4ae3440cc1abe0",
  "gemma2, bf16 alone": "448cc494859bab6e",
  "gpt_neox, f32": "c6a3614a6420d04e",
  "gpt_neox, bf16 alone": "9d09c0b1d74b484a",
  "phi3_longrope, f32": "28d6a4e884539a7f",
  "phi3_longrope, bf16 alone": "ffa9244db6661fda",
};

async function digest(parts: readonly (Uint8Array | Float32Array | string)[]): Promise<string> {
  const bytes = await new Blob(parts as BlobPart[]).arrayBuffer();
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 16);
}

for (const name of ["llama", "qwen2", "gemma2", "gpt_neox", "phi3_longrope"]) {
  for (
    const [storage, options] of [["f32", {}], ["bf16 alone", { dtype: "bf16", master: "none" }]] as const
  ) {
    Deno.test({
      name: `bits of ${name}, ${storage}: logits, gradients, text, steps, saved file`,
      ignore: gpu.name !== ADAPTER,
      fn: async () => {
        const out = await Deno.makeTempDir();
        try {
          using model = await Model.load(gpu, loadGolden(name).dir, options);
          const V = model.spec.vocabulary;
          const ids = [11, 1, 19].map((length, s) =>
            Array.from({ length }, (_, i) => (i * i * 7 + i * s + s) % V)
          );
          const examples = [ids[0], ids[2]].map((ids) => ({
            ids,
            labels: ids.map((id, i) => i < 3 ? -100 : id),
          }));
          const logits = await model.logits(ids);
          const { loss, gradients } = await model.lossAndGradients(examples);
          const texts = await model.generate(ids, { maxNewTokens: 8, temperature: 0.7, seed: 3 });
          using trainer = new Trainer(model, {
            learningRate: 1e-2,
            totalSteps: 4,
            weightDecay: 0.01,
            seed: 5,
          });
          const steps = [];
          for (let s = 0; s < 3; s++) steps.push(await trainer.step(examples));
          await trainer.average(0.25);
          await model.save(`${out}/model`);
          const found = await digest([
            ...logits,
            JSON.stringify([loss, texts, steps]),
            ...[...gradients].flatMap(([name, gradient]) => [name, gradient]),
            await Deno.readFile(`${out}/model/model.safetensors`),
          ]);
          assert.equal(found, DIGESTS[`${name}, ${storage}`], `${name}, ${storage}`);
        } finally {
          await Deno.remove(out, { recursive: true });
        }
      },
    });
  }
}
