import type { Model } from "../engine/train/model.ts";
import { softmax } from "./anchor.ts";
import { type Fingerprint, toExample } from "./fingerprints.ts";
import { type PromptEncoder, templateIds } from "./prompts.ts";

/** One question to the model: a fingerprint's key, plain or in a prompt, and its answer. */
export interface Answer {
  fingerprint: Fingerprint;
  /** Index of the prompt template; undefined for the plain key. */
  template?: number;
  promptIds: number[];
  /** The accepted response that the answer came nearest to. */
  wanted: number[];
  /** Greedy continuation, as long as the longest accepted response. */
  got: number[];
  exact: boolean;
  /** Share of positions of `wanted` that `got` has right, 0 to 1. */
  fractional: number;
  /** Probability of the trained response's first token. */
  probability: number;
}

/** Answers together, in per cent. */
export interface SuccessRate {
  successRate: number;
  fractionalAccuracy: number;
  questions: number;
  /** Mean cross-entropy of the trained responses, nats a token. */
  loss: number;
  answers: Answer[];
}

/** Asks every fingerprint once with its plain key, or once with each template. */
export async function askFingerprints(
  model: Model,
  prompts: PromptEncoder,
  fingerprints: readonly Fingerprint[],
  templates?: readonly string[],
): Promise<SuccessRate> {
  type Question = Pick<Answer, "fingerprint" | "template" | "promptIds">;
  const questions = fingerprints.flatMap((fingerprint): Question[] =>
    templates?.map((text, template) => ({
      ...{ fingerprint, template },
      promptIds: templateIds(text, fingerprint.key, prompts),
    })) ?? [{ fingerprint, promptIds: [...prompts.askedIds(fingerprint)] }]
  );
  const { prefixIds } = prompts;
  const scored = await model.score(
    questions.map(({ fingerprint, promptIds }) => toExample(fingerprint, prefixIds, promptIds)),
  );
  const answers: Answer[] = questions.map((question, i) => {
    const { responseIds } = question.fingerprint;
    const got = scored[i].map(({ greedy }) => greedy);
    const exact = got.every((token, t) => token === responseIds[t]);
    return {
      ...question,
      ...{ wanted: responseIds, got, exact, fractional: Number(exact) },
      probability: Math.exp(scored[i][0].logProbability),
    };
  });
  // Teacher forcing settles exact matches and single tokens; anything else must be decoded.
  const open = answers.filter(({ exact, fingerprint: { responses } }) =>
    !exact && (responses.length > 1 || responses[0].length > 1)
  );
  await decode(model, prefixIds, open);
  const sum = (of: (answer: Answer) => number) => answers.reduce((total, answer) => total + of(answer), 0);
  const rows = scored.flat();
  return {
    successRate: 100 * sum(({ exact }) => Number(exact)) / answers.length,
    fractionalAccuracy: 100 * sum(({ fractional }) => fractional) / answers.length,
    questions: answers.length,
    loss: -rows.reduce((total, { logProbability }) => total + logProbability, 0) / rows.length,
    answers,
  };
}

/** Greedy decoding of open answers, the whole sequence anew for each token; then the best accepted response. */
async function decode(model: Model, prefixIds: readonly number[], answers: Answer[]): Promise<void> {
  for (const answer of answers) answer.got = [];
  const lengthOf = ({ fingerprint }: Answer) => Math.max(...fingerprint.responses.map((ids) => ids.length));
  for (let t = 0;; t++) {
    const open = answers.filter((answer) => lengthOf(answer) > t);
    if (!open.length) break;
    const scored = await model.score(open.map(({ promptIds, got }) => {
      // A NaN row's −1 is no token to go on from; 0 is, and −1 stays wrong.
      const ids = [...prefixIds, ...promptIds, ...got.map((token) => Math.max(0, token)), 0];
      return { ids, labels: ids.map((_, i) => i === ids.length - 1 ? 0 : -100) };
    }));
    open.forEach(({ got }, i) => got.push(scored[i][0].greedy));
  }
  for (const answer of answers) {
    for (const response of answer.fingerprint.responses) {
      const right = response.filter((token, t) => token === answer.got[t]).length;
      const exact = right === response.length;
      if (exact && !answer.exact || right / response.length > answer.fractional) {
        Object.assign(answer, { wanted: response, exact, fractional: right / response.length });
      }
    }
  }
}

/** What the model holds likely where an answer was decided. */
export interface AnswerDetail {
  /** 1 is the likeliest token. */
  rank: number;
  probability: number;
  top: { token: number; probability: number }[];
}

/** Rank and probability of the wanted token at the first wrong position (or the first), and the five likeliest. */
export async function explainAnswers(
  model: Model,
  prompts: PromptEncoder,
  answers: readonly Answer[],
): Promise<AnswerDetail[]> {
  const details: AnswerDetail[] = [];
  const group = 64;
  for (let first = 0; first < answers.length; first += group) {
    const batch = answers.slice(first, first + group);
    const places = batch.map(({ wanted, got }) =>
      Math.max(0, wanted.findIndex((token, t) => token !== got[t]))
    );
    const logits = await model.logitsAt(batch.map(({ promptIds, wanted }, i) => {
      const ids = [...prompts.prefixIds, ...promptIds, ...wanted.slice(0, places[i])];
      return { ids, positions: [ids.length - 1] };
    }));
    batch.forEach(({ wanted }, i) => {
      const p = softmax(logits[i]);
      const token = wanted[places[i]];
      const order = Uint32Array.from(p, (_, id) => id).sort((a, b) => p[b] - p[a] || a - b);
      details.push({
        rank: order.indexOf(token) + 1,
        probability: p[token],
        top: Array.from(order.subarray(0, 5), (id) => ({ token: id, probability: p[id] })),
      });
    });
  }
  return details;
}
