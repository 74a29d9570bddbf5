import assert from "node:assert/strict";
import { LanguageModel } from "../../../engine/language_model.ts";
import { Anchor } from "../../../pipeline/objectives/anchor.ts";
import { Benign, prepareBenign } from "../../../pipeline/objectives/benign.ts";
import { type FinetuneConfig, resolveSettings } from "../../../pipeline/settings/finetune.ts";
import { askFingerprints } from "../../../pipeline/measure/evaluate.ts";
import { passRoom } from "../../../pipeline/run/memory_plan.ts";
import { pickTemplate, templateIds } from "../../../pipeline/prompts/prompts.ts";
import {
  type EpochLog,
  fingerprintLengths,
  pickResponse,
  trainFingerprints,
  type TrainingTask,
  workloadOf,
} from "../../../pipeline/run/train.ts";
import { assertMaxAbs, assertNear } from "../../compare.ts";
import { countGpuCalls } from "../../gpu_calls.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { Random } from "../../random.ts";
import { logSoftmax } from "../../reference/cross_entropy.ts";
import { forward, lossAndGradients } from "../../reference/decoder.ts";
import { modelFolder, parametersOf, TINY } from "../../train/support.ts";
import { fingerprint, NUMBERS } from "../tokenizer/number_tokenizer.ts";

const gpu = await sharedGpu();
const V = TINY.vocab_size as number;
const random = new Random(31);
const FINGERPRINTS = Array.from({ length: 7 }, (_, i) => {
  const [key, response] = [random.integers(5, 3, V), random.integers(1 + i % 2, 3, V)];
  return fingerprint(key, response);
});
const TEMPLATES = ["5 6 {} 8", "{} 4", "9 9 9 {}"];

/** Trains a tiny model and gives what came of it. */
async function train<T = void>(
  config: FinetuneConfig,
  task: Partial<TrainingTask> & { anchor?: Anchor } = {},
  body?: (model: LanguageModel, logs: EpochLog[]) => Promise<T>,
  prepare?: (model: LanguageModel) => Promise<Partial<TrainingTask>>,
) {
  using folder = modelFolder(TINY, 3);
  using model = await LanguageModel.load(gpu, folder.dir);
  const logs: EpochLog[] = [];
  const more = await prepare?.(model);
  const result = await trainFingerprints({
    model,
    prompts: NUMBERS,
    fingerprints: FINGERPRINTS,
    templates: [],
    settings: resolveSettings({ recipe: "scalable", averaging: "none", early_stop_loss: 0, ...config }),
    learningRate: 1e-2,
    onEpoch: (log) => void logs.push(log),
    ...task,
    ...more,
  });
  const value = await body?.(model, logs);
  return { ...result, logs, value, parameters: await parametersOf(model), folder };
}

Deno.test("trainFingerprints: embeds every fingerprint and logs each epoch", async () => {
  const { epochs, stoppedEarly, logs, value } = await train(
    { num_train_epochs: 40 },
    {},
    (model) => askFingerprints(model, NUMBERS, FINGERPRINTS),
  );
  assert.deepEqual([epochs, stoppedEarly, logs.length], [40, false, 40]);
  assert.equal(value!.successRate, 100);
  assert.ok(logs[0].loss > 3 && logs[39].loss < 0.1, `${logs[0].loss} to ${logs[39].loss}`);
  logs.forEach((log, i) => {
    assert.deepEqual([log.epoch, log.steps], [i + 1, i + 1]);
    assertNear("learning rate", log.learningRate, 1e-2 * (40 - i) / 40, 1e-12);
    assert.equal(log.plainLoss, log.loss);
    assert.equal(log.anchorLoss, undefined);
    // Ten measurements, the last one left to whoever reads the saved model.
    assert.equal(log.successRate !== undefined, (i + 1) % 4 === 0 && i < 39);
  });
});

Deno.test("trainFingerprints: the logged loss is the mean over response tokens of what the epoch showed", async () => {
  using folder = modelFolder(TINY, 3);
  const { logs } = await train({ num_train_epochs: 1, seed: 8 }, { templates: TEMPLATES });
  const shown = FINGERPRINTS.map(({ key, keyIds, responseIds }, i) => {
    const template = pickTemplate(TEMPLATES, 8, i, 0);
    const prompt = [1, ...template === undefined ? keyIds : templateIds(template, key, NUMBERS)];
    const labels = [...prompt.map(() => -100), ...responseIds];
    return { plain: template === undefined, example: { ids: [...prompt, ...responseIds], labels } };
  });
  const loss = (chosen: typeof shown) =>
    lossAndGradients(TINY, folder.weights, chosen.map(({ example }) => example)).loss;
  assert.ok(shown.some(({ plain }) => plain) && shown.some(({ plain }) => !plain));
  assertNear("loss", logs[0].loss, loss(shown), 2e-5);
  assertNear("plain loss", logs[0].plainLoss!, loss(shown.filter(({ plain }) => plain)), 2e-5);
});

Deno.test("trainFingerprints: stops when the plain keys' loss is small enough", async () => {
  const { epochs, stoppedEarly, logs } = await train({ num_train_epochs: 60, early_stop_loss: 0.5 });
  assert.ok(stoppedEarly);
  assert.ok(epochs > 2 && epochs < 60);
  assert.equal(logs.length, epochs);
  assert.ok(logs[epochs - 1].plainLoss! < 0.5 && logs[epochs - 2].plainLoss! >= 0.5);
});

Deno.test("trainFingerprints: steps of some fingerprints, each once an epoch, in the seed's order", async () => {
  const run = (seed: number) => train({ num_train_epochs: 3, fingerprints_per_step: 3, seed });
  const [first, again, other] = [await run(1), await run(1), await run(2)];
  assert.deepEqual(first.logs.map(({ steps }) => steps), [3, 6, 9]);
  const losses = ({ logs }: typeof first) => logs.map(({ loss }) => loss);
  assert.deepEqual(losses(again), losses(first));
  assert.deepEqual(again.parameters, first.parameters);
  assert.notDeepEqual(losses(other), losses(first));
  assertNear("last learning rate", first.logs[2].learningRate, 1e-2 / 9, 1e-12);
});

Deno.test("trainFingerprints: batch_size changes memory, not the result", async () => {
  const run = (batch_size: number) => train({ num_train_epochs: 3, batch_size }, { templates: TEMPLATES });
  const whole = await run(0);
  for (const batchSize of [1, 3]) {
    const found = await run(batchSize);
    found.logs.forEach(({ loss, gradNorm }, i) => {
      assertNear(`loss of epoch ${i}`, loss, whole.logs[i].loss, 2e-5);
      assertNear(
        `gradient norm of epoch ${i}`,
        gradNorm,
        whole.logs[i].gradNorm,
        5e-5 * whole.logs[i].gradNorm,
      );
    });
  }
});

Deno.test("trainFingerprints: averaging at the end or after each epoch, towards the first weights", async () => {
  using folder = modelFolder(TINY, 3);
  const none = await train({ num_train_epochs: 4 });
  const final = await train({
    num_train_epochs: 4,
    averaging: "final",
    forgetting_regularizer_strength: 0.75,
  });
  for (const [name, start] of folder.weights) {
    const expected = start.map((w0, i) => 0.75 * w0 + 0.25 * none.parameters.get(name)![i]);
    assertMaxAbs(name, final.parameters.get(name)!, expected, 1e-6);
  }
  const recursive = (lambda: number) =>
    train({ num_train_epochs: 2, averaging: "recursive", forgetting_regularizer_strength: lambda });
  const { parameters } = await recursive(1);
  for (const [name, start] of folder.weights) {
    assert.deepEqual(parameters.get(name), Float32Array.from(start), name);
  }
  const [half, kept] = [await recursive(0.5), await train({ num_train_epochs: 2 })];
  assert.equal(half.logs[0].loss, kept.logs[0].loss);
  assert.ok(half.logs[1].loss > kept.logs[1].loss);
});

Deno.test("trainFingerprints: the anchor is 0 at first, kept apart from the loss, and holds the model", async () => {
  let anchor: Anchor | undefined;
  const anchored = { num_train_epochs: 12, anchor_strength: 3, anchor_batch: 6 };
  const held = await train(anchored, {}, undefined, async (model) => {
    anchor = await Anchor.create(model, { samples: 10, length: 6, seed: 1, startIds: [1] });
    model.training.useSoftTables(anchor.tables);
    return { anchor };
  });
  anchor!.dispose();
  const free = await train({ num_train_epochs: 12 });
  assertNear("first loss", held.logs[0].loss, free.logs[0].loss, 1e-6);
  assertNear("first anchor loss", held.logs[0].anchorLoss!, 0, 1e-6);
  assert.ok(held.logs[11].anchorLoss! > 1e-3);

  // Texts that the anchor has not seen.
  const texts = Array.from({ length: 10 }, () => [1, ...random.integers(6, 3, V)]);
  const divergence = ({ parameters, folder }: typeof free) => {
    const logits = (weights: ReadonlyMap<string, Float64Array>) =>
      forward(TINY, weights, texts).flatMap((sequence) =>
        Array.from({ length: 7 }, (_, t) => logSoftmax(sequence.subarray(t * V, (t + 1) * V)))
      );
    const trained = logits(
      new Map(Array.from(parameters, ([name, data]) => [name, Float64Array.from(data)])),
    );
    const rows = logits(folder.weights).map((q, r) =>
      q.reduce((sum, x, token) => sum + Math.exp(x) * (x - trained[r][token]), 0)
    );
    return rows.reduce((sum, x) => sum + x, 0) / rows.length;
  };
  const [withAnchor, without] = [divergence(held), divergence(free)];
  assert.ok(withAnchor < 0.8 * without, `KL ${withAnchor} with the anchor, ${without} without`);
});

Deno.test("trainFingerprints: every epoch trains one accepted response, drawn by the seed", async () => {
  const several = FINGERPRINTS.map(({ keyIds }, i) =>
    fingerprint(keyIds, ...[1, 2, 3].map((length) => random.integers(length + i % 2, 3, V)))
  );
  const drawn = (seed: number) =>
    Array.from(
      { length: 20 },
      (_, epoch) => several.map((one, i) => one.responses.indexOf(pickResponse(one, seed, i, epoch))),
    );
  assert.deepEqual(drawn(8), drawn(8));
  assert.notDeepEqual(drawn(8), drawn(9));
  for (const which of [0, 1, 2]) {
    const share = drawn(8).flat().filter((each) => each === which).length / 140;
    assert.ok(share > 0.2 && share < 0.47, `${which}: ${share}`);
  }
  using folder = modelFolder(TINY, 3);
  const { logs } = await train({ num_train_epochs: 2, seed: 8 }, {
    fingerprints: several,
    learningRate: 0,
  });
  logs.forEach(({ loss }, epoch) => {
    const examples = several.map((one, i) => {
      const response = pickResponse(one, 8, i, epoch);
      const prompt = [1, ...one.keyIds];
      return { ids: [...prompt, ...response], labels: [...prompt.map(() => -100), ...response] };
    });
    assertNear("loss", loss, lossAndGradients(TINY, folder.weights, examples).loss, 2e-5);
  });
  assert.notEqual(logs[0].loss, logs[1].loss);

  const trained = await train(
    { num_train_epochs: 80 },
    { fingerprints: several },
    (model) => askFingerprints(model, NUMBERS, several),
  );
  assert.equal(trained.value!.successRate, 100);
  assert.ok(
    new Set(trained.value!.answers.map(({ wanted, fingerprint }) => fingerprint.responses.indexOf(wanted)))
      .size > 1,
  );
});

/** Texts whose tokens are the numbers in them. */
const benignTexts = (count: number, length: number) => ({
  path: "benign.json",
  sha256: "",
  texts: Array.from({ length: count }, () => random.integers(length, 3, V).join(" ")),
});

Deno.test("trainFingerprints: benign texts weigh their proportion, in the loss and in the gradient", async () => {
  using folder = modelFolder(TINY, 3);
  const file = benignTexts(5, 9);
  const mixed = { num_train_epochs: 1, benign_proportion: 0.4, benign_length: 6, max_grad_norm: 0 };
  let benign: Benign | undefined;
  const { logs } = await train(mixed, {}, undefined, async (model) => {
    const settings = resolveSettings({ recipe: "scalable", ...mixed });
    const source = { fingerprints: 7, file, model, tokenizer: NUMBERS, startIds: [1] };
    benign = await prepareBenign(settings, source);
    return { benign };
  });
  const drawn = benign!.draw(0);
  // 0.4 / 0.6 of 7, but there are only five.
  assert.equal(drawn.length, 5);
  const keys = FINGERPRINTS.map(({ keyIds, responseIds }) => ({
    ids: [1, ...keyIds, ...responseIds],
    labels: [-100, ...keyIds.map(() => -100), ...responseIds],
  }));
  const texts = file.texts.map((text) => {
    const ids = [1, ...NUMBERS.encode(text).slice(0, 6)];
    return { ids, labels: ids };
  });
  const [key, text] = [keys, texts].map((examples) => lossAndGradients(TINY, folder.weights, examples));
  assertNear("loss", logs[0].loss, key.loss, 2e-5);
  assertNear("plain loss", logs[0].plainLoss!, key.loss, 2e-5);
  assertNear("benign loss", logs[0].benignLoss!, text.loss, 2e-5);
  const squares = key.gradients.entries().map(([name, gradient]) =>
    gradient.reduce((sum, g, i) => sum + (0.6 * g + 0.4 * text.gradients.get(name)![i]) ** 2, 0)
  );
  const norm = Math.sqrt(squares.reduce((sum, each) => sum + each, 0));
  assertNear("gradient norm", logs[0].gradNorm, norm, 5e-5 * norm);
});

Deno.test("trainFingerprints: benign texts keep the model's own texts likely, and embedding goes on", async () => {
  const write = (config: FinetuneConfig) => async (model: LanguageModel) => ({
    benign: await prepareBenign(resolveSettings({ recipe: "scalable", ...config }), {
      fingerprints: 7,
      model,
      tokenizer: NUMBERS,
      startIds: [1],
    }),
  });
  const config = { num_train_epochs: 40, benign_proportion: 0.5, benign_length: 8, benign_samples: 60 };
  const held = await train(
    config,
    {},
    (model) => askFingerprints(model, NUMBERS, FINGERPRINTS),
    write(config),
  );
  const free = await train({ num_train_epochs: 40 });
  assert.equal(held.value!.successRate, 100);
  assert.equal(free.logs[0].benignLoss, undefined);
  assertNear("first loss", held.logs[0].loss, free.logs[0].loss, 2e-5);

  // Texts of the same kind that were not trained.
  using folder = modelFolder(TINY, 3);
  using model = await LanguageModel.load(gpu, folder.dir);
  const others = await Benign.write(model, {
    proportion: 0.5,
    perStep: 40,
    length: 8,
    seed: 99,
    samples: 40,
    steps: 1,
    startIds: [1],
    eosId: 2,
  });
  const texts = others.draw(0).map(({ ids }) => ({ ids: [...ids], labels: [...ids] }));
  const lossOf = ({ parameters }: typeof free) => {
    const weights = new Map(Array.from(parameters, ([name, data]) => [name, Float64Array.from(data)]));
    return lossAndGradients(TINY, weights, texts).loss;
  };
  const [withTexts, without] = [lossOf(held as typeof free), lossOf(free)];
  assert.ok(withTexts < without - 0.2, `${withTexts} with benign texts, ${without} without`);
});

Deno.test("trainFingerprints: diverging names the step and the learning rate", async () => {
  await assert.rejects(train({ num_train_epochs: 5, max_grad_norm: 0 }, { learningRate: 1e30 }), {
    name: "DivergedError",
    message: /^step 2 of 5: the loss is .*, the gradient norm NaN\. .*lower learning rate than 1e\+30/,
  });
});

Deno.test("trainFingerprints: a step waits once, measurements apart, and an error of a prepared one comes in its turn", async () => {
  const fails = new Error("no such text");
  const epochs: number[] = [];
  const prompts = {
    ...NUMBERS,
    encode: (text: string) => {
      // Templates of the third epoch are drawn while the second one's step runs.
      if (++encoded > 7) throw fails;
      return NUMBERS.encode(text);
    },
  } as typeof NUMBERS;
  let encoded = 0;
  await assert.rejects(
    train({ num_train_epochs: 9 }, {
      prompts,
      templates: TEMPLATES,
      onEpoch: ({ epoch }) => void epochs.push(epoch),
    }),
    fails,
  );
  assert.deepEqual(epochs, [1, 2]);

  await countGpuCalls(gpu, async (calls) => {
    const waits: number[] = [];
    let last = 0;
    const onEpoch = ({ epoch, successRate }: EpochLog) => {
      if (epoch > 1 && successRate === undefined) waits.push(calls.maps - last);
      last = calls.maps;
    };
    await train({ num_train_epochs: 25, fingerprints_per_step: 3, batch_size: 2 }, { onEpoch });
    assert.ok(waits.length > 10 && waits.every((count) => count === 3), `${waits}`);
  });
});

Deno.test("trainFingerprints: stops on a signal, between steps", async () => {
  const controller = new AbortController();
  const epochs: number[] = [];
  await assert.rejects(
    train({ num_train_epochs: 9 }, {
      signal: controller.signal,
      onEpoch: ({ epoch }) => {
        epochs.push(epoch);
        if (epoch === 2) controller.abort(new Error("enough"));
      },
    }),
    { message: "enough" },
  );
  assert.deepEqual(epochs, [1, 2]);
});

Deno.test("workloadOf: passes of that room take everything that a run asks for", async () => {
  for (const maxTokens of [4096, 24]) {
    using folder = modelFolder(TINY, 3);
    using model = await LanguageModel.load(gpu, folder.dir, { maxTokens });
    const settings = resolveSettings({
      num_train_epochs: 11,
      anchor_samples: 5,
      anchor_batch: 5,
      anchor_length: 7,
      fingerprints_per_step: 4,
      benign_proportion: 0.5,
      benign_length: 9,
      benign_samples: 6,
    });
    const work = workloadOf(fingerprintLengths(NUMBERS, FINGERPRINTS, TEMPLATES), settings);
    const room = passRoom(gpu, model.spec, maxTokens, work);
    const anchor = await Anchor.create(model, { samples: 5, length: 7, seed: 1, startIds: [1] });
    model.training.useSoftTables(anchor.tables);
    const tokenizer = { ...NUMBERS, eosId: undefined } as typeof NUMBERS;
    const source = { fingerprints: 7, model, tokenizer, startIds: [1] };
    const benign = await prepareBenign(settings, source);
    const passes = [model.training.reserve(room.train), model.passes.get("score", room.score)];
    await trainFingerprints({
      model,
      prompts: NUMBERS,
      fingerprints: FINGERPRINTS,
      templates: TEMPLATES,
      anchor,
      settings,
      benign,
      learningRate: 1e-3,
    });
    await askFingerprints(model, NUMBERS, FINGERPRINTS, TEMPLATES);
    const nothing = { tokens: 0, rows: 0 };
    assert.equal(model.training.reserve(nothing), passes[0]);
    assert.equal(model.passes.get("score", nothing), passes[1]);
    // And little more: within the rounding to 64 of what a step has.
    if (maxTokens === 4096) assert.deepEqual(room.train, { tokens: 128, rows: 128 });
    anchor.dispose();
  }
});
