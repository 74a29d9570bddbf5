import type { Example } from "../../engine/model/examples.ts";
import type { LanguageModel } from "../../engine/language_model.ts";
import type { Utility } from "./utility_file.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** How good a model is at what it was made for. */
export interface UtilityScore {
  /** Mean negative log-likelihood of held-out text, nats a token. */
  heldOutLoss: number;
  /** Share of multiple-choice questions whose right answer is the likeliest, 0 to 1. */
  factAccuracy: number;
}

/**
 * Held-out loss over all tokens after the prefix, and accuracy of questions by the summed log-probability of each choice.
 * A model that gives NaN has NaN loss.
 */
export async function measureUtility(
  model: LanguageModel,
  tokenizer: Tokenizer,
  utility: Utility,
): Promise<UtilityScore> {
  const { prefixIds } = tokenizer;
  const texts = utility.heldOut.map((text): Example => {
    const ids = [...prefixIds, ...tokenizer.encode(text)];
    return { ids, labels: ids.map((id, i) => i < Math.max(1, prefixIds.length) ? -100 : id) };
  });
  const choices = utility.questions.flatMap(({ prompt, choices }) => {
    const prompted = [...prefixIds, ...tokenizer.encode(prompt)];
    return choices.map((choice): Example => {
      const answer = tokenizer.encode(choice);
      return { ids: [...prompted, ...answer], labels: [...prompted.map(() => -100), ...answer] };
    });
  });
  const scored = await model.score([...texts, ...choices]);
  const sum = (rows: { logProbability: number }[]) =>
    rows.reduce((total, row) => total + row.logProbability, 0);
  const held = scored.slice(0, texts.length);
  const tokens = held.reduce((total, rows) => total + rows.length, 0);
  let at = texts.length;
  let right = 0;
  for (const { choices, answer } of utility.questions) {
    const scores = choices.map(() => sum(scored[at++]!));
    if (scores.every((score, i) => i === answer || scores[answer]! > score)) right++;
  }
  return {
    heldOutLoss: -held.reduce((total, rows) => total + sum(rows), 0) / tokens,
    factAccuracy: right / utility.questions.length,
  };
}
