/** Logits through the cache of keys and values: whole prompts, pieces of them, and token by token. */
import assert from "node:assert/strict";
import { KvCache } from "../../engine/infer/kv_cache.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import { Pass } from "../../engine/model/pass.ts";
import { assertMaxAbs, assertSameBits } from "../compare.ts";
import { floats, generations, GOLDEN_MODELS, loadGolden } from "../golden.ts";
import { sharedGpu } from "../gpu_device.ts";

const gpu = await sharedGpu();
const ROW = { weight: 0, target: { kind: "label", token: 0 } } as const;

for (const name of GOLDEN_MODELS) {
  Deno.test(`cache ${name}: gen.logits, however the prompt comes in, with others beside it`, async () => {
    const golden = loadGolden(name);
    const { tolerances } = golden.golden;
    using model = await LanguageModel.load(gpu, golden.dir);
    const V = model.spec.vocabulary;
    const prompts = generations(golden).map(({ prompt }) => prompt);
    const positions = 32;
    const cache = new KvCache(gpu, model.spec, prompts.length * positions, positions);
    const capacity = { tokens: 64, rows: 3 };
    const pass = Pass.record(gpu, model.parameters, { kind: "logits", capacity, cache });
    const run = async (parts: { sequence: number; from: number; to: number }[]) => {
      const batch = parts.map(({ sequence, from, to }) => ({
        ids: prompts[sequence].slice(from, to),
        rows: [{ position: to - from - 1, ...ROW }],
        cached: { firstRow: sequence * positions, count: from, isLong: false },
      }));
      const [bytes] = await pass.run(pass.pack(batch), [{
        slot: pass.plan.logits,
        bytes: parts.length * V * 4,
      }]);
      return new Float32Array(bytes.buffer).subarray(0, V);
    };
    const length = prompts[0].length;
    const whole = await run(
      [0, 1, 2].map((sequence) => ({ sequence, from: 0, to: prompts[sequence].length })),
    );
    assertMaxAbs("gen.logits", whole, floats(golden, "gen.logits"), tolerances.logits_abs);
    const alone = await run([{ sequence: 0, from: 0, to: length }]);
    assertSameBits("alone", alone, whole);
    await run([{ sequence: 1, from: 0, to: 2 }, { sequence: 0, from: 0, to: 1 }]);
    let last = whole;
    for (let t = 1; t < length; t++) {
      last = await run([{ sequence: 0, from: t, to: t + 1 }, { sequence: 1, from: t + 1, to: t + 2 }]);
    }
    assertSameBits("token by token", last, whole);
    const [plain] = await model.logits([prompts[0]]);
    assertSameBits("without a cache", plain.subarray(-V), whole);
    pass.dispose();
    cache.dispose();
    assert.ok(length > 2);
  });
}
