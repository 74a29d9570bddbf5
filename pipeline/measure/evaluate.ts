import type { ModelSpec } from "../../engine/models/spec.ts";
import type { LanguageModel } from "../../engine/language_model.ts";
import type { ScoredRow, WorkProgress } from "../../engine/model/score.ts";
import { byProbability, softmax } from "../../engine/infer/sample.ts";
import { type Fingerprint, longestResponse, toExample } from "../fingerprints/prepare.ts";
import { type PromptEncoder, templateIds } from "../prompts/prompts.ts";

/** One question to the model: a fingerprint's key, plain or in a prompt, and its answer. */
export interface Answer {
  fingerprint: Fingerprint;
  /** Index of the prompt template; undefined for the plain key. */
  template?: number;
  promptIds: number[];
  /** The accepted response that the answer came nearest to. */
  wanted: number[];
  /**
   * The model's answer as far as it was needed: up to the longest accepted response; −1 stands for NaN
   * logits.
   */
  got: number[];
  exact: boolean;
  /** Share of positions of `wanted` that `got` has right, 0 to 1. */
  fractional: number;
  /** Probability of the first response's first token. */
  probability: number;
}

/** Answers together, in per cent. */
export interface SuccessRate {
  successRate: number;
  fractionalAccuracy: number;
  questions: number;
  /** Mean cross-entropy of the first responses, nats a token. */
  loss: number;
  answers: Answer[];
}

/** How answers are taken. */
export interface AskOptions {
  /** 0 (default) takes the likeliest tokens; above, answers are drawn. */
  temperature?: number | undefined;
  /** Of drawn answers. Default 0. */
  seed?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Hears how many of the questions were asked, and of the tokens that had to be decoded. */
  onProgress?: WorkProgress | undefined;
}

type Question = Pick<Answer, "fingerprint" | "template" | "promptIds">;

/**
 * Asks every fingerprint once with its plain key, or once with each template.
 *
 * A teacher-forced pass over the first response gives greedy decoding's tokens up to the first that is not
 * the response's. The model decodes where that does not settle an answer, where answers are drawn, and where
 * a prompt alone has longrope's short frequencies but a prompt with its response the long ones.
 */
export async function askFingerprints(
  model: LanguageModel,
  prompts: PromptEncoder,
  fingerprints: readonly Fingerprint[],
  templates?: readonly string[],
  { temperature = 0, seed = 0, signal, onProgress }: AskOptions = {},
): Promise<SuccessRate> {
  const questions = fingerprints.flatMap((fingerprint): Question[] =>
    templates?.map((text, template) => ({
      fingerprint,
      template,
      promptIds: templateIds(text, fingerprint.key, prompts),
    })) ?? [{ fingerprint, promptIds: [...prompts.askedIds(fingerprint)] }]
  );
  const { prefixIds } = prompts;
  const scored = await scoreResponses(model, prefixIds, questions, onProgress);
  const answers = questions.map((question, i) =>
    judge(question, teacherForced(question, scored[i]!), scored[i]!)
  );
  const open = answers.flatMap((answer, i) => {
    // NaN logits are wrong, and there is no token to go on from.
    if (answer.got.at(temperature > 0 ? 0 : -1) === NAN) return [];
    const isOpen = temperature > 0 || !isSettled(answer) || crosses(model.spec, prefixIds, answer);
    return isOpen ? [i] : [];
  });
  if (!open.length) return summarise(answers, scored.flat());
  const decoded = await model.generate(open.map((i) => [...prefixIds, ...questions[i]!.promptIds]), {
    temperature,
    seed,
    signal,
    onProgress,
    stop: [],
    maxNewTokens: open.reduce((most, i) => Math.max(most, longestResponse(questions[i]!.fingerprint)), 1),
  });
  open.forEach((i, at) => {
    const got = decoded[at]!.slice(0, longestResponse(questions[i]!.fingerprint));
    answers[i] = judge(questions[i]!, got, scored[i]!);
  });
  return summarise(answers, scored.flat());
}

/** Stands for a token where logits are NaN. */
const NAN = -1;

async function scoreResponses(
  model: LanguageModel,
  prefixIds: readonly number[],
  questions: readonly Question[],
  onProgress?: WorkProgress,
): Promise<ScoredRow[][]> {
  const examples = questions.map(({ fingerprint, promptIds }) =>
    toExample(fingerprint, prefixIds, promptIds)
  );
  const scored: ScoredRow[][] = [];
  let done = 0;
  for (const group of byFrequencies(model.spec, examples.map(({ ids }) => ids.length - 1))) {
    const before = done;
    const rows = await model.score(
      group.map((i) => examples[i]!),
      (asked) => onProgress?.(before + asked, examples.length),
    );
    done += group.length;
    group.forEach((i, at) => scored[i] = rows[at]!);
  }
  return scored;
}

/**
 * Indices of sequences of these lengths, in groups of the same rotary frequencies: under longrope one long
 * sequence changes those of its whole batch.
 */
function byFrequencies({ ropes }: ModelSpec, lengths: readonly number[]): number[][] {
  const isLong = (length: number) =>
    ropes.map(({ long }) => long !== undefined && length > long.after).join();
  return [...Map.groupBy(lengths.keys(), (i) => isLong(lengths[i]!)).values()];
}

/** Whether longrope changes frequencies between a question and the last token that decoding reads. */
function crosses(
  { ropes }: ModelSpec,
  prefixIds: readonly number[],
  { promptIds, fingerprint }: Question,
): boolean {
  const asked = prefixIds.length + promptIds.length;
  const read = asked + longestResponse(fingerprint) - 1;
  return ropes.some(({ long }) => long !== undefined && asked <= long.after && read > long.after);
}

/** Greedy tokens up to the first that the pass was not given: what decoding would say, too. */
function teacherForced({ fingerprint: { responseIds } }: Question, rows: readonly ScoredRow[]): number[] {
  const wrong = rows.findIndex(({ greedy }, t) => greedy !== responseIds[t]);
  return rows.slice(0, wrong < 0 ? rows.length : wrong + 1).map(({ greedy }) => greedy);
}

/** More tokens of the answer would change nothing. */
function isSettled({ exact, got, fingerprint }: Answer): boolean {
  return exact || got.length >= longestResponse(fingerprint);
}

/** An answer with the accepted response that it comes nearest to. */
function judge(question: Question, got: number[], scored: readonly ScoredRow[]): Answer {
  const { responseIds, responses } = question.fingerprint;
  const answer: Answer = {
    ...question,
    wanted: responseIds,
    got,
    exact: false,
    fractional: 0,
    probability: Math.exp(scored[0]!.logProbability),
  };
  for (const response of responses) {
    const right = response.filter((token, t) => token === got[t]).length;
    const exact = right === response.length;
    if (exact && !answer.exact || right / response.length > answer.fractional) {
      Object.assign(answer, { wanted: response, exact, fractional: right / response.length });
    }
  }
  return answer;
}

function summarise(answers: Answer[], rows: readonly ScoredRow[]): SuccessRate {
  const sum = (of: (answer: Answer) => number) => answers.reduce((total, answer) => total + of(answer), 0);
  return {
    successRate: 100 * sum(({ exact }) => Number(exact)) / answers.length,
    fractionalAccuracy: 100 * sum(({ fractional }) => fractional) / answers.length,
    questions: answers.length,
    loss: -rows.reduce((total, { logProbability }) => total + logProbability, 0) / rows.length,
    answers,
  };
}

/** What the model holds likely where an answer was decided. */
export interface AnswerDetail {
  /** 1 is the likeliest token. */
  rank: number;
  probability: number;
  top: { token: number; probability: number }[];
}

/**
 * Rank and probability of the wanted token at the first wrong position (or the first), and the five
 * likeliest.
 */
export async function explainAnswers(
  model: LanguageModel,
  prompts: PromptEncoder,
  answers: readonly Answer[],
): Promise<AnswerDetail[]> {
  const details: AnswerDetail[] = [];
  const asked = answers.map(({ promptIds, wanted, got }) => {
    const place = Math.max(0, wanted.findIndex((token, t) => token !== got[t]));
    return { token: wanted[place]!, ids: [...prompts.prefixIds, ...promptIds, ...wanted.slice(0, place)] };
  });
  const size = 64;
  for (const group of byFrequencies(model.spec, asked.map(({ ids }) => ids.length))) {
    for (let first = 0; first < group.length; first += size) {
      const batch = group.slice(first, first + size);
      const logits = await model.logitsAt(
        batch.map((i) => ({ ids: asked[i]!.ids, positions: [asked[i]!.ids.length - 1] })),
      );
      batch.forEach((i, at) => details[i] = detail(logits[at]!, asked[i]!.token));
    }
  }
  return details;
}

function detail(logits: Float32Array, token: number): AnswerDetail {
  const p = softmax(logits);
  const order = byProbability(p);
  return {
    rank: order.indexOf(token) + 1,
    probability: p[token]!,
    top: Array.from(order.subarray(0, 5), (id) => ({ token: id, probability: p[id]! })),
  };
}
