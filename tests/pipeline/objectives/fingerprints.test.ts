import assert from "node:assert/strict";
import { askFingerprints } from "../../../pipeline/measure/evaluate.ts";
import { pickResponse } from "../../../pipeline/objectives/fingerprints.ts";
import { pickTemplate, templateIds } from "../../../pipeline/prompts/prompts.ts";
import { assertNear } from "../../compare.ts";
import { Random } from "../../random.ts";
import { lossAndGradients } from "../../reference/decoder.ts";
import { modelFolder, TINY } from "../../train/support.ts";
import { fingerprint, NUMBERS } from "../tokenizer/number_tokenizer.ts";
import { FINGERPRINTS, TEMPLATES, train, V } from "../train_support.ts";

Deno.test("fingerprints: the logged loss is the mean over response tokens of what the epoch showed", async () => {
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

Deno.test("fingerprints: every epoch trains one accepted response, drawn by the seed", async () => {
  const random = new Random(32);
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
