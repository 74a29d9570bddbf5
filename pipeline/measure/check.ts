import { z } from "zod";
import type { Gpu } from "../../engine/gpu/context.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import type { HubProgress } from "../hub/hub.ts";
import { parseSettings, SettingsError } from "../settings/finetune.ts";
import { resolveModel } from "../hub/model_source.ts";
import { type Answer, type AnswerDetail, askFingerprints, explainAnswers } from "./evaluate.ts";
import { readFingerprintFile } from "../fingerprints/file.ts";
import {
  checkVocabulary,
  type Dropped,
  prepareFingerprints,
  storedSettings,
} from "../fingerprints/prepare.ts";
import { openGpu, webgpuSchema } from "../gpu/open.ts";
import { promptEncoder } from "../prompts/chat_template.ts";
import { loadPrompts, PROMPT_FILES, type PromptEncoder } from "../prompts/prompts.ts";
import { findResults } from "../run/results.ts";
import { strategySchema } from "../settings/strategies.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";

/** Settings that a fine-tuning run saves and a check takes from there. */
const sharedSchema = z.object({
  fingerprint_generation_strategy: strategySchema.optional(),
  max_key_length: z.number().int().min(1).optional(),
  max_response_length: z.number().int().min(1).optional(),
  keep_eos_in_response: z.boolean().optional(),
  num_fingerprints: z.number().int().min(0).optional(),
  use_chat_template: z.boolean().optional(),
  /** Of drawn answers, and of the words of strategy english_random_response. Default the run's, or 42. */
  seed: z.number().int().min(0).max(0xffffffff).optional(),
});

/** Every setting of a check. */
export const checkConfigSchema = z.strictObject({
  ...sharedSchema.shape,
  /** A folder, or org/name[@revision] on the Hub; or model_family and model_size instead. */
  model_path: z.string().min(1).optional(),
  model_family: z.string().min(1).optional(),
  model_size: z.string().min(1).optional(),
  /** Not needed for a `results/<hash>/final_model` folder. */
  fingerprints_file_path: z.string().min(1).optional(),
  /** The first fingerprints of the file; 0 is all. Default all, or as many as the run took of this very file. */
  num_fingerprints: z.number().int().min(0).optional(),
  /** Ask under the held-out prompts instead of the plain keys. */
  use_augmentation_prompts: z.boolean().default(false),
  /** Draw answers at this temperature instead of taking the likeliest tokens; 0 doesn't. */
  temperature: z.number().min(0).default(0),
  /** Rows by fingerprint, with rank, probability and the likeliest tokens. */
  verbose: z.boolean().default(false),
  strict: z.boolean().default(false),
  /** What matrices are kept in; auto is bf16 for a model that is stored so, which is exact, else f32. */
  dtype: z.enum(["auto", "f32", "bf16"]).default("auto"),
  webgpu: webgpuSchema,
});

/** What {@link check} takes. */
export type CheckConfig = z.input<typeof checkConfigSchema>;

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
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const own = parseSettings(checkConfigSchema, given);
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
  const saved = own.fingerprints_file_path === undefined;
  const shared = { ...parseSettings(sharedSchema, found?.settings ?? {}), ...own };
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
    strategy: saved ? "perinucleus" : shared.fingerprint_generation_strategy ?? "perinucleus",
    maxKeyLength: saved
      ? longest(({ keyIds }) => keyIds?.length ?? 1)
      : shared.max_key_length ?? stored.keyLength,
    maxResponseLength: saved
      ? longest(({ responseIds }) => Math.max(...(responseIds ?? [[0]]).map((ids) => ids.length)))
      : shared.max_response_length,
    keepEosInResponse: shared.keep_eos_in_response,
    limit: own.num_fingerprints ?? (isRunsOwn ? shared.num_fingerprints : 0),
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
