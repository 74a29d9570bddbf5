import { createHash } from "node:crypto";
import { dirname, resolve } from "node:path";
import type { Gpu } from "../../../engine/gpu/context.ts";
import { attempt, saveAtomic } from "../../../engine/io/atomic.ts";
import type { HubProgress } from "../../hub/hub.ts";
import { LanguageModel } from "../../../engine/language_model.ts";
import type { SetCommitment } from "../commitment.ts";
import { readFingerprintFile, writeFingerprintFile, type WrittenFingerprint } from "../file.ts";
import { openGpu } from "../../gpu/open.ts";
import type { ModelSource } from "../../hub/model_source.ts";
import { Texts } from "./candidate.ts";
import { FingerprintsExistError, GenerateFileError, NotEnoughFingerprintsError } from "./errors.ts";
import { Journal } from "./journal.ts";
import { isFinished, removeLeftovers, removeTemporaries } from "./leftovers.ts";
import { Maker } from "./maker.ts";
import { fill, Progress } from "./progress.ts";
import { commitmentOf, type RunFacts, runFacts, toEntry } from "./entry.ts";
import { openSecret, type Secret, writeSecret } from "./secret.ts";
import type { GenerateConfig } from "../../settings/generate.ts";
import { type GenerateSettings, leastLetters, resolveGenerateSettings, responseLimit } from "./settings.ts";
import { findSources, type Sources } from "./sources.ts";
import { type GenerateSummary, summarise } from "./summary.ts";
import { Writer } from "./writer.ts";

/** The seeds' default of `num_fingerprints`. */
const DEFAULT_COUNT = 8192;

/** What happens in a run, in order. */
export type GenerateEvent =
  | { type: "model"; source: ModelSource }
  | { type: "download"; progress: HubProgress }
  | { type: "settings"; settings: GenerateSettings; path: string }
  /** A stopped run goes on after so many fingerprints. */
  | { type: "resumed"; count: number; attempts: number }
  | { type: "gpu"; name: string; isSoftware: boolean }
  /** Tensors of a checkpoint that its model doesn't use. */
  | { type: "unused"; tensors: string[] }
  /** After each batch. */
  | { type: "progress"; count: number; wanted: number; attempts: number };

/** Ways to follow, stop and equip a run. */
export interface GenerateHooks {
  /** Use this GPU and leave it open. */
  gpu?: Gpu | undefined;
  /** Stops the run, which then throws the signal's reason; the same call goes on where it was. */
  signal?: AbortSignal | undefined;
  /** The folder that relative paths are in; default the process's. */
  baseDir?: string | undefined;
  /** Hashes that are known already, by model folder, so that none is made twice. */
  modelHashes?: ReadonlyMap<string, string> | undefined;
  /** Called with what happens, as it happens. */
  onEvent?: ((event: GenerateEvent) => void) | undefined;
}

/** A finished run. */
export interface GenerateResult {
  /** The fingerprint file. */
  path: string;
  /** The file's content. A secret. */
  fingerprints: WrittenFingerprint[];
  /** What they are like, without any of their text. */
  summary: GenerateSummary;
  /** The commitment to them, a file to publish early: it holds no secret. */
  commitmentPath: string;
}

/**
 * Makes fingerprints for a model and writes them to a file, readable by its owner only. A run that is
 * stopped, even killed, goes on where it was when it is called again, and ends with the same bytes. Beside
 * the file lie its secret and the commitment to the set.
 * @throws NotEnoughFingerprintsError when the model or the keys give fewer than asked for; those are written
 * @throws FingerprintsExistError, GenerateFileError, SettingsError, FingerprintFileError, ChatTemplateError,
 * FileWriteError, an error of loading a model, or the signal's reason
 */
export async function generateFingerprints(
  config: GenerateConfig = {},
  hooks: GenerateHooks = {},
): Promise<GenerateResult> {
  const resolved = resolveGenerateSettings(config);
  const { baseDir = ".", signal } = hooks;
  const emit = hooks.onEvent ?? (() => {});
  const path = resolve(baseDir, resolved.output_file_path);
  await attempt(path, () => Deno.mkdir(dirname(path), { recursive: true }));
  using journal = await Journal.open(path);
  await removeTemporaries(path);
  await removeLeftovers(dirname(path), path);
  // Killed between the file's end and the journal's: the same run goes on to the same end.
  const isLeft = !resolved.force && await isFinished(path);
  await refuseExisting(path, isLeft || resolved.force || await journal.replaces());
  const keys = resolved.keys_path === null ? undefined : await readKeys(resolve(baseDir, resolved.keys_path));
  const wanted = resolved.num_fingerprints ?? keys?.texts.length ?? DEFAULT_COUNT;
  const settings: GenerateSettings = { ...resolved, num_fingerprints: wanted };

  const sources = await findSources(settings, {
    signal,
    baseDir,
    onProgress: (progress) => emit({ type: "download", progress }),
  });
  emit({ type: "model", source: sources.target });
  emit({ type: "settings", settings, path });
  const secretPath = `${path}.secret`;
  const secret = await openSecret(secretPath, settings.seed, settings.force);
  const facts = await runFacts(settings, sources, secret, keys?.sha256, hooks.modelHashes);
  const batches = await journal.begin(facts.identity, settings.force).catch(async (error) => {
    if (!isLeft || !(error instanceof GenerateFileError)) throw error;
    // Another run's, which has all that it needs.
    await journal.remove();
    throw new FingerprintsExistError(path);
  });
  const limit = responseLimit(settings.max_response_share, wanted);
  const progress = new Progress(wanted, sources.prompts, { limit, ownKeys: keys?.texts });
  for (const batch of batches) progress.replay(batch);
  if (batches.length > 0) {
    emit({ type: "resumed", count: progress.entries.length, attempts: progress.attempts.count });
  }

  const reason = progress.isComplete
    ? undefined
    : await make({ settings, sources, secret, facts, progress, journal, hooks, emit });
  const { entries } = progress;
  const set = entries.length > 0 ? commitmentOf(entries, secret) : undefined;
  const fingerprints = entries.map((entry) => ({ ...entry, set_commitment: set!.root }));
  const summary = summarise(fingerprints, {
    wanted,
    attempts: progress.attempts.count,
    rejected: progress.rejected,
    limit,
    commitment: set?.root,
  });
  const commitmentPath = `${path}.commitment.json`;
  if (set) {
    await writeCommitment(commitmentPath, set, facts);
    await writeSecret(secretPath, secret, set.root);
    await writeFingerprintFile(path, fingerprints);
  }
  await journal.remove();
  if (reason !== undefined) {
    throw new NotEnoughFingerprintsError(fingerprints.length > 0 ? path : undefined, summary, reason);
  }
  return { path, fingerprints, summary, commitmentPath };
}

/** What {@link make} goes by. */
interface Run {
  settings: GenerateSettings;
  sources: Sources;
  secret: Secret;
  facts: RunFacts;
  progress: Progress;
  journal: Journal;
  hooks: GenerateHooks;
  emit: (event: GenerateEvent) => void;
}

/** Loads the models and makes what is missing. @returns why not all, if so */
async function make({ settings, sources, secret, facts, progress, journal, hooks, emit }: Run) {
  const { signal } = hooks;
  signal?.throwIfAborted();
  const gpu = hooks.gpu ?? await openGpu({ webgpu: settings.webgpu });
  try {
    emit({ type: "gpu", name: gpu.name, isSoftware: gpu.isSoftware });
    const load = async (dir: string) => {
      const model = await LanguageModel.load(gpu, dir, { dtype: settings.dtype, master: "none" });
      const unused = model.unusedTensors();
      if (unused.length) emit({ type: "unused", tensors: unused });
      return model;
    };
    using models = new DisposableStack();
    const base = models.use(await load(sources.base.dir));
    const { writer } = sources;
    const writes = !writer || writer.source.dir === sources.base.dir
      ? base
      : models.use(await load(writer.source.dir));
    const maker = new Maker({
      settings,
      secret,
      base,
      signal,
      texts: new Texts(sources.tokenizer, sources.prompts, base.spec.vocabulary, leastLetters(settings)),
      ...(writer ? { writer: new Writer(writes, writer.tokenizer, writer.chat) } : {}),
    });
    return await fill(progress, settings.batch_size, async (attempts) => {
      const candidates = await maker.make(attempts);
      return candidates.map((one) => typeof one === "string" ? one : toEntry(one, facts));
    }, async (batch) => {
      await journal.append(batch);
      const { entries, wanted, attempts } = progress;
      emit({ type: "progress", count: entries.length, wanted, attempts: attempts.count });
      signal?.throwIfAborted();
    });
  } finally {
    if (!hooks.gpu) gpu.dispose();
  }
}

/** @throws FingerprintsExistError */
async function refuseExisting(path: string, mayReplace: boolean): Promise<void> {
  const info = await Deno.lstat(path).catch(() => undefined);
  if (info?.isDirectory) throw new GenerateFileError(path, "expected the path of a file, found a folder");
  if (info && !mayReplace) throw new FingerprintsExistError(path);
}

/** Writes what is to be published of a commitment. One to another set, perhaps published already, is put aside. */
async function writeCommitment(path: string, set: SetCommitment, { identity }: RunFacts): Promise<void> {
  const { model_hash, tokenizer_hash } = identity;
  const content = { version: 1, set_commitment: set.root, count: set.count, model_hash, tokenizer_hash };
  const text = JSON.stringify(content, null, 2) + "\n";
  const before = await Deno.lstat(path).catch(() => undefined);
  if (before?.isFile) {
    const bytes = await attempt(path, () => Deno.readFile(path));
    if (new TextDecoder().decode(bytes) === text) return;
    const name = createHash("sha256").update(bytes).digest("hex").slice(0, 16);
    await attempt(path, () => Deno.rename(path, `${path}.${name}`));
  }
  await saveAtomic(path, text);
}

/** Keys of a file of strings or objects; their responses, if any, are not used. */
async function readKeys(path: string): Promise<{ texts: string[]; sha256: string }> {
  const { entries, sha256 } = await readFingerprintFile(path);
  return { texts: entries.map(({ key, effectiveKey }) => effectiveKey ?? key), sha256 };
}
