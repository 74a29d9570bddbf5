import type { Gpu } from "../../engine/gpu/context.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import type { HubProgress } from "../hub/hub.ts";
import { type CheckConfig, checkConfigSchema, savedSchema } from "../settings/check.ts";
import { parseSettings, SettingsError } from "../settings/parse.ts";
import { resolveModel } from "../hub/model_source.ts";
import { type Answer, type AnswerDetail, askFingerprints, explainAnswers } from "./evaluate.ts";
import { readFingerprintFile } from "../fingerprints/file.ts";
import {
  checkVocabulary,
  type Dropped,
  prepareFingerprints,
  storedSettings,
} from "../fingerprints/prepare.ts";
import { openGpu } from "../gpu/open.ts";
import { promptEncoder } from "../prompts/chat_template.ts";
import { loadPrompts, PROMPT_FILES, type PromptEncoder } from "../prompts/prompts.ts";
import { findResults } from "./found_results.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";

/** One question's answer, in text; a secret. */
export interface CheckRow extends Pick<AnswerDetail, "rank" | "probability"> {
  /** Index of the entry in the fingerprint file, from 0. */
  entry: number;
  /** The prompt it was asked in, if any. */
  prompt?: string;
  wanted: string;
  got: string;
  exact: boolean;
  fractional: number;
  top: { token: string; probability: number }[];
}

/** How many fingerprints a model answers. */
export interface CheckResult {
  /** Per cent of questions answered exactly: greedily, or as drawn at `temperature`. */
  success_rate: number;
  /** Per cent of response positions answered right. */
  fractional_accuracy: number;
  fingerprints: number;
  questions: number;
  /** Only with `verbose`. */
  rows?: CheckRow[];
}

/** Ways to equip a check. */
export interface CheckHooks {
  /** Use this GPU and leave it open. */
  gpu?: Gpu;
  signal?: AbortSignal;
  /** The folder that a relative `model_path` is in; default the process's. */
  baseDir?: string;
  onDownload?: (progress: HubProgress) => void;
  onGpu?: (name: string) => void;
  onDropped?: (dropped: Dropped) => void;
}

/**
 * Asks a model every fingerprint. For a folder of ours the fingerprints and the settings beside it are found without
 * being told; given settings win.
 * @throws SettingsError, FingerprintFileError, RangeError or an error of loading the model.
 */
export async function check(config: CheckConfig, hooks: CheckHooks = {}): Promise<CheckResult> {
  const own = parseSettings(checkConfigSchema, config);
  const source = await resolveModel(own, { ...hooks, onProgress: hooks.onDownload });
  if (!source) throw new SettingsError("model_path is missing: the model to ask, a folder or org/name");
  const found = await findResults(source.dir);
  const path = own.fingerprints_file_path ?? found?.fingerprintsPath;
  if (!path) {
    throw new RangeError(
      `fingerprints_file_path is missing, and there are no fingerprints beside ${source.name}`,
    );
  }
  // The saved fingerprints are what was used: their ids already hold lengths, strategy and EOS.
  const saved = own.fingerprints_file_path === null;
  const shared = { ...parseSettings(savedSchema, found?.settings ?? {}), ...own };
  const file = await readFingerprintFile(path);
  const tokenizer = await Tokenizer.load(source.dir);
  const stored = storedSettings(file.entries, tokenizer);
  const useChatTemplate = shared.use_chat_template ?? stored.useChatTemplate ?? false;
  const prompts = await promptEncoder(useChatTemplate, source.dir, tokenizer);
  const seed = shared.seed ?? 42;
  const isRunsOwn = file.sha256 === found?.fingerprintsSha256;
  const longest = (of: (ids: { keyIds?: number[]; responseIds?: number[][] }) => number) =>
    Math.max(1, ...file.entries.map(of));
  const { fingerprints, dropped } = prepareFingerprints(file.entries, tokenizer, {
    strategy: saved ? "stored" : shared.fingerprint_generation_strategy ?? "stored",
    maxKeyLength: saved
      ? longest(({ keyIds }) => keyIds?.length ?? 1)
      : shared.max_key_length ?? stored.keyLength,
    maxResponseLength: saved
      ? longest(({ responseIds }) => Math.max(...(responseIds ?? [[0]]).map((ids) => ids.length)))
      : shared.max_response_length,
    keepEosInResponse: shared.keep_eos_in_response,
    limit: own.num_fingerprints ?? (isRunsOwn ? shared.num_fingerprints ?? 0 : 0),
    strict: own.strict,
    seed,
    prompts,
  });
  hooks.onDropped?.(dropped);
  const templates = own.use_augmentation_prompts ? await loadPrompts(PROMPT_FILES.test) : undefined;
  const gpu = hooks.gpu ?? await openGpu({ webgpu: own.webgpu });
  try {
    hooks.onGpu?.(gpu.name);
    using model = await LanguageModel.load(gpu, source.dir, { dtype: own.dtype, master: "none" });
    checkVocabulary(fingerprints, tokenizer, model.spec.vocabulary, prompts);
    const asked = await askFingerprints(model, prompts, fingerprints, templates, {
      temperature: own.temperature,
      seed,
      signal: hooks.signal,
    });
    return {
      success_rate: asked.successRate,
      fractional_accuracy: asked.fractionalAccuracy,
      fingerprints: fingerprints.length,
      questions: asked.questions,
      ...(own.verbose ? { rows: await rows(model, tokenizer, prompts, asked.answers, templates) } : {}),
    };
  } finally {
    if (!hooks.gpu) gpu.dispose();
  }
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
    // −1 stands for NaN logits, which have no text.
    wanted: tokenizer.decode(wanted),
    got: tokenizer.decode(got.filter((id) => id >= 0)),
    exact,
    fractional,
    rank: details[i].rank,
    probability: details[i].probability,
    top: details[i].top.map(({ token, probability }) => ({ token: tokenizer.decode([token]), probability })),
  }));
}
