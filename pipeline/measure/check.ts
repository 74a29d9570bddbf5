import type { z } from "zod";
import type { Gpu } from "../../engine/gpu/context.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import type { HubProgress } from "../hub/hub.ts";
import { type CheckConfig, checkConfigSchema } from "../settings/check.ts";
import { parseSettings, SettingsError } from "../settings/parse.ts";
import { resolveModel } from "../hub/model_source.ts";
import { type Answer, askFingerprints, explainAnswers } from "./evaluate.ts";
import { type FingerprintEntry, readEntries, readFingerprintFile } from "../fingerprints/file.ts";
import { modelHash } from "../fingerprints/generate/model_hash.ts";
import { checkPositions, checkVocabulary } from "../fingerprints/fits_model.ts";
import { type Dropped, prepareFingerprints } from "../fingerprints/prepare.ts";
import { openGpu } from "../gpu/open.ts";
import { promptEncoder } from "../prompts/chat_template.ts";
import { loadPrompts, PROMPT_FILES, type PromptEncoder } from "../prompts/prompts.ts";
import { type CheckSettings, settleCheck } from "./check_settings.ts";
import { findResults, findRunOf } from "./found_results.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";

/** One question's answer, in text; a secret. */
export interface CheckRow {
  /** Index of the entry in the fingerprint file, or among the fingerprints given, from 0. */
  entry: number;
  /** The prompt it was asked in, if any: a template with `{}` where the key stands. */
  prompt?: string | undefined;
  /** The accepted response that the answer came nearest to. */
  wanted: string;
  /** What the model says, as far as it was needed. */
  got: string;
  /** Whether they are the same, token by token. */
  exact: boolean;
  /** Share of the response's positions that are right, 0 to 1. */
  fractional: number;
  /** Rank, from 1, of the wanted token at the first wrong position, or at the first if all are right. */
  rank: number;
  /** The probability of that token there, 0 to 1. */
  probability: number;
  /** The likeliest tokens there, the likeliest first. */
  top: LikelyToken[];
}

/** A token with its probability. */
export interface LikelyToken {
  /** Its text. */
  token: string;
  /** 0 to 1. */
  probability: number;
}

/** How many fingerprints a model answers. */
export interface CheckResult {
  /** Per cent of questions answered exactly: greedily, or as drawn at `temperature`. */
  success_rate: number;
  /** Per cent of response positions answered right. */
  fractional_accuracy: number;
  /** Fingerprints asked. */
  fingerprints: number;
  /** Questions asked: one a fingerprint, or one a fingerprint and held-out prompt. */
  questions: number;
  /** Questions where the model's logits became NaN, if any; they count as answered wrong. */
  nan_questions?: number;
  /** Tensors of the checkpoint that the model doesn't use, if any. */
  unused_tensors?: string[] | undefined;
  /** What was asked and what counted as right, and where each setting comes from. */
  settings: CheckSettings;
  /** What was left out of the file, cut or tokenised anew. */
  dropped: Dropped;
  /**
   * Fingerprints that were made with another model than the one that this model comes from; null where nothing says what
   * it comes from, as of a copy outside of its results folder.
   */
  other_model: number | null;
  /** One a question; only with `verbose`. */
  rows?: CheckRow[] | undefined;
}

/** Ways to equip a check. */
export interface CheckHooks {
  /** Use this GPU and leave it open. */
  gpu?: Gpu | undefined;
  /** Stops the check, which then throws the signal's reason. */
  signal?: AbortSignal | undefined;
  /** The folder that a relative `model_path` is in; default the process's. */
  baseDir?: string | undefined;
  /** While a model of the Hub is downloaded. */
  onDownload?: ((progress: HubProgress) => void) | undefined;
  /** The adapter's name, before the model is loaded. */
  onGpu?: ((name: string) => void) | undefined;
  /** What of the fingerprints was left out, and why. */
  onDropped?: ((dropped: Dropped) => void) | undefined;
}

/**
 * Asks a model every fingerprint. For a folder of ours the fingerprints and the settings beside it are found without
 * being told; given settings win.
 * @throws SettingsError for a wrong setting, or fingerprints given both as values and as a file
 * @throws FingerprintFileError naming entry and field; of values its `path` is "fingerprints"
 * @throws RangeError where there are no fingerprints, or what `model_path` can throw: ModelDirError, HubError, …
 */
export async function check(config: CheckConfig, hooks: CheckHooks = {}): Promise<CheckResult> {
  const own = parseSettings(checkConfigSchema, config);
  if (own.fingerprints !== undefined && own.fingerprints_file_path !== null) {
    throw new SettingsError("fingerprints and fingerprints_file_path: expected one of them, found both");
  }
  const source = await resolveModel(own, { ...hooks, onProgress: hooks.onDownload });
  if (!source) throw new SettingsError("model_path is missing: the model to ask, a folder or org/name");
  const found = await findResults(source.dir);
  const file = await fingerprintsOf(own, found?.fingerprintsPath, source.name);
  const tokenizer = await Tokenizer.load(source.dir);
  const ownRun = own.fingerprints !== undefined
    ? undefined
    : own.fingerprints_file_path === null
    ? found
    : await findRunOf(own.fingerprints_file_path);
  const run = ownRun ?? found;
  const settings = settleCheck(own, { file, run, isSaved: ownRun !== undefined }, tokenizer);
  const prompts = await promptEncoder(settings.use_chat_template.value, source.dir, tokenizer);
  const seed = settings.seed.value;
  const origin = found?.modelHash;
  const { fingerprints, dropped } = prepareFingerprints(file.entries, tokenizer, {
    strategy: settings.fingerprint_generation_strategy.value,
    maxKeyLength: settings.max_key_length.value ?? Number.MAX_SAFE_INTEGER,
    maxResponseLength: settings.max_response_length.value ?? Number.MAX_SAFE_INTEGER,
    keepEosInResponse: settings.keep_eos_in_response.value,
    limit: settings.num_fingerprints.value,
    strict: own.strict,
    seed,
    prompts,
    modelHashes: origin === undefined ? [] : [origin, await modelHash(source.dir)],
  });
  hooks.onDropped?.(dropped);
  const templates = own.use_augmentation_prompts ? await loadPrompts(PROMPT_FILES.test) : undefined;
  const gpu = hooks.gpu ?? await openGpu({ webgpu: own.webgpu });
  try {
    hooks.onGpu?.(gpu.name);
    using model = await LanguageModel.load(gpu, source.dir, { dtype: own.dtype, master: "none" });
    const unused = model.unusedTensors();
    checkVocabulary(fingerprints, tokenizer, model.spec.vocabulary, prompts);
    checkPositions(fingerprints, model.spec.maxPositions, prompts, templates);
    const asked = await askFingerprints(model, prompts, fingerprints, templates, {
      temperature: own.temperature,
      seed,
      signal: hooks.signal,
    });
    // −1 stands for NaN logits, which are no answer.
    const broken = asked.answers.filter(({ got }) => got.includes(-1)).length;
    return {
      success_rate: asked.successRate,
      fractional_accuracy: asked.fractionalAccuracy,
      fingerprints: fingerprints.length,
      questions: asked.questions,
      ...(broken ? { nan_questions: broken } : {}),
      ...(unused.length ? { unused_tensors: unused } : {}),
      settings,
      dropped,
      other_model: origin === undefined ? null : dropped.otherModel ?? 0,
      ...(own.verbose ? { rows: await rows(model, tokenizer, prompts, asked.answers, templates) } : {}),
    };
  } finally {
    if (!hooks.gpu) gpu.dispose();
  }
}

/** The fingerprints to ask: given as values, in the file that is named, or beside the model. */
async function fingerprintsOf(
  { fingerprints: values, fingerprints_file_path: path }: z.output<typeof checkConfigSchema>,
  beside: string | undefined,
  model: string,
): Promise<{ entries: FingerprintEntry[]; sha256?: string }> {
  if (values !== undefined) return { entries: readEntries("fingerprints", values) };
  const chosen = path ?? beside;
  if (chosen !== undefined) return await readFingerprintFile(chosen);
  throw new RangeError(`fingerprints_file_path is missing, and there are no fingerprints beside ${model}`);
}

async function rows(
  model: LanguageModel,
  tokenizer: Tokenizer,
  prompts: PromptEncoder,
  answers: readonly Answer[],
  templates: readonly string[] | undefined,
): Promise<CheckRow[]> {
  const details = await explainAnswers(model, prompts, answers);
  return answers.map(({ fingerprint, template, wanted, got, exact, fractional }, i) => ({
    entry: fingerprint.entry,
    ...(template === undefined ? {} : { prompt: templates![template] }),
    // NaN logits have no text.
    wanted: tokenizer.decode(wanted),
    got: tokenizer.decode(got.filter((id) => id >= 0)),
    exact,
    fractional,
    rank: details[i]!.rank,
    probability: details[i]!.probability,
    top: details[i]!.top.map(({ token, probability }) => ({ token: tokenizer.decode([token]), probability })),
  }));
}
