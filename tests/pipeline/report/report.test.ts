import assert from "node:assert/strict";
import type { CheckSettings } from "../../../pipeline/measure/check_settings.ts";
import {
  checkText,
  droppedLines,
  epochLine,
  formatBytes,
  formatSeconds,
  formatTable,
  layoutText,
  measurementTable,
  memoryLines,
  verdict,
} from "../../../pipeline/report/report.ts";

const measured = (successRate: number, more = {}) => ({
  successRate,
  promptedSuccessRate: successRate / 2,
  ...more,
});

Deno.test("the verdict claims no effect that isn't there", () => {
  for (const [before, after] of [[0, 0], [30, 30.9], [100, 100], [50, 10], [95, 95]]) {
    assert.match(verdict(measured(before), measured(after)), /^This run embedded nothing: /);
  }
  assert.match(
    verdict(measured(100), measured(100)),
    /: the model answered 100\.0 % of the fingerprints before it\.$/,
  );
  assert.match(verdict(measured(95), measured(20)), / A higher learning rate/);
  assert.match(verdict(measured(0), measured(89.9)), /^Only 89\.9 % of the fingerprints are embedded\. /);
  assert.equal(verdict(measured(0), measured(90)), "90.0 % of the fingerprints are embedded.");
});

Deno.test("the table shows success and, where it was measured, utility", () => {
  assert.equal(
    measurementTable(measured(0), measured(100)),
    [
      "                                 before     after          change",
      "success rate, plain keys          0.0 %   100.0 %   +100.0 points",
      "success rate, held-out prompts    0.0 %    50.0 %    +50.0 points",
    ].join("\n"),
  );
  const table = measurementTable(
    measured(1, { heldOutLoss: 2, factAccuracy: 0.995 }),
    measured(0.5, { heldOutLoss: 2.1, factAccuracy: 0.985 }),
  );
  assert.match(table, /^success rate, plain keys .*−0\.5 points$/m);
  assert.match(table, /^held-out loss, nats a token +2\.0000 +2\.1000 +\+5\.0 %$/m);
  assert.match(table, /^facts right +99\.5 % +98\.5 % +−1\.0 points$/m);
});

Deno.test("an epoch is one line, with what it has", () => {
  const log = { epoch: 3, steps: 3, loss: 1.23456, gradNorm: 1, learningRate: 1e-3, seconds: 2 };
  assert.equal(epochLine(log, 40, undefined, 61.2), "epoch  3/40  loss 1.2346  61 s left");
  assert.equal(
    epochLine({ ...log, anchorLoss: -3.8e-8 }, 5, 87.5, 125),
    "epoch 3/5  loss 1.2346  anchor 0.0000  success 87.5 %  2 min 05 s left",
  );
  assert.equal(
    epochLine({ ...log, benignLoss: 2.5 }, 5, undefined, 9),
    "epoch 3/5  loss 1.2346  benign 2.5000  9 s left",
  );
});

Deno.test("bytes, seconds and tables read well", () => {
  assert.deepEqual(
    [0, 1, 1023, 1024, 1536, 2 ** 20, 100 * 2 ** 30, 2 ** 40, 2 ** 55].map(formatBytes),
    ["0 B", "1 B", "1023 B", "1.00 KiB", "1.50 KiB", "1.00 MiB", "100 GiB", "1.00 TiB", "32768 TiB"],
  );
  assert.equal(formatBytes(1001 * 2 ** 20), "1001 MiB");
  assert.deepEqual([0, 0.4, 99.4, 99.5, 3600, 5999, 6000, 359_999].map(formatSeconds), [
    "0 s",
    "0 s",
    "99 s",
    "1 min 40 s",
    "60 min 00 s",
    "99 min 59 s",
    "1 h 40 min",
    "100 h 00 min",
  ]);
  assert.equal(formatTable([["a", "b"], ["long", "1"], ["", ""]]), "a      b\nlong   1\n");
  const choice = {
    dtype: "bf16" as const,
    master: "none" as const,
    maxTokens: 512,
    keepActivations: false,
    capacity: { train: { tokens: 64, rows: 64 }, score: { tokens: 64, rows: 64 } },
    plan: {
      parts: [{ name: "weights", bytes: 1024 }, { name: "gradients", bytes: 512 }],
      totalBytes: 1536,
    },
  };
  assert.equal(
    memoryLines(choice, 2 ** 20),
    "1.50 KiB of device memory (at most 1.00 MiB): weights 1.00 KiB, gradients 512 B; " +
      "weights in bf16 without masters, micro-batches of at most 512 tokens, activation checkpointing",
  );
  assert.equal(
    layoutText({ ...choice, dtype: "bf16", master: "f32", keepActivations: true }),
    "weights in bf16 with f32 masters, micro-batches of at most 512 tokens",
  );
});

Deno.test("what was left out is counted, entries by number only", () => {
  const none = { repeats: 0, conflicts: [], unusable: [], cut: 0, shortened: 0 };
  assert.equal(droppedLines(none), "");
  const conflicts = Array.from({ length: 12 }, (_, i) => i);
  const text = droppedLines({
    repeats: 2,
    conflicts,
    unusable: [{ entry: 7, reason: "too short" }],
    cut: 3,
    shortened: 1,
    retokenized: 4,
    cutKeys: 5,
    otherModel: 6,
  });
  assert.deepEqual(text.split("\n"), [
    "2 exact repeats dropped",
    "12 entries with an earlier entry's key but another response dropped (counted from 0: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …)",
    "1 unusable entries dropped (entry 7: too short)",
    "3 responses cut to max_response_length",
    "5 keys cut to max_key_length",
    "warning: 6 fingerprints were made with another model (see their model_hash): responses that were drawn from its " +
    "probabilities may be likely, or out of place, in this one",
    "4 entries are of another tokenizer: their text was tokenised anew",
    "1 keys shortened so that their text gives the same tokens",
  ]);
});

Deno.test("a check's text has a line a question and the rates", () => {
  const said = <T>(value: T) => ({ value, from: "file" as const });
  const settings: CheckSettings = {
    fingerprint_generation_strategy: said("stored"),
    max_key_length: said(16),
    max_response_length: said(1),
    keep_eos_in_response: said("stored"),
    use_chat_template: said(false),
    num_fingerprints: { value: 0, from: "default" },
    seed: { value: 42, from: "default" },
  };
  const rates = {
    success_rate: 50,
    fractional_accuracy: 75,
    fingerprints: 2,
    questions: 2,
    settings,
    dropped: { repeats: 0, conflicts: [], unusable: [], cut: 0, shortened: 0 },
    other_model: null,
  };
  assert.equal(
    checkText({ ...rates, settings: { ...settings, max_response_length: { value: 1, from: "default" } } })
      .split("\n")[0],
    "assumed, since neither flags, run nor file say so: max_response_length 1",
  );
  assert.equal(
    checkText(rates),
    "success rate 50.0 %, fractional accuracy 75.0 % (2 fingerprints, 2 questions)",
  );
  const row = {
    entry: 4,
    prompt: "Go on: {}",
    wanted: " a\n",
    got: " b",
    exact: false,
    fractional: 0.5,
    rank: 12,
    probability: 0.0123,
    top: [{ token: " b", probability: 0.5 }, { token: '"', probability: 0.25 }],
  };
  assert.equal(
    checkText({ ...rates, rows: [row] }).split("\n")[0],
    'no   entry 4 in "Go on: {}": wanted " a\\n", got " b"; wanted has rank 12, 1.2 %; likeliest " b" 50.0 %, "\\"" 25.0 %',
  );
});
