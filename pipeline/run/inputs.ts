/**
 * What a run reads before it touches a device: everything but the weights.
 * @module
 */
import { readStoredSpec } from "../../engine/model/stored_model.ts";
import type { ModelSpec } from "../../engine/models/spec.ts";
import { readFingerprintFile } from "../fingerprints/file.ts";
import { modelHash } from "../fingerprints/generate/model_hash.ts";
import { checkPositions, checkVocabulary } from "../fingerprints/fits_model.ts";
import {
  type Dropped,
  type Fingerprint,
  prepareFingerprints,
  storedSettings,
} from "../fingerprints/prepare.ts";
import type { ModelSource } from "../hub/model_source.ts";
import { type BenignFile, readBenignFile } from "../objectives/benign_file.ts";
import { promptEncoder } from "../prompts/chat_template.ts";
import { loadPrompts, PROMPT_FILES, type PromptEncoder } from "../prompts/prompts.ts";
import { DEMO_COUNT, DEMO_FINGERPRINTS, DEMO_MODEL } from "../settings/demo_assets.ts";
import { type FinetuneConfig, type FinetuneSettings, resolveSettings } from "../settings/finetune.ts";
import { responseStrategy } from "../settings/strategies.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";

/** The fingerprints of a file. */
export interface FileFingerprints {
  readonly fingerprints: readonly Fingerprint[];
  readonly dropped: Dropped;
  /** SHA-256 of the file, hex. */
  readonly sha256: string;
}

/** What a run works on. */
export interface RunInputs {
  /** Folder of the original model. */
  readonly modelPath: string;
  readonly spec: ModelSpec;
  readonly tokenizer: Tokenizer;
  /** How keys are asked: plainly, or in a chat template. */
  readonly prompts: PromptEncoder;
  /** Templates of prompt augmentation; empty without. */
  readonly templates: readonly string[];
  readonly benignFile?: BenignFile | undefined;
  /** Absent where the run makes its own. */
  readonly file?: FileFingerprints | undefined;
}

/**
 * Reads a run's files and settles what they decide: key length, chat template and number of fingerprints.
 * @param source null for the demo model
 * @throws SettingsError, TokenizerError, FingerprintFileError, ConfigError, RangeError and their kin
 */
export async function readInputs(
  config: FinetuneConfig,
  source: ModelSource | null,
): Promise<{ settings: FinetuneSettings; inputs: RunInputs }> {
  const given = resolveSettings(config);
  const modelPath = source?.dir ?? DEMO_MODEL;
  const path = given.fingerprints_file_path ?? (source ? null : DEMO_FINGERPRINTS);
  const file = path === null ? undefined : await readFingerprintFile(path);
  const tokenizer = await Tokenizer.load(modelPath);
  const stored = file ? storedSettings(file.entries, tokenizer) : {};
  const isDemoFile = source === null && given.fingerprints_file_path === null;
  const settings: FinetuneSettings = {
    ...given,
    max_key_length: config.max_key_length ?? stored.keyLength ?? given.max_key_length,
    use_chat_template: config.use_chat_template ?? stored.useChatTemplate ?? false,
    num_fingerprints: given.num_fingerprints ?? (isDemoFile ? DEMO_COUNT : 0),
  };
  const prompts = await promptEncoder(settings.use_chat_template, modelPath, tokenizer);
  const texts = { tokenizer, prompts };
  const saysModel = file?.entries.some(({ extra }) => typeof extra.model_hash === "string");
  const modelHashes = saysModel ? [await modelHash(modelPath)] : [];
  const fingerprints = file &&
    { ...prepare(file.entries, settings, texts, modelHashes), sha256: file.sha256 };
  const benignPath = settings.benign_data_file_path;
  const inputs = {
    modelPath,
    ...texts,
    file: fingerprints,
    benignFile: benignPath === null ? undefined : await readBenignFile(benignPath),
    templates: settings.use_augmentation_prompts ? await loadPrompts(PROMPT_FILES.train) : [],
    spec: await readStoredSpec(modelPath),
  };
  checkFits(fingerprints?.fingerprints ?? [], inputs);
  return { settings, inputs };
}

/**
 * Reads a file of fingerprints that the run has made, exactly as many as it planned for.
 * @throws RangeError where the model gave fewer
 */
export async function readOwnFile(
  path: string,
  settings: FinetuneSettings,
  inputs: RunInputs,
): Promise<FileFingerprints> {
  const { entries, sha256 } = await readFingerprintFile(path);
  const wanted = settings.num_fingerprints!;
  if (entries.length < wanted) {
    throw new RangeError(
      `${path}: expected the ${wanted} fingerprints that were asked of the model, found the ${entries.length} that it ` +
        "gave: --fingerprints_file_path with this file takes those",
    );
  }
  const prepared = prepare(entries, settings, inputs);
  checkFits(prepared.fingerprints, inputs);
  return { ...prepared, sha256 };
}

/** @throws RangeError where the model has not the tokens or the positions. */
function checkFits(fingerprints: readonly Fingerprint[], inputs: RunInputs): void {
  const { tokenizer, prompts, templates, spec } = inputs;
  checkVocabulary(fingerprints, tokenizer, spec.vocabulary, prompts);
  checkPositions(fingerprints, spec.maxPositions, prompts, templates);
}

function prepare(
  entries: Parameters<typeof prepareFingerprints>[0],
  settings: FinetuneSettings,
  { tokenizer, prompts }: Pick<RunInputs, "tokenizer" | "prompts">,
  modelHashes: readonly string[] = [],
) {
  return prepareFingerprints(entries, tokenizer, {
    strategy: responseStrategy(settings.fingerprint_generation_strategy),
    maxKeyLength: settings.max_key_length,
    maxResponseLength: settings.max_response_length,
    keepEosInResponse: settings.keep_eos_in_response,
    limit: settings.num_fingerprints ?? 0,
    strict: settings.strict,
    seed: settings.seed,
    prompts,
    modelHashes,
  });
}
