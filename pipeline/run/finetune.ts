import type { Gpu } from "../../engine/gpu/context.ts";
import type { MatrixUnit } from "../../engine/ops/matrix_unit.ts";
import { kernelSettings } from "../../engine/ops/target.ts";
import type { KernelSpan } from "../../engine/gpu/profiler.ts";
import { OutOfMemoryError } from "../../engine/gpu/errors.ts";
import { modelSpec } from "../../engine/models/families.ts";
import type { ModelSpec } from "../../engine/models/spec.ts";
import { readModelConfig } from "../../engine/io/model_dir.ts";
import type { HubProgress } from "../hub/hub.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import { type BenignFile, readBenignFile } from "../objectives/benign_file.ts";
import { fingerprintLengths } from "../objectives/fingerprints.ts";
import type { WorkloadLengths } from "../objectives/objective.ts";
import { prepareObjectives } from "../objectives/prepare.ts";
import { type FinetuneConfig, type FinetuneSettings, resolveSettings } from "../settings/finetune.ts";
import { SettingsError } from "../settings/parse.ts";
import { chooseMemory, type MemoryChoice, memoryLimit } from "./memory_plan.ts";
import { type ModelSource, resolveModel } from "../hub/model_source.ts";
import { DEMO_COUNT, DEMO_FINGERPRINTS, DEMO_MODEL } from "../settings/demo_assets.ts";
import { loadUtility, UtilityFileError } from "../measure/utility_file.ts";
import { askFingerprints } from "../measure/evaluate.ts";
import { readFingerprintFile } from "../fingerprints/file.ts";
import {
  checkVocabulary,
  type Dropped,
  type Fingerprint,
  prepareFingerprints,
  storedSettings,
  toWritten,
} from "../fingerprints/prepare.ts";
import type { GenerateEvent } from "../fingerprints/generate/generate.ts";
import { openGpu } from "../gpu/open.ts";
import { ownFingerprints } from "../fingerprints/own.ts";
import { promptEncoder } from "../prompts/chat_template.ts";
import { type ProductError, productError } from "../gpu/product_error.ts";
import { loadPrompts, PROMPT_FILES, type PromptEncoder } from "../prompts/prompts.ts";
import { learningRateFor } from "../settings/recipes.ts";
import { MODEL_FOLDER, secretPath } from "../measure/found_results.ts";
import { ResultsWriter, runHash } from "./results.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { DivergedError, type EpochLog, trainFingerprints } from "./train.ts";
import { workloadOf } from "./workload.ts";
import { measureUtility, type UtilityScore } from "../measure/utility.ts";
import { join } from "node:path";

/** What a model answers and how useful it is. */
export interface Measurement extends Partial<UtilityScore> {
  /** Per cent of fingerprints answered exactly, plain keys. */
  successRate: number;
  /** The same under prompts that training never showed. */
  promptedSuccessRate: number;
}

/** What happens in a run, in order. */
export type FinetuneEvent =
  | { type: "gpu"; name: string; isSoftware: boolean }
  /** Large products run on matrix units, with this error. */
  | { type: "matrix"; unit: MatrixUnit } & ProductError
  | { type: "settings"; settings: FinetuneSettings; learningRate: number }
  /** While a run without a file makes its own fingerprints. */
  | Extract<GenerateEvent, { type: "progress" }>
  | { type: "fingerprints"; count: number; dropped: Dropped }
  | { type: "model"; source: ModelSource }
  | { type: "download"; progress: HubProgress }
  | { type: "memory"; choice: MemoryChoice; limitBytes?: number }
  | { type: "measured"; when: "before" | "after"; measurement: Measurement }
  | { type: "phase"; name: string }
  | { type: "profile"; spans: KernelSpan[] }
  | { type: "epoch"; log: EpochLog; epochs: number };

/** What a run works on. */
interface Subject {
  /** Folder of the original model. */
  modelPath: string;
  tokenizer: Tokenizer;
  prompts: PromptEncoder;
  fingerprints: readonly Fingerprint[];
  templates: readonly string[];
  benignFile?: BenignFile;
}

/** Ways to follow, stop and equip a run. */
export interface FinetuneHooks {
  /** Use this GPU and leave it open. */
  gpu?: Gpu;
  signal?: AbortSignal;
  /** The folder that a relative `model_path` is in; default the process's. */
  baseDir?: string;
  onEvent?: (event: FinetuneEvent) => void;
}

/** A finished run. */
export interface FinetuneResult {
  /** results/<hash>. */
  results: string;
  modelPath: string;
  fingerprintsPath: string;
  before: Measurement;
  after: Measurement;
  epochs: number;
  stoppedEarly: boolean;
  /** Device memory: what was planned, and the highest sum of live buffers. */
  plannedBytes: number;
  peakBytes: number;
  seconds: number;
}

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
    return await new Run(gpu, { ...settings }, config, hooks).run();
  } finally {
    if (!hooks.gpu) gpu.dispose();
  }
}

class Run {
  readonly #emit: (event: FinetuneEvent) => void;

  constructor(
    readonly gpu: Gpu,
    readonly settings: { -readonly [Name in keyof FinetuneSettings]: FinetuneSettings[Name] },
    /** What was given of them. */
    readonly given: FinetuneConfig,
    readonly hooks: FinetuneHooks,
  ) {
    this.#emit = hooks.onEvent ?? (() => {});
  }

  async run(): Promise<FinetuneResult> {
    const began = performance.now();
    const { settings, gpu } = this;
    if (settings.profile && !gpu.hasTimestamps) {
      throw new SettingsError(`profile: ${gpu.name} has no timestamp queries`);
    }
    const source = await resolveModel(settings, {
      ...this.hooks,
      onProgress: (progress) => this.#emit({ type: "download", progress }),
    });
    if (source) this.#emit({ type: "model", source });
    const isDemo = source === null;
    const modelPath = source?.dir ?? DEMO_MODEL;
    const fingerprintsPath = settings.fingerprints_file_path ??
      (isDemo ? DEMO_FINGERPRINTS : await this.#generate(modelPath));
    const file = await readFingerprintFile(fingerprintsPath);
    const tokenizer = await Tokenizer.load(modelPath);
    const stored = storedSettings(file.entries, tokenizer);
    settings.max_key_length = this.given.max_key_length ?? stored.keyLength ?? settings.max_key_length;
    settings.use_chat_template = this.given.use_chat_template ?? stored.useChatTemplate ?? false;
    const prompts = await promptEncoder(settings.use_chat_template, modelPath, tokenizer);
    const { fingerprints, dropped } = prepareFingerprints(file.entries, tokenizer, {
      strategy: settings.fingerprint_generation_strategy,
      maxKeyLength: settings.max_key_length,
      maxResponseLength: settings.max_response_length,
      keepEosInResponse: settings.keep_eos_in_response,
      limit: settings.num_fingerprints ?? (isDemo && !settings.fingerprints_file_path ? DEMO_COUNT : 0),
      strict: settings.strict,
      seed: settings.seed,
      prompts,
    });
    settings.num_fingerprints = fingerprints.length;
    this.#emit({ type: "fingerprints", count: fingerprints.length, dropped });
    const benignPath = settings.benign_data_file_path;
    const benignFile = benignPath === null ? undefined : await readBenignFile(benignPath);
    const templates = settings.use_augmentation_prompts ? await loadPrompts(PROMPT_FILES.train) : [];

    const spec = modelSpec(await readModelConfig(modelPath));
    checkVocabulary(fingerprints, tokenizer, spec.vocabulary, prompts);
    const learningRate = settings.learning_rate ?? learningRateFor(spec.width);
    settings.learning_rate = learningRate;
    const choice = this.#choose(spec, fingerprintLengths(tokenizer, fingerprints, templates, prompts));
    const { dtype, master, maxTokens, saveBlocks, room, plan } = choice;
    Object.assign(settings, { dtype, master });
    this.#emit({ type: "settings", settings, learningRate });
    const subject = { modelPath, tokenizer, prompts, fingerprints, templates, benignFile };
    const load = () => LanguageModel.load(gpu, modelPath, { dtype, master, maxTokens, saveBlocks });
    using model = await load().catch((error) => this.#adviseOnMemory(error));

    const hash = await runHash(settings, model.source, file.sha256, benignFile?.sha256);
    const writer = await ResultsWriter.open(settings.output_dir, hash, settings.force);
    try {
      const before = await this.#measure("before", model, subject);
      gpu.resetPeak();
      const trained = await this.#train(model, subject, learningRate, room, writer);
      const { peakBytes } = gpu.memory;
      this.#emit({ type: "phase", name: "saving" });
      await model.save(writer.modelFolder, {
        saveDtype: settings.save_dtype ?? undefined,
        signal: this.hooks.signal,
      });
      await writer.writeSecrets(fingerprints.map(toWritten));
      model.dispose();
      const after = await this.#measureSaved(writer.modelFolder, subject, maxTokens);
      const result = {
        before,
        after,
        ...trained,
        plannedBytes: plan.totalBytes,
        peakBytes,
        seconds: (performance.now() - began) / 1000,
      };
      await writer.writeConfig({
        settings,
        fingerprintsSha256: file.sha256,
        benignSha256: benignFile?.sha256,
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
    } catch (error) {
      await writer.discard();
      throw error;
    }
  }

  /** Makes fingerprints with the model itself, unless an earlier run has. */
  async #generate(modelPath: string): Promise<string> {
    const { gpu, settings, hooks: { signal } } = this;
    this.#emit({ type: "phase", name: "generating fingerprints" });
    const onEvent = (event: GenerateEvent) => {
      if (event.type === "progress") this.#emit(event);
    };
    return await ownFingerprints(settings, modelPath, { gpu, signal, onEvent });
  }

  /** Memory of the run from config alone. @throws OutOfMemoryError before anything is loaded. */
  #choose(
    spec: ModelSpec,
    lengths: WorkloadLengths,
  ): MemoryChoice {
    const { settings, gpu } = this;
    const work = workloadOf(lengths, settings);
    const limitBytes = memoryLimit(gpu, settings);
    const choice = chooseMemory(gpu, spec, settings, work, limitBytes);
    this.#emit({ type: "memory", choice, limitBytes });
    return choice;
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
    room: MemoryChoice["room"],
    writer: ResultsWriter,
  ): Promise<{ epochs: number; stoppedEarly: boolean }> {
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
    };
    const onPhase = (name: string) => this.#emit({ type: "phase", name });
    try {
      // One kind of pass at a time, so that writing texts takes no more memory than training.
      model.passes.release("score");
      using objectives = await prepareObjectives(context, { onPhase });
      onPhase("training");
      model.training.reserve(room.train);
      model.passes.get("score", room.score);
      return await trainFingerprints({
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
            await writer.writeTrace(spans);
          }
          : undefined,
        onEpoch: async (log) => {
          logs.push(log);
          await writer.writeLog(logs);
          this.#emit({ type: "epoch", log, epochs: settings.num_train_epochs });
        },
      });
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
    using saved = await LanguageModel.load(this.gpu, folder, { dtype: "auto", master: "none", maxTokens });
    return await this.#measure("after", saved, subject);
  }

  async #measure(
    when: "before" | "after",
    model: LanguageModel,
    { modelPath, tokenizer, prompts, fingerprints }: Subject,
  ): Promise<Measurement> {
    this.#emit({ type: "phase", name: `measuring ${when}` });
    this.hooks.signal?.throwIfAborted();
    const plain = await askFingerprints(model, prompts, fingerprints);
    // The loss of a step is that before its update: what the last one did shows only here.
    if (when === "after" && !Number.isFinite(plain.loss)) {
      throw new DivergedError(
        `the loss of the trained model is ${plain.loss}: the last step broke its weights. Nothing was saved; a lower ` +
          `learning rate than ${this.settings.learning_rate} may help`,
      );
    }
    this.hooks.signal?.throwIfAborted();
    const heldOut = await loadPrompts(PROMPT_FILES.test);
    const prompted = await askFingerprints(model, prompts, fingerprints, heldOut);
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
