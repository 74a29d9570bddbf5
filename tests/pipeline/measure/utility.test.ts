import assert from "node:assert/strict";
import { LanguageModel } from "../../../engine/language_model.ts";
import type { Utility } from "../../../pipeline/measure/utility_file.ts";
import { measureUtility } from "../../../pipeline/measure/utility.ts";
import { assertNear } from "../../compare.ts";
import { sharedGpu } from "../../gpu_device.ts";
import { Random } from "../../random.ts";
import { logSoftmax } from "../../reference/cross_entropy.ts";
import { forward } from "../../reference/decoder.ts";
import { modelFolder, TINY } from "../../train/support.ts";
import { NUMBERS } from "../tokenizer/number_tokenizer.ts";

const gpu = await sharedGpu();
const V = TINY.vocab_size as number;

Deno.test("measureUtility: held-out loss and fact accuracy, against float64", async () => {
  using folder = modelFolder(TINY, 8);
  const random = new Random(2);
  const text = (length: number) => random.integers(length, 3, V).join(" ");
  const questions = Array.from({ length: 12 }, (_, i) => ({
    prompt: text(3),
    choices: [text(1 + i % 3), text(2), text(1), text(3)],
    answer: i % 4,
  }));
  const utility = { heldOut: [text(9), text(1), text(14)], questions } as unknown as Utility;

  /** Log-probabilities of the tokens from `first` on. */
  const rows = (ids: number[], first: number): number[] => {
    const [logits] = forward(TINY, folder.weights, [ids]);
    return ids.slice(first).map((token, i) => {
      const position = first + i - 1;
      return logSoftmax(logits.subarray(position * V, (position + 1) * V))[token];
    });
  };
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  const held = utility.heldOut.flatMap((line) => rows([1, ...NUMBERS.encode(line)], 1));
  assert.equal(held.length, 9 + 1 + 14);
  const right = questions.filter(({ prompt, choices, answer }) => {
    const prompted = [1, ...NUMBERS.encode(prompt)];
    const scores = choices.map((choice) =>
      sum(rows([...prompted, ...NUMBERS.encode(choice)], prompted.length))
    );
    return scores.indexOf(Math.max(...scores)) === answer;
  });
  assert.ok(right.length > 0 && right.length < questions.length);

  using model = await LanguageModel.load(gpu, folder.dir);
  const { heldOutLoss, factAccuracy } = await measureUtility(model, NUMBERS, utility);
  assertNear("held-out loss", heldOutLoss, -sum(held) / held.length, 2e-5);
  assert.equal(factAccuracy, right.length / questions.length);
});

Deno.test("measureUtility: a model of NaN has a loss of NaN and no right answer; equal choices are no answer", async () => {
  const utility = {
    heldOut: ["3 4"],
    questions: [{ prompt: "3", choices: ["5", "5"], answer: 0 }, {
      prompt: "4",
      choices: ["5", "6"],
      answer: 1,
    }],
  } as unknown as Utility;
  using broken = modelFolder(TINY, 8, (name, data) => {
    if (name === "model.norm.weight") data.fill(3e38);
  });
  using model = await LanguageModel.load(gpu, broken.dir);
  const { heldOutLoss, factAccuracy } = await measureUtility(model, NUMBERS, utility);
  assert.ok(Number.isNaN(heldOutLoss));
  assert.equal(factAccuracy, 0);

  using folder = modelFolder(TINY, 8);
  using whole = await LanguageModel.load(gpu, folder.dir);
  const equal = { ...utility, questions: utility.questions.slice(0, 1) };
  assert.equal((await measureUtility(whole, NUMBERS, equal)).factAccuracy, 0);
});
