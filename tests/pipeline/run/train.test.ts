import assert from "node:assert/strict";
import { askFingerprints } from "../../../pipeline/measure/evaluate.ts";
import type { EpochLog } from "../../../pipeline/run/train.ts";
import { assertMaxAbs, assertNear } from "../../compare.ts";
import { countGpuCalls } from "../../gpu_calls.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { modelFolder, TINY } from "../../train/support.ts";
import { NUMBERS } from "../tokenizer/number_tokenizer.ts";
import { FINGERPRINTS, TEMPLATES, train } from "../train_support.ts";

const gpu = await sharedGpu();

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
