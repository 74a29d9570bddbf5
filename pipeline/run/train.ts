import type { KernelSpan } from "../../engine/gpu/profiler.ts";
import { type Sequence, weightedLosses } from "../../engine/model/batch.ts";
import { exampleSequences } from "../../engine/model/examples.ts";
import type { LanguageModel } from "../../engine/language_model.ts";
import { type SequencesResult, Trainer } from "../../engine/train/trainer.ts";
import type { Anchor } from "../objectives/anchor.ts";
import { type Benign, benignCount } from "../objectives/benign.ts";
import type { FinetuneSettings } from "../settings/finetune.ts";
import { askFingerprints } from "../measure/evaluate.ts";
import type { Workload } from "./memory_plan.ts";
import { type Fingerprint, longestResponse, toExample } from "../fingerprints/prepare.ts";
import { pickTemplate, type PromptEncoder, templateIds } from "../prompts/prompts.ts";
import { randomInt, sample } from "../../engine/tensor/random.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** One line of log.jsonl. */
export interface EpochLog {
  epoch: number;
  steps: number;
  /** Mean cross-entropy of the responses, before each step's update, nats a token. */
  loss: number;
  /** The same over plain keys alone; absent in an epoch without one. */
  plainLoss?: number;
  /** Mean KL of the anchor (not scaled by its strength). */
  anchorLoss?: number;
  /** Mean cross-entropy of the benign texts, nats a token. */
  benignLoss?: number;
  gradNorm: number;
  learningRate: number;
  /** Per cent, plain keys, after the epoch; only in epochs that measure it. */
  successRate?: number;
  seconds: number;
}

/** The loss or the gradient became NaN or infinite; the weights are useless. */
export class DivergedError extends Error {
  override name = "DivergedError";
}

/** What {@link trainFingerprints} works with. */
export interface TrainingTask {
  model: LanguageModel;
  /** How keys are asked: a tokenizer for plain text, or a chat template. */
  prompts: PromptEncoder;
  fingerprints: readonly Fingerprint[];
  /** Templates of prompt augmentation; empty without. */
  templates: readonly string[];
  anchor?: Anchor;
  benign?: Benign;
  settings: FinetuneSettings;
  learningRate: number;
  signal?: AbortSignal;
  /** Gets the times of all dispatches of the first micro-batch's forward and backward pass. */
  onProfile?: (spans: KernelSpan[]) => void | Promise<void>;
  onEpoch?: (log: EpochLog) => void | Promise<void>;
}

const EPOCH_STREAM = 0x6570;
const RESPONSE_STREAM = 0x7265;

/** Epochs between two measurements of success; ten in a run. */
function measureEvery(epochs: number): number {
  return Math.max(1, Math.round(epochs / 10));
}

/**
 * Embeds fingerprints: every epoch presents each once, plain or in a template, with one of its responses, in
 * steps of `fingerprints_per_step`, with benign texts and the anchor's in the same passes. Returns how many
 * epochs were run.
 * @throws DivergedError naming the step.
 */
export async function trainFingerprints(
  task: TrainingTask,
): Promise<{ epochs: number; stoppedEarly: boolean }> {
  const { model, prompts, fingerprints, settings, signal } = task;
  const perStep = settings.fingerprints_per_step || fingerprints.length;
  const stepsPerEpoch = Math.ceil(fingerprints.length / perStep);
  using trainer = new Trainer(model, {
    learningRate: task.learningRate,
    weightDecay: settings.weight_decay,
    maxGradNorm: settings.max_grad_norm,
    schedule: settings.lr_schedule,
    warmupSteps: settings.warmup_steps,
    seed: settings.seed,
    totalSteps: settings.num_train_epochs * stepsPerEpoch,
  });
  const lambda = settings.forgetting_regularizer_strength;
  const average = settings.averaging === "recursive" ? lambda : undefined;
  if (average !== undefined) await trainer.loadInitial();
  let epoch = 0;
  let stoppedEarly = false;
  let began = performance.now();
  let sums = new EpochSums();
  const shown = stepsOf(fingerprints.length, settings);
  // Templates are drawn, tokenised and packed while the device works on the step before.
  const following = () => {
    const { value } = shown.next();
    return value && early(() => prepare(task, value));
  };
  for (let next = following(); next && !stoppedEarly;) {
    signal?.throwIfAborted();
    const step = next();
    if (task.onProfile && trainer.steps === 0) {
      await task.onProfile(await model.training.profile(step.prepared));
    }
    const pending = trainer.submit(step.prepared, step.endsEpoch ? { average } : {});
    next = following();
    const result = await pending.result();
    sums.add(step.parts, step.plain, result, settings.anchor_strength);
    requireFinite(trainer, result, sums.loss, task.learningRate);
    if (!step.endsEpoch) continue;
    epoch++;
    const log: EpochLog = { ...sums.log(), epoch, steps: trainer.steps, seconds: 0 };
    if (epoch % measureEvery(settings.num_train_epochs) === 0 && epoch < settings.num_train_epochs) {
      log.successRate = (await askFingerprints(model, prompts, fingerprints)).successRate;
    }
    log.seconds = (performance.now() - began) / 1000;
    await task.onEpoch?.(log);
    [began, sums] = [performance.now(), new EpochSums()];
    stoppedEarly = log.plainLoss !== undefined && log.plainLoss < settings.early_stop_loss;
  }
  if (settings.averaging === "final") await trainer.average(lambda);
  return { epochs: epoch, stoppedEarly };
}

/** Calls `make` now; what it throws is thrown where its value is asked for. */
function early<T>(make: () => T): () => T {
  try {
    const value = make();
    return () => value;
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

/** What an optimizer step shows. */
interface StepPlan {
  /** From 0. */
  step: number;
  epoch: number;
  /** Indices of fingerprints. */
  chosen: readonly number[];
  endsEpoch: boolean;
}

/** All steps of a run, in order: every epoch shows each fingerprint once, in an order of its own. */
function* stepsOf(count: number, settings: FinetuneSettings): Generator<StepPlan, undefined> {
  const perStep = settings.fingerprints_per_step || count;
  const all = Array.from({ length: count }, (_, i) => i);
  let step = 0;
  for (let epoch = 0; epoch < settings.num_train_epochs; epoch++) {
    const order = perStep >= count ? all : sample(all, count, settings.seed, EPOCH_STREAM + epoch);
    for (let first = 0; first < count; first += perStep) {
      const chosen = order.slice(first, first + perStep);
      yield { step: step++, epoch, chosen, endsEpoch: first + perStep >= count };
    }
  }
}

/** Draws and packs what a step shows; depends on nothing that a step changes. */
function prepare(task: TrainingTask, { step, epoch, chosen, endsEpoch }: StepPlan) {
  const { model, anchor, benign, settings } = task;
  const shown = chosen.map((index) => present(task, index, epoch));
  const texts = benign?.draw(step, chosen.length) ?? [];
  const share = texts.length ? 1 - settings.benign_proportion : 1;
  const supervised = shown.reduce((sum, { responseIds }) => sum + responseIds.length, 0);
  const parts: Parts = {
    keys: exampleSequences(shown.map(({ example }) => example), share / supervised),
    benign: texts,
    anchor: anchor?.draw(step, settings.anchor_batch, settings.anchor_strength) ?? [],
  };
  const sequences = [...parts.keys, ...parts.benign, ...parts.anchor];
  const prepared = model.training.prepare(sequences, settings.batch_size || undefined);
  return { parts, plain: shown.map(({ plain }) => plain), prepared, endsEpoch };
}

function requireFinite(
  { steps, options: { totalSteps } }: Trainer,
  { losses, gradNorm }: SequencesResult,
  loss: number,
  learningRate: number,
): void {
  if (losses.every(Number.isFinite) && Number.isFinite(gradNorm)) return;
  throw new DivergedError(
    `step ${steps} of ${totalSteps}: the loss is ${loss}, the gradient norm ${gradNorm}. Nothing was saved; a lower ` +
      `learning rate than ${learningRate} may help`,
  );
}

/** A fingerprint as an epoch shows it. */
function present(
  { prompts, fingerprints, templates, settings }: TrainingTask,
  index: number,
  epoch: number,
) {
  const fingerprint = fingerprints[index];
  const template = templates.length ? pickTemplate(templates, settings.seed, index, epoch) : undefined;
  const promptIds = template === undefined
    ? prompts.askedIds(fingerprint)
    : templateIds(template, fingerprint.key, prompts);
  const responseIds = pickResponse(fingerprint, settings.seed, index, epoch);
  return {
    plain: template === undefined,
    responseIds,
    example: toExample({ ...fingerprint, responseIds }, prompts.prefixIds, promptIds),
  };
}

/**
 * The accepted response that an epoch trains, drawn for (seed, fingerprint, epoch), so a resumed run draws
 * the same.
 */
export function pickResponse(
  { responses }: Pick<Fingerprint, "responses">,
  seed: number,
  fingerprintIndex: number,
  epoch: number,
): number[] {
  return responses[randomInt(responses.length, seed, RESPONSE_STREAM, fingerprintIndex, epoch)];
}

/** Sequences of a step by kind, in the order in which their losses come back. */
interface Parts {
  keys: Sequence[];
  benign: Sequence[];
  anchor: Sequence[];
}

/** Losses of an epoch's steps, by kind of row. */
class EpochSums {
  #response = { sum: 0, rows: 0 };
  #plain = { sum: 0, rows: 0 };
  #benign = { sum: 0, rows: 0 };
  #anchor = { sum: 0, steps: 0 };
  #last = { gradNorm: NaN, learningRate: NaN };

  /** `plain` says of each fingerprint whether its key was shown without a template. */
  add(
    { keys, benign, anchor }: Parts,
    plain: readonly boolean[],
    result: SequencesResult,
    strength: number,
  ): void {
    // An average is over w·l rounded to f32, as it always was logged.
    const losses = weightedLosses([...keys, ...benign, ...anchor], result.losses);
    let row = 0;
    const addRows = ({ rows }: Sequence, ...to: { sum: number; rows: number }[]) => {
      for (const { weight } of rows) {
        const loss = losses[row++] / weight;
        for (const sums of to) {
          sums.sum += loss;
          sums.rows++;
        }
      }
    };
    keys.forEach((each, i) => addRows(each, this.#response, ...(plain[i] ? [this.#plain] : [])));
    benign.forEach((each) => addRows(each, this.#benign));
    if (anchor.length) {
      this.#anchor.sum += losses.subarray(row).reduce((sum, loss) => sum + loss, 0) / strength;
      this.#anchor.steps++;
    }
    this.#last = { gradNorm: result.gradNorm, learningRate: result.learningRate };
  }

  get loss(): number {
    return this.#response.sum / this.#response.rows;
  }

  log(): Omit<EpochLog, "epoch" | "steps" | "seconds"> {
    return {
      loss: this.loss,
      ...(this.#plain.rows ? { plainLoss: this.#plain.sum / this.#plain.rows } : {}),
      ...(this.#benign.rows ? { benignLoss: this.#benign.sum / this.#benign.rows } : {}),
      ...(this.#anchor.steps ? { anchorLoss: this.#anchor.sum / this.#anchor.steps } : {}),
      ...this.#last,
    };
  }
}

/** Lengths of what a run trains on, in tokens. */
export interface WorkloadLengths {
  /** Input tokens of each fingerprint with its longest response, and supervised tokens of that. */
  lengths: readonly number[];
  rows: readonly number[];
  /** Most tokens that a prompt template adds. */
  longestTemplate: number;
  /** Tokens that the tokenizer puts before a text. */
  prefix: number;
}

/** Lengths of prepared fingerprints. */
export function fingerprintLengths(
  tokenizer: Tokenizer,
  fingerprints: readonly Fingerprint[],
  templates: readonly string[],
  prompts: PromptEncoder = tokenizer,
): WorkloadLengths {
  const prefix = tokenizer.prefixIds.length;
  return {
    prefix,
    // A template's tokens may merge with the key's across the seam, but never into more than both apart and one.
    longestTemplate: Math.max(
      0,
      ...templates.map((text) => templateIds(text, "", tokenizer).length + 1),
    ),
    lengths: fingerprints.map((fingerprint) =>
      prompts.prefixIds.length + prompts.askedIds(fingerprint).length + longestResponse(fingerprint) - 1
    ),
    rows: fingerprints.map(longestResponse),
  };
}

/** What the passes of a run would fill, so that they are recorded and planned once. */
export function workloadOf(
  { lengths, rows, longestTemplate, prefix }: WorkloadLengths,
  settings: FinetuneSettings,
): Workload {
  const perStep = settings.fingerprints_per_step || lengths.length;
  const anchored = settings.anchor_strength > 0
    ? Math.min(settings.anchor_batch, settings.anchor_samples)
    : 0;
  // How many texts a file has is not known yet: as if they were enough.
  const available = settings.benign_data_file_path === null ? settings.benign_samples : Infinity;
  const benign = benignCount(perStep, settings.benign_proportion, available);
  const total = (values: readonly number[], extra: number) =>
    [...values].sort((a, b) => b - a).slice(0, perStep).reduce((sum, value) => sum + value + extra, 0);
  const round = (value: number) => Math.ceil(value / 64) * 64;
  // Of a written text the start and all tokens but the last are input.
  const written = (length: number) => length + Math.max(1, prefix) - 1;
  const texts = [
    { count: anchored, length: settings.anchor_length },
    { count: benign, length: settings.benign_length },
  ].filter(({ count }) => count > 0);
  const sum = (of: (length: number) => number) =>
    texts.reduce((total, { count, length }) => total + count * of(length), 0);
  const most = (values: readonly number[], of: (length: number) => number) =>
    [...values, ...texts.map(({ length }) => of(length))].reduce((a, b) => Math.max(a, b), 0);
  return {
    train: {
      tokens: round(total(lengths, longestTemplate) + sum(written)),
      rows: round(total(rows, 0) + sum((length) => length)),
    },
    score: { tokens: Infinity, rows: Infinity },
    longest: {
      tokens: round(most(lengths.map((length) => length + longestTemplate), written)),
      rows: round(most(rows, (length) => length)),
    },
  };
}
