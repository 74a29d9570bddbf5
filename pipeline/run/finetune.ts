import { join } from "node:path";
import type { Gpu } from "../../engine/gpu/context.ts";
import { OutOfMemoryError } from "../../engine/gpu/errors.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import { NonFiniteWeightsError } from "../../engine/model/finite.ts";
import { kernelSettings } from "../../engine/ops/target.ts";
import type { GenerateEvent } from "../fingerprints/generate/generate.ts";
import { makeOwnFingerprints } from "../fingerprints/own.ts";
import { type Fingerprint, toSaved } from "../fingerprints/prepare.ts";
import { openGpu } from "../gpu/open.ts";
import { productError } from "../gpu/product_error.ts";
import { askFingerprints } from "../measure/evaluate.ts";
import { MODEL_FOLDER, secretPath } from "../measure/found_results.ts";
import { measureUtility } from "../measure/utility.ts";
import { loadUtility, UtilityFileError } from "../measure/utility_file.ts";
import { prepareObjectives } from "../objectives/prepare.ts";
import { loadPrompts, PROMPT_FILES } from "../prompts/prompts.ts";
import { type FinetuneConfig, type FinetuneSettings, resolveSettings } from "../settings/finetune.ts";
import { SettingsError } from "../settings/parse.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type FileFingerprints, readOwnFile, type RunInputs } from "./inputs.ts";
import type { MemoryChoice } from "./memory_plan.ts";
import { planRun, type RunPlan } from "./plan.ts";
import type { OpenedFiles } from "./opened_files.ts";
import { settleLeftovers } from "./leftovers.ts";
import { ResultsWriter } from "./results.ts";
import { ResultsKeeper, resultsSize } from "./saving.ts";
import { DivergedError, type EpochLog, trainFingerprints } from "./train.ts";
import type { FinetuneEvent, FinetuneHooks, FinetuneResult, Measurement } from "./events.ts";

/** What a run works on, with its fingerprints. */
type Subject = RunInputs & { readonly fingerprints: readonly Fingerprint[] };

/**
 * Embeds fingerprints into a model and writes `results/<hash>/`: final_model (publishable), config.json, log.jsonl and
 * secret/. Success and utility are measured on the saved folder, read back.
 * @throws SettingsError, FingerprintFileError, RangeError, ResultsError, OutOfMemoryError, DivergedError, or the
 * signal's reason; nothing half-written stays.
 */
export async function finetune(
  config: FinetuneConfig = {},
  hooks: FinetuneHooks = {},
): Promise<FinetuneResult> {
  const settings = resolveSettings(config);
  const { webgpu, matrix } = settings;
  const gpu = hooks.gpu ?? await openGpu({ webgpu, matrix });
  try {
    const unit = kernelSettings(gpu).matrix;
    const opened = unit?.type ?? "f32";
    if (opened !== matrix) {
      throw new SettingsError(`matrix: expected ${matrix}, but the given GPU has ${opened}`);
    }
    hooks.onEvent?.({ type: "gpu", name: gpu.name, isSoftware: gpu.isSoftware });
    if (unit) hooks.onEvent?.({ type: "matrix", unit, ...await productError(gpu) });
    if (settings.profile && !gpu.hasTimestamps) {
      throw new SettingsError(`profile: ${gpu.name} has no timestamp queries`);
    }
    return await runPlanned(gpu, config, hooks);
  } finally {
    if (!hooks.gpu) gpu.dispose();
  }
}

/** Makes the plan, tells it, and executes it. */
async function runPlanned(gpu: Gpu, config: FinetuneConfig, hooks: FinetuneHooks): Promise<FinetuneResult> {
  const began = performance.now();
  const emit = hooks.onEvent ?? (() => {});
  const { plan, inputs, source, opened } = await planRun(config, gpu, {
    signal: hooks.signal,
    baseDir: hooks.baseDir,
    onDownload: (progress) => emit({ type: "download", progress }),
  });
  const { settings, learningRate, memory, limitBytes } = plan;
  if (source) emit({ type: "model", source });
  if (inputs.file) {
    emit({ type: "fingerprints", count: plan.fingerprints.count, dropped: inputs.file.dropped });
  }
  emit({ type: "memory", choice: memory, limitBytes });
  emit({ type: "settings", settings, learningRate });
  const { output_dir, rescue_dir, force, save_dtype } = settings;
  for (const folder of [output_dir, rescue_dir]) {
    const leftovers = folder === null ? undefined : await settleLeftovers(folder);
    if (leftovers) emit({ type: "leftovers", leftovers });
  }
  using keeper = new ResultsKeeper(await ResultsWriter.open(output_dir, plan.hash, force), rescue_dir, hooks);
  try {
    const { bytes, left } = await resultsSize(inputs.modelPath, plan.fingerprints.count, save_dtype);
    if (left.length > 0) emit({ type: "left", files: left });
    await keeper.requireSpace(bytes);
    return await new Run(gpu, plan, inputs, opened, keeper, hooks).run(began);
  } catch (error) {
    await keeper.giveUp(error);
    throw error;
  }
}

/** Executes a plan. */
class Run {
  readonly settings: FinetuneSettings;
  readonly #emit: (event: FinetuneEvent) => void;
  readonly #onWork = (done: number, total: number) => this.#emit({ type: "work", done, total });

  constructor(
    readonly gpu: Gpu,
    readonly plan: RunPlan,
    readonly inputs: RunInputs,
    readonly opened: OpenedFiles,
    readonly keeper: ResultsKeeper,
    readonly hooks: FinetuneHooks,
  ) {
    this.settings = plan.settings;
    this.#emit = hooks.onEvent ?? (() => {});
  }

  async run(began: number): Promise<FinetuneResult> {
    const { settings, gpu, plan, inputs, opened, keeper } = this;
    const file = inputs.file ?? await this.#makeFingerprints();
    const { fingerprints } = file;
    const subject = { ...inputs, fingerprints };
    const { dtype, master, maxTokens, keepActivations, capacity } = plan.memory;
    const load = () =>
      LanguageModel.load(
        gpu,
        inputs.modelPath,
        { dtype, master, maxTokens, keepActivations },
        ({ bytesDone, bytesTotal }) => this.#onWork(bytesDone, bytesTotal),
      );
    using model = await load().catch((error) => this.#adviseOnMemory(error));
    await opened.refuseChanged();
    const unused = model.unusedTensors();
    if (unused.length) this.#emit({ type: "unused", tensors: unused });
    const before = await this.#measure("before", model, subject);
    gpu.resetPeak();
    const { logs, ...trained } = await this.#train(model, subject, plan.learningRate, capacity);
    const { peakBytes } = gpu.memory;
    this.#emit({ type: "phase", name: "saving" });
    const { tokenizer, prompts } = inputs;
    const asked = { tokenizer, prompts, useChatTemplate: settings.use_chat_template };
    const changed = await opened.changed();
    if (changed.length > 0) this.#emit({ type: "changed", files: changed });
    const left = await keeper.save(
      model,
      logs,
      fingerprints.map((one) => toSaved(one, asked)),
      settings.save_dtype ?? undefined,
    );
    const { writer } = keeper;
    model.dispose();
    const after = await this.#measureSaved(writer.modelFolder, subject, maxTokens);
    const result = {
      before,
      after,
      ...trained,
      left,
      changed,
      plannedBytes: plan.memory.plan.totalBytes,
      peakBytes,
      seconds: (performance.now() - began) / 1000,
    };
    await writer.writeConfig({
      settings,
      fingerprintsSha256: file.sha256,
      modelHash: plan.model.modelHash,
      benignSha256: plan.benignSha256,
      adapter: gpu.name,
      ...result,
    });
    this.hooks.signal?.throwIfAborted();
    await writer.commit();
    const results = writer.final;
    return {
      results,
      modelPath: join(results, MODEL_FOLDER),
      fingerprintsPath: secretPath(results),
      ...result,
    };
  }

  /** Makes fingerprints with the model itself, unless an earlier run has. */
  async #makeFingerprints(): Promise<FileFingerprints> {
    const { gpu, plan, settings, inputs, hooks: { signal } } = this;
    this.#emit({ type: "phase", name: "generating fingerprints" });
    const onEvent = (event: GenerateEvent) => {
      if (event.type === "progress") this.#emit(event);
    };
    const path = await makeOwnFingerprints(plan.fingerprints.own!, plan.model, settings.output_dir, {
      gpu,
      signal,
      onEvent,
    });
    const file = await readOwnFile(path, settings, inputs);
    this.#emit({ type: "fingerprints", count: file.fingerprints.length, dropped: file.dropped });
    return file;
  }

  /** A GPU's memory can't be asked for, so a run without a limit may find out the hard way. */
  #adviseOnMemory(error: unknown): never {
    if (!(error instanceof OutOfMemoryError) || this.settings.max_memory !== null) throw error;
    throw new OutOfMemoryError(
      `${error.message}. With --max_memory (GiB of this device) the run chooses a smaller layout by itself`,
      error.requestedBytes,
      { cause: error },
    );
  }

  async #train(
    model: LanguageModel,
    { tokenizer, prompts, fingerprints, templates, benignFile }: Subject,
    learningRate: number,
    capacity: MemoryChoice["capacity"],
  ): Promise<{ epochs: number; stoppedEarly: boolean; logs: readonly EpochLog[] }> {
    const { settings, hooks: { signal } } = this;
    const logs: EpochLog[] = [];
    const context = {
      model,
      tokenizer,
      prompts,
      fingerprints,
      templates,
      benignFile,
      settings,
      signal,
      startIds: startIds(tokenizer),
      onProgress: this.#onWork,
    };
    const onPhase = (name: string) => this.#emit({ type: "phase", name });
    try {
      // One kind of pass at a time, so that writing texts takes no more memory than training.
      model.passes.release("score");
      using objectives = await prepareObjectives(context, { onPhase });
      onPhase("training");
      model.training.reserve(capacity.train);
      model.passes.get("score", capacity.score);
      const trained = await trainFingerprints({
        model,
        prompts,
        fingerprints,
        objectives: objectives.list,
        settings,
        learningRate,
        signal,
        onProfile: settings.profile
          ? async (spans) => {
            this.#emit({ type: "profile", spans });
            await this.keeper.tryWrite((writer) => writer.writeTrace(spans));
          }
          : undefined,
        onEpoch: async (log) => {
          logs.push(log);
          await this.keeper.tryWrite((writer) => writer.writeLog(logs));
          this.#emit({ type: "epoch", log, epochs: settings.num_train_epochs });
        },
      });
      return { ...trained, logs };
    } catch (error) {
      return this.#adviseOnMemory(error);
    }
  }

  /** Loads the saved folder and measures it. */
  async #measureSaved(
    folder: string,
    subject: Subject,
    maxTokens: number,
  ): Promise<Measurement> {
    const load = () => LanguageModel.load(this.gpu, folder, { dtype: "auto", master: "none", maxTokens });
    // The original's weights were finite when they were loaded.
    using saved = await load().catch((cause) => {
      if (cause instanceof NonFiniteWeightsError) this.#diverged(cause.message, cause);
      throw cause;
    });
    return await this.#measure("after", saved, subject);
  }

  #diverged(what: string, cause?: unknown): never {
    throw new DivergedError(
      `${what}: the last step broke its weights. Nothing was saved; a lower learning rate than ` +
        `${this.settings.learning_rate} may help`,
      { cause },
    );
  }

  async #measure(
    when: "before" | "after",
    model: LanguageModel,
    { modelPath, tokenizer, prompts, fingerprints }: Subject,
  ): Promise<Measurement> {
    this.#emit({ type: "phase", name: `measuring ${when}` });
    this.hooks.signal?.throwIfAborted();
    const onProgress = this.#onWork;
    const plain = await askFingerprints(model, prompts, fingerprints, undefined, { onProgress });
    // The loss of a step is that before its update: what the last one did shows only here.
    if (when === "after" && !Number.isFinite(plain.loss)) {
      this.#diverged(`the loss of the trained model is ${plain.loss}`);
    }
    if (!Number.isFinite(plain.loss)) {
      throw new RangeError(
        `${modelPath}: the model's loss is ${plain.loss} before training, though its weights are finite: they overflow`,
      );
    }
    this.hooks.signal?.throwIfAborted();
    const heldOut = await loadPrompts(PROMPT_FILES.test);
    const prompted = await askFingerprints(model, prompts, fingerprints, heldOut, { onProgress });
    this.hooks.signal?.throwIfAborted();
    const utility = await utilityOf(modelPath);
    const measurement: Measurement = {
      successRate: plain.successRate,
      promptedSuccessRate: prompted.successRate,
      ...(utility ? await measureUtility(model, tokenizer, utility) : {}),
    };
    this.#emit({ type: "measured", when, measurement });
    return measurement;
  }
}

/** What the anchor's texts begin with: BOS where the tokenizer has one, else EOS, which ends documents in training. */
export function startIds(tokenizer: Tokenizer): readonly number[] {
  return tokenizer.prefixIds.length ? tokenizer.prefixIds : [tokenizer.bosId ?? tokenizer.eosId ?? 0];
}

/** Utility data beside a model: the demo model has some. */
async function utilityOf(modelPath: string) {
  const folder = join(modelPath, "utility");
  if (!await Deno.stat(folder).then(({ isDirectory }) => isDirectory, () => false)) return undefined;
  try {
    return await loadUtility(modelPath);
  } catch (error) {
    // Somebody else's folder of that name.
    if (error instanceof UtilityFileError) return undefined;
    throw error;
  }
}
