import assert from "node:assert/strict";
import { weightedLosses } from "../../../engine/model/batch.ts";
import type { Sequence } from "../../../engine/model/batch.ts";
import { type Example, exampleSequences } from "../../../engine/model/examples.ts";
import { LanguageModel } from "../../../engine/language_model.ts";
import { Anchor, anchorBytes, type AnchorOptions } from "../../../pipeline/objectives/anchor.ts";
import { assertMaxAbs, assertNear, l2 } from "../../compare.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { Random } from "../../random.ts";
import { bucket, type Distribution, logSoftmax } from "../../reference/cross_entropy.ts";
import { forward, lossAndGradients, type SoftRow } from "../../reference/decoder.ts";
import {
  assertGradients,
  type Config,
  type ModelFolder,
  modelFolder,
  randomExamples,
  TINY,
  TOLERANCE,
  withModel,
} from "../../train/support.ts";

const gpu = await sharedGpu();
const OPTIONS: AnchorOptions = { samples: 5, length: 7, seed: 3, startIds: [2] };

function changed(config: Config, seed: number): ModelFolder {
  const random = new Random(9);
  return modelFolder(config, seed, (_, data) => {
    for (let i = 0; i < data.length; i++) data[i] *= 1 + 0.2 * random.nextNormal();
  });
}

/** The base model's distribution at each row of the drawn sequences, in float64. */
function softRows(base: ModelFolder, drawn: readonly Sequence[], first: number, top?: number): SoftRow[] {
  const V = base.config.vocab_size as number;
  const logits = forward(base.config, base.weights, drawn.map(({ ids }) => ids));
  return drawn.flatMap(({ rows }, i) =>
    rows.map(({ position, weight }): SoftRow => {
      const q = logSoftmax(logits[i].subarray(position * V, (position + 1) * V)).map(Math.exp);
      const target: Distribution = top === undefined ? { probabilities: q } : bucket(q, top);
      return { sequence: first + i, position, weight, target };
    })
  );
}

const CHUNKS = { ...TINY, vocab_size: 9003 };
const CASES: { name: string; config: Config; options: Partial<AnchorOptions>; top?: number }[] = [
  { name: "whole", config: TINY, options: {} },
  { name: "whole, tied", config: { ...TINY, tie_word_embeddings: true }, options: {} },
  { name: "bucketed", config: TINY, options: { wholeUpTo: 0, topTokens: 8 }, top: 8 },
  { name: "bucketed, all tokens listed", config: TINY, options: { wholeUpTo: 0 }, top: 53 },
  { name: "bucketed, two vocabulary chunks", config: CHUNKS, options: {}, top: 128 },
  { name: "whole, two vocabulary chunks", config: CHUNKS, options: { wholeUpTo: 1e5 } },
];

for (const { name, config, options, top } of CASES) {
  Deno.test(`anchor, ${name}: loss and gradient beside labels, against float64`, async () => {
    using base = modelFolder(config, 1);
    using other = changed(config, 1);
    const all = { ...OPTIONS, ...options };
    using model = await LanguageModel.load(gpu, base.dir);
    const anchor = await Anchor.create(model, all);
    try {
      const drawn = anchor.draw(2, 4, 3);
      assert.equal(drawn[0].rows[0].target.kind, top === undefined ? "dense" : "top");
      const examples = randomExamples([6, 11, 4], config.vocab_size as number, 5, 0.5);
      const supervised = exampleSequences(examples, 1).reduce((sum, { rows }) => sum + rows.length, 0);
      const hard = exampleSequences(examples, 1 / supervised);
      const together: Example[] = [
        ...examples,
        ...drawn.map(({ ids }) => ({ ids, labels: ids.map(() => -100) })),
      ];
      const soft = softRows(base, drawn, examples.length, top);
      const expected = lossAndGradients(config, other.weights, together, soft);
      assert.ok(expected.anchor > 0.01, `the models are too much alike: ${expected.anchor}`);

      for (const maxTokens of [4096, 16]) {
        await withModel(gpu, other, async (trained) => {
          trained.training.useSoftTables(anchor.tables);
          const losses = weightedLosses([...hard, ...drawn], await trained.training.run([...hard, ...drawn]));
          const sum = (values: Float32Array) => values.reduce((total, value) => total + value, 0);
          assertNear("loss", sum(losses.subarray(0, supervised)), expected.crossEntropy, TOLERANCE.loss);
          assertNear("anchor", sum(losses.subarray(supervised)), expected.anchor, TOLERANCE.loss);
          assertGradients(await trained.training.readGradients(), expected.gradients);
        }, { maxTokens });
      }

      await assert.rejects(model.training.run(drawn), {
        name: "TypeError",
        message: /rows with (dense|top) targets in a pass whose tables hold none/,
      });
      // The unchanged model already says what it is held to.
      model.training.useSoftTables(anchor.tables);
      await model.training.run(hard);
      const labels = await model.training.readGradients();
      const losses = weightedLosses(drawn, await model.training.run(drawn));
      assertMaxAbs("KL of the unchanged model", losses, losses.map(() => 0), 1e-6);
      for (const [parameter, gradient] of await model.training.readGradients()) {
        assert.ok(l2(gradient) < 1e-5 * l2(labels.get(parameter)!), `${parameter}: ${l2(gradient)}`);
      }
    } finally {
      anchor.dispose();
    }
  });
}

Deno.test("anchor: tables hold the base distribution, and take what is planned", async () => {
  using base = modelFolder(TINY);
  using model = await LanguageModel.load(gpu, base.dir);
  const V = TINY.vocab_size as number;
  for (const options of [{}, { wholeUpTo: 0, topTokens: 6 }]) {
    const all = { ...OPTIONS, ...options };
    await model.logits([[1]]);
    model.passes.release("logits");
    const before = gpu.memory.allocatedBytes;
    const anchor = await Anchor.create(model, all);
    model.passes.release("logits");
    const taken = gpu.memory.allocatedBytes - before;
    // A binding that isn't used still takes 16 bytes.
    assert.ok(taken <= anchorBytes(V, all) + 32 && taken > 0.9 * anchorBytes(V, all), `${taken} bytes`);
    const rests = anchor.targets.flat().map((target) => target.kind === "top" ? target.rest : -1);
    const expected = softRows(base, anchor.draw(0, 99, 1), 0, 6).map(({ target }) =>
      "rest" in target ? target.rest : -1
    );
    if ("topTokens" in all) {
      assertMaxAbs("rest", rests.toSorted(), expected.toSorted(), 1e-6);
    }
    anchor.dispose();
    assert.equal(gpu.memory.allocatedBytes, before);
  }
});

Deno.test("anchor: texts follow the seed, each token its own counter", async () => {
  using base = modelFolder(TINY);
  using model = await LanguageModel.load(gpu, base.dir);
  const write = async (options: Partial<AnchorOptions> = {}) => {
    const anchor = await Anchor.create(model, { ...OPTIONS, ...options });
    anchor.dispose();
    return anchor;
  };
  const { texts, targets } = await write();
  assert.equal(texts.length, OPTIONS.samples);
  for (const text of texts) {
    assert.equal(text.length, 1 + OPTIONS.length);
    assert.equal(text[0], 2);
  }
  assert.equal(new Set(texts.map(String)).size, texts.length);
  const again = await write();
  assert.deepEqual([again.texts, again.targets], [texts, targets]);
  assert.notDeepEqual((await write({ seed: 4 })).texts, texts);
  // More or longer texts begin with the same ones.
  assert.deepEqual((await write({ samples: 9 })).texts.slice(0, 5), texts);
  assert.deepEqual((await write({ length: 9 })).texts.map((text) => text.slice(0, 8)), texts);
});

Deno.test("anchor: a text ends with EOS and starts with all start tokens; rows follow", async () => {
  using base = modelFolder(TINY);
  using model = await LanguageModel.load(gpu, base.dir);
  const plain = await Anchor.create(model, { ...OPTIONS, samples: 40, startIds: [2, 5] });
  plain.dispose();
  // EOS among the start tokens doesn't end a text; the commonest written token will end some.
  const counts = new Map<number, number>();
  for (const token of plain.texts.flatMap((text) => text.slice(2))) {
    counts.set(token, (counts.get(token) ?? 0) + 1);
  }
  const eosId = [...counts].sort((a, b) => b[1] - a[1])[0][0];
  const anchor = await Anchor.create(model, { ...OPTIONS, samples: 40, startIds: [2, 5], eosId });
  anchor.dispose();
  anchor.texts.forEach((text, i) => {
    const whole = plain.texts[i];
    const end = whole.indexOf(eosId, 2);
    assert.deepEqual(text, end < 0 ? whole : whole.slice(0, end + 1));
    assert.equal(anchor.targets[i].length, text.length - 2);
  });
  assert.ok(anchor.texts.some((text) => text.length < 9));
  assert.equal(anchor.longest, 7);

  const drawn = anchor.draw(0, 40, 3);
  assert.equal(drawn.length, 40);
  const weights = drawn.flatMap(({ rows }) => rows.map(({ weight }) => weight));
  assertNear("weights", weights.reduce((sum, weight) => sum + weight, 0), 3, 1e-12);
  assert.equal(new Set(weights).size, 1);
  for (const { ids, rows } of drawn) {
    assert.deepEqual(rows.map(({ position }) => position), ids.slice(1).map((_, i) => i + 1));
    assert.ok(anchor.texts.some((text) => String(text.slice(0, -1)) === String(ids)));
  }
});

Deno.test("anchor: each step draws other texts, without repeats, by the seed", async () => {
  using base = modelFolder(TINY);
  using model = await LanguageModel.load(gpu, base.dir);
  const anchor = await Anchor.create(model, { ...OPTIONS, samples: 12, length: 4 });
  anchor.dispose();
  const drawn = (step: number) => anchor.draw(step, 5, 1).map(({ ids }) => String(ids));
  assert.deepEqual(drawn(0), drawn(0));
  assert.notDeepEqual(drawn(0), drawn(1));
  assert.equal(new Set(drawn(0)).size, 5);
  const seen = new Set(Array.from({ length: 20 }, (_, step) => drawn(step)).flat());
  assert.equal(seen.size, 12);
});

Deno.test("anchor: stops on a signal and frees everything", async () => {
  using base = modelFolder(TINY);
  using model = await LanguageModel.load(gpu, base.dir);
  let checks = 0;
  const signal = {
    throwIfAborted() {
      if (++checks > 2) throw new Error("enough");
    },
  } as unknown as AbortSignal;
  const { allocatedBytes } = gpu.memory;
  await assert.rejects(Anchor.create(model, { ...OPTIONS, signal }), { message: "enough" });
  model.passes.release("logits");
  assert.equal(gpu.memory.allocatedBytes, allocatedBytes);
});

Deno.test("anchor: pairs of tokens are written as often as the model expects (chi-square)", async () => {
  const config = { ...TINY, vocab_size: 7 };
  using base = modelFolder(config, 6);
  using model = await LanguageModel.load(gpu, base.dir);
  const samples = 4000;
  const anchor = await Anchor.create(model, { samples, length: 2, seed: 17, startIds: [1] });
  anchor.dispose();
  const next = (ids: number[]) => {
    const [logits] = forward(config, base.weights, [ids]);
    return logSoftmax(logits.subarray(-7)).map(Math.exp);
  };
  const first = next([1]);
  let statistic = 0;
  let cells = 0;
  let rare = { expected: 0, found: 0 };
  const add = (expected: number, found: number) => {
    statistic += (found - expected) ** 2 / expected;
    cells++;
  };
  for (let a = 0; a < 7; a++) {
    const second = next([1, a]);
    for (let b = 0; b < 7; b++) {
      const expected = samples * first[a] * second[b];
      const found = anchor.texts.filter((text) => text[1] === a && text[2] === b).length;
      // The usual rule: cells of fewer than five are counted together.
      if (expected < 5) rare = { expected: rare.expected + expected, found: rare.found + found };
      else add(expected, found);
    }
  }
  if (rare.expected > 0) add(rare.expected, rare.found);
  assert.ok(cells >= 15, `${cells} cells`);
  // Wilson–Hilferty: the cube root of χ²/df is near normal. |z| < 3.3 fails once in a thousand seeds.
  const df = cells - 1;
  const z = (Math.cbrt(statistic / df) - (1 - 2 / (9 * df))) / Math.sqrt(2 / (9 * df));
  assert.ok(Math.abs(z) < 3.3, `χ² ${statistic} at ${df} degrees of freedom: z ${z}`);
});

Deno.test("anchor: distributions that no adapter need bind whole are kept in buckets", () => {
  const recipe = { samples: 128, length: 48 };
  assert.equal(anchorBytes(2048, recipe), 128 * 48 * 2048 * 4);
  assert.ok(anchorBytes(8192, recipe) <= 128 << 20);
  assert.equal(anchorBytes(8192, recipe), 128 * 48 * 128 * 8);
});
