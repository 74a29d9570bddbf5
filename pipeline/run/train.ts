import type { KernelSpan } from "../../engine/gpu/profiler.ts";
import type { Sequence } from "../../engine/model/batch.ts";
import type { LanguageModel } from "../../engine/language_model.ts";
import { sample } from "../../engine/tensor/random.ts";
import { type SequencesResult, Trainer } from "../../engine/train/trainer.ts";
import type { Fingerprint } from "../fingerprints/prepare.ts";
import { askFingerprints } from "../measure/evaluate.ts";
import type { Losses, LossSums, Objective, Step } from "../objectives/objective.ts";
import type { PromptEncoder } from "../prompts/prompts.ts";
import type { FinetuneSettings } from "../settings/finetune.ts";

/** One line of log.jsonl. */
export interface EpochLog {
  /** Counts from 1. */
  epoch: number;
  /** Optimizer steps done so far. */
  steps: number;
  /** Mean cross-entropy of the responses, before each step's update, nats a token. */
  loss: number;
  /** The same over plain keys alone; absent in an epoch without one. */
  plainLoss?: number | undefined;
  /** Mean KL of the anchor (not scaled by its strength). */
  anchorLoss?: number | undefined;
  /** Mean cross-entropy of the benign texts, nats a token. */
  benignLoss?: number | undefined;
  /** Global norm of the gradients of the epoch's last step, before clipping. */
  gradNorm: number;
  /** Of that step. */
  learningRate: number;
  /** Per cent, plain keys, after the epoch; only in epochs that measure it. */
  successRate?: number | undefined;
  /** Of this epoch. */
  seconds: number;
  /** What further objectives log. */
  [loss: string]: number | undefined;
}

/** The loss or the gradient became NaN or infinite; the weights are useless. */
export class DivergedError extends Error {
  /** Always "DivergedError". */
  override name = "DivergedError";
}

/** What {@link trainFingerprints} works with. */
export interface TrainingTask {
  model: LanguageModel;
  /** How keys are asked: a tokenizer for plain text, or a chat template. */
  prompts: PromptEncoder;
  fingerprints: readonly Fingerprint[];
  /** What is trained, see `prepareObjectives`; a step shows them in this order. */
  objectives: readonly Objective[];
  settings: FinetuneSettings;
  learningRate: number;
  signal?: AbortSignal | undefined;
  /** Gets the times of all dispatches of the first micro-batch's forward and backward pass. */
  onProfile?: ((spans: KernelSpan[]) => void | Promise<void>) | undefined;
  onEpoch?: (log: EpochLog) => void | Promise<void>;
}

const EPOCH_STREAM = 0x6570;

/** Epochs between two measurements of success; ten in a run. */
function measureEvery(epochs: number): number {
  return Math.max(1, Math.round(epochs / 10));
}

/**
 * Embeds fingerprints: every epoch shows each once, in steps of `fingerprints_per_step`, with what the other
 * objectives show in the same passes. Returns how many epochs were run.
 * @throws DivergedError naming the step.
 */
export async function trainFingerprints(
  task: TrainingTask,
): Promise<{ epochs: number; stoppedEarly: boolean }> {
  const { model, prompts, fingerprints, objectives, settings, signal } = task;
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
  let sums = new EpochSums(objectives);
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
    sums.add(step.parts, result.losses);
    const losses = sums.log();
    const { gradNorm, learningRate } = result;
    requireFinite(trainer, result, losses.loss, task.learningRate);
    if (!step.endsEpoch) continue;
    epoch++;
    const log: EpochLog = { ...losses, gradNorm, learningRate, epoch, steps: trainer.steps, seconds: 0 };
    if (epoch % measureEvery(settings.num_train_epochs) === 0 && epoch < settings.num_train_epochs) {
      log.successRate = (await askFingerprints(model, prompts, fingerprints)).successRate;
    }
    log.seconds = (performance.now() - began) / 1000;
    await task.onEpoch?.(log);
    [began, sums] = [performance.now(), new EpochSums(objectives)];
    stoppedEarly = objectives.some((objective) => objective.isReached?.(losses));
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

/** An optimizer step of a run. */
interface StepPlan extends Step {
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
function prepare({ model, objectives, settings }: TrainingTask, step: StepPlan) {
  const parts = drawStep(objectives, step);
  const prepared = model.training.prepare(parts.flat(), settings.batch_size || undefined);
  return { parts, prepared, endsEpoch: step.endsEpoch };
}

/** What each objective shows in a step. Those with a share come first; what they take depends on whether they draw. */
function drawStep(objectives: readonly Objective[], step: Step): Sequence[][] {
  const parts: Sequence[][] = [];
  let rest = 1;
  objectives.forEach((objective, i) => {
    if (objective.share === undefined) return;
    parts[i] = objective.draw(step, rest);
    if (parts[i].length) rest -= objective.share;
  });
  if (rest < 0) {
    throw new RangeError(`shares of a step's loss: expected at most 1 together, found ${1 - rest}`);
  }
  objectives.forEach((objective, i) => parts[i] ??= objective.draw(step, rest));
  return parts;
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

/** Losses of an epoch's steps, by objective. */
class EpochSums {
  readonly #sums: readonly LossSums[];

  constructor(objectives: readonly Objective[]) {
    this.#sums = objectives.map((objective) => objective.newSums());
  }

  /** What each objective showed in a step, and the losses of all rows in that order. */
  add(parts: readonly (readonly Sequence[])[], losses: Float32Array): void {
    let first = 0;
    parts.forEach((shown, i) => {
      const end = shown.reduce((end, { rows }) => end + rows.length, first);
      this.#sums[i]!.add(shown, losses.subarray(first, end));
      first = end;
    });
  }

  log(): Losses & { loss: number } {
    return Object.assign({ loss: NaN }, ...this.#sums.map((sums) => sums.log()));
  }
}
