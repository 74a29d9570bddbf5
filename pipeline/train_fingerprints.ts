import type { Sequence } from "../engine/train/batch.ts";
import { exampleSequences } from "../engine/train/examples.ts";
import type { Model } from "../engine/train/model.ts";
import { Trainer } from "../engine/train/trainer.ts";
import type { Anchor } from "./anchor.ts";
import type { FinetuneSettings } from "./config.ts";
import { askFingerprints } from "./evaluate.ts";
import type { Workload } from "./memory_plan.ts";
import { type Fingerprint, toExample } from "./fingerprints.ts";
import { pickTemplate, type PromptEncoder, templateIds } from "./prompts.ts";
import { sample } from "./random.ts";
import type { Tokenizer } from "./tokenizer.ts";

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
  model: Model;
  /** How keys are asked: a tokenizer for plain text, or a chat template. */
  prompts: PromptEncoder;
  fingerprints: readonly Fingerprint[];
  /** Templates of prompt augmentation; empty without. */
  templates: readonly string[];
  anchor?: Anchor;
  settings: FinetuneSettings;
  learningRate: number;
  signal?: AbortSignal;
  onEpoch?: (log: EpochLog) => void | Promise<void>;
}

const EPOCH_STREAM = 0x6570;

/** Epochs between two measurements of success; ten in a run. */
function measureEvery(epochs: number): number {
  return Math.max(1, Math.round(epochs / 10));
}

/**
 * Embeds fingerprints: every epoch presents each once, plain or in a template, in steps of `fingerprints_per_step`, with
 * the anchor's texts in the same passes. Returns how many epochs were run.
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
  let epoch = 0;
  let stoppedEarly = false;
  while (epoch < settings.num_train_epochs && !stoppedEarly) {
    const began = performance.now();
    const order = stepsPerEpoch === 1
      ? fingerprints.map((_, i) => i)
      : sample(fingerprints.map((_, i) => i), fingerprints.length, settings.seed, EPOCH_STREAM + epoch);
    const sums = new EpochSums();
    for (let first = 0; first < order.length; first += perStep) {
      signal?.throwIfAborted();
      await step(task, trainer, order.slice(first, first + perStep), epoch, sums);
    }
    if (settings.averaging === "recursive") await trainer.average(lambda);
    epoch++;
    const log: EpochLog = { ...sums.log(), epoch, steps: trainer.steps, seconds: 0 };
    if (epoch % measureEvery(settings.num_train_epochs) === 0 && epoch < settings.num_train_epochs) {
      log.successRate = (await askFingerprints(model, prompts, fingerprints)).successRate;
    }
    log.seconds = (performance.now() - began) / 1000;
    await task.onEpoch?.(log);
    stoppedEarly = log.plainLoss !== undefined && log.plainLoss < settings.early_stop_loss;
  }
  if (settings.averaging === "final") await trainer.average(lambda);
  return { epochs: epoch, stoppedEarly };
}

async function step(
  task: TrainingTask,
  trainer: Trainer,
  chosen: readonly number[],
  epoch: number,
  sums: EpochSums,
): Promise<void> {
  const { fingerprints, anchor, settings } = task;
  const shown = chosen.map((index) => present(task, index, epoch));
  const supervised = chosen.reduce((sum, index) => sum + fingerprints[index].responseIds.length, 0);
  const sequences: Sequence[] = exampleSequences(shown.map(({ example }) => example), 1 / supervised);
  if (anchor) sequences.push(...anchor.draw(trainer.steps, settings.anchor_batch, settings.anchor_strength));
  const result = await trainer.stepSequences(sequences, settings.batch_size || undefined);
  sums.add(sequences, shown.map(({ plain }) => plain), result, settings.anchor_strength);
  if (!result.losses.every(Number.isFinite) || !Number.isFinite(result.gradNorm)) {
    throw new DivergedError(
      `step ${trainer.steps} of ${trainer.options.totalSteps}: the loss is ${sums.loss}, the gradient norm ` +
        `${result.gradNorm}. Nothing was saved; a lower learning rate than ${task.learningRate} may help`,
    );
  }
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
  return { plain: template === undefined, example: toExample(fingerprint, prompts.prefixIds, promptIds) };
}

/** Losses of an epoch's steps, by kind of row. */
class EpochSums {
  #response = { sum: 0, rows: 0 };
  #plain = { sum: 0, rows: 0 };
  #anchor = { sum: 0, steps: 0 };
  #last = { gradNorm: NaN, learningRate: NaN };

  /** The first `plain.length` sequences are fingerprints, the others the anchor's. */
  add(
    sequences: readonly Sequence[],
    plain: readonly boolean[],
    result: { losses: Float32Array; gradNorm: number; learningRate: number },
    strength: number,
  ): void {
    let row = 0;
    let anchorLoss = 0;
    sequences.forEach(({ rows }, i) => {
      for (const { weight } of rows) {
        const loss = result.losses[row++];
        if (i >= plain.length) {
          anchorLoss += loss / strength;
          continue;
        }
        for (const sums of plain[i] ? [this.#response, this.#plain] : [this.#response]) {
          sums.sum += loss / weight;
          sums.rows++;
        }
      }
    });
    if (sequences.length > plain.length) {
      this.#anchor.sum += anchorLoss;
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
      ...(this.#anchor.steps ? { anchorLoss: this.#anchor.sum / this.#anchor.steps } : {}),
      ...this.#last,
    };
  }
}

/** Lengths of what a run trains on, in tokens. */
export interface WorkloadLengths {
  /** Input tokens of each fingerprint, and its supervised tokens. */
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
      prompts.prefixIds.length + prompts.askedIds(fingerprint).length + fingerprint.responseIds.length - 1
    ),
    rows: fingerprints.map(({ responseIds }) => responseIds.length),
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
  const total = (values: readonly number[], extra: number) =>
    [...values].sort((a, b) => b - a).slice(0, perStep).reduce((sum, value) => sum + value + extra, 0);
  const round = (value: number) => Math.ceil(value / 64) * 64;
  const anchorLength = anchored ? settings.anchor_length + Math.max(1, prefix) - 1 : 0;
  const longest = Math.max(...lengths) + longestTemplate;
  return {
    train: {
      tokens: round(total(lengths, longestTemplate) + anchored * anchorLength),
      rows: round(total(rows, 0) + anchored * settings.anchor_length),
    },
    score: { tokens: Infinity, rows: Infinity },
    longest: {
      tokens: round(Math.max(longest, anchorLength)),
      rows: round(Math.max(...rows, anchored ? settings.anchor_length : 0)),
    },
  };
}
