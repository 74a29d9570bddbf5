/** Objectives trained beside the fingerprints. */
import assert from "node:assert/strict";
import { LanguageModel } from "../../../engine/language_model.ts";
import { askFingerprints } from "../../../pipeline/measure/evaluate.ts";
import { Benign } from "../../../pipeline/objectives/benign.ts";
import { assertNear } from "../../compare.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { Random } from "../../random.ts";
import { logSoftmax } from "../../reference/cross_entropy.ts";
import { forward, lossAndGradients } from "../../reference/decoder.ts";
import { modelFolder, TINY } from "../../train/support.ts";
import { NUMBERS } from "../tokenizer/number_tokenizer.ts";
import { FINGERPRINTS, train, V } from "../train_support.ts";

const gpu = await sharedGpu();
const random = new Random(33);

Deno.test("the anchor is 0 at first, kept apart from the loss, and holds the model", async () => {
  const anchor = { anchor_strength: 3, anchor_batch: 6, anchor_samples: 10, anchor_length: 6 };
  const held = await train({ num_train_epochs: 12, ...anchor });
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

/** Texts whose tokens are the numbers in them. */
const benignTexts = (count: number, length: number) => ({
  path: "benign.json",
  sha256: "",
  texts: Array.from({ length: count }, () => random.integers(length, 3, V).join(" ")),
});

Deno.test("benign texts weigh their proportion, in the loss and in the gradient", async () => {
  using folder = modelFolder(TINY, 3);
  const file = benignTexts(5, 9);
  const mixed = { num_train_epochs: 1, benign_proportion: 0.4, benign_length: 6, max_grad_norm: 0 };
  const chosen = FINGERPRINTS.map((_, i) => i);
  const { logs, value: drawn } = await train(
    mixed,
    { benignFile: file },
    (_, objectives) => Promise.resolve(objectives[1].draw({ step: 0, epoch: 0, chosen }, 1)),
  );
  // 0.4 / 0.6 of 7, rounded.
  assert.equal(drawn!.length, 5);
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

Deno.test("benign texts keep the model's own texts likely, and embedding goes on", async () => {
  const config = { num_train_epochs: 40, benign_proportion: 0.5, benign_length: 8, benign_samples: 60 };
  const held = await train(
    config,
    {},
    (model) => askFingerprints(model, NUMBERS, FINGERPRINTS),
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
