import { basename, dirname, join, resolve, sep } from "node:path";
import type { FloatDtype } from "../tensor/dtype.ts";
import { attempt, FileWriteError, removeQuietly, replaceFile, saveAtomic, syncFolder } from "./atomic.ts";
import { type CarriedFile, type CarriedFiles, findCarried, type LeftFile } from "./carried_files.ts";
import { isJsonObject, parseJson, readJsonObject } from "./json.ts";
import { Checkpoint, PIECE_BYTES } from "./safetensors.ts";
import {
  type ParameterSource,
  refuseSameFolder,
  writeCheckpoint,
  type WriteCheckpointOptions,
} from "./safetensors_writer.ts";
import { INDEX_FILE } from "./weight_files.ts";

export type { CarriedFile, CarriedFiles, LeftFile } from "./carried_files.ts";
export { JsonFileError } from "./json.ts";

/** A Hugging Face model folder that can't be read or can't be saved where asked. */
export class ModelDirError extends Error {
  /** Always "ModelDirError". */
  override readonly name = "ModelDirError";
  /** `reason` is the message without the folder. */
  constructor(readonly dir: string, readonly reason: string, options?: ErrorOptions) {
    super(`${dir}: ${reason}`, options);
  }
}

/** An opened model folder. Whoever opened it closes the checkpoint. */
export interface ModelDir {
  dir: string;
  /** Content of config.json. */
  config: Record<string, unknown>;
  checkpoint: Checkpoint;
}

/**
 * Opens the folder of a Hugging Face model: its config.json and its safetensors weights.
 *
 * @throws ModelDirError if the folder or config.json is missing
 * @throws JsonFileError or SafetensorsError if one of them is malformed
 */
export async function openModelDir(dir: string): Promise<ModelDir> {
  return { dir, config: await readModelConfig(dir), checkpoint: await Checkpoint.open(dir) };
}

/** Reads config.json of a model folder, without its weights; throws as {@link openModelDir}. */
export async function readModelConfig(dir: string): Promise<Record<string, unknown>> {
  const info = await statOrUndefined(dir);
  if (info === undefined) {
    throw new ModelDirError(dir, "no such folder: expected a Hugging Face model folder");
  }
  if (!info.isDirectory) throw new ModelDirError(dir, "is a file: expected a Hugging Face model folder");
  const configPath = join(dir, "config.json");
  if (await statOrUndefined(configPath) === undefined) {
    throw new ModelDirError(dir, "has no config.json: expected a Hugging Face model folder");
  }
  return await readJsonObject(configPath, { nonFinite: true });
}

/** Options of {@link saveModelDir}. */
export interface SaveModelDirOptions extends WriteCheckpointOptions {
  /** Store every parameter in this type and say so in config.json; default: as `parameters.dtypeOf` says. */
  saveDtype?: FloatDtype | undefined;
  /** Replace an existing model folder. It stays until the new one is complete. */
  overwrite?: boolean | undefined;
  /** When the system refuses a write, leave what is whole already in `<targetDir>.partial-<pid>`. */
  keepPartial?: boolean | undefined;
}

/** A saved folder. */
export interface SavedModelDir {
  /** What of the source folder isn't in it, and why. */
  left: LeftFile[];
}

/**
 * Saves a model folder like `source` with new parameters. What belongs to a model (config, tokenizer, chat
 * templates, licence, …) is carried over; everything else is not, and is named: see {@link findCarried}. The folder
 * is built as `<targetDir>.partial-<pid>` and renamed, so that it is there complete or not at all.
 *
 * @throws RangeError if `targetDir` is the source folder or holds it
 * @throws ModelDirError if it exists and `overwrite` is not set, or is no model folder
 * @throws FileWriteError naming the path when the system refuses
 * @throws the signal's reason when aborted; whatever `parameters.read` throws
 */
export async function saveModelDir(
  source: { dir: string; checkpoint: Checkpoint },
  targetDir: string,
  parameters: ParameterSource,
  options: SaveModelDirOptions = {},
): Promise<SavedModelDir> {
  const target = resolve(targetDir);
  await checkTarget(source.dir, target, options.overwrite ?? false);
  options.signal?.throwIfAborted();
  const partial = `${target}.partial-${Deno.pid}`;
  // A process with our id that was killed may have left one: in a container the id is often the same.
  await removeQuietly(partial);
  await attempt(partial, () => Deno.mkdir(partial, { recursive: true }));
  try {
    const { carried, left } = await carriedFiles(source);
    await carryFiles(carried, partial, parameters.untied ?? false, options);
    await writeCheckpoint(source.checkpoint, partial, withDtype(parameters, options.saveDtype), options);
    await syncFolder(partial);
    await moveIntoPlace(partial, target, options.overwrite ?? false);
    return { left };
  } catch (error) {
    if (!options.keepPartial || !(error instanceof FileWriteError)) await removeQuietly(partial);
    throw error;
  }
}

async function checkTarget(sourceDir: string, target: string, overwrite: boolean): Promise<void> {
  await refuseSameFolder(sourceDir, target);
  const info = await statOrUndefined(target);
  if (info === undefined) return;
  if (!info.isDirectory) throw new ModelDirError(target, "cannot save here: it is a file");
  if (!overwrite) throw new ModelDirError(target, "cannot save here: the folder exists");
  if ((await Deno.realPath(sourceDir)).startsWith((await Deno.realPath(target)) + sep)) {
    throw new RangeError(`cannot replace ${target}: the weights are read from ${sourceDir} inside it`);
  }
  // Replacing removes everything in the folder: a mistyped path must not cost more than a model.
  const empty = (await Array.fromAsync(Deno.readDir(target))).length === 0;
  if (!empty && await statOrUndefined(join(target, "config.json")) === undefined) {
    throw new ModelDirError(target, "refusing to replace it: it is not a model folder (no config.json)");
  }
}

function withDtype(parameters: ParameterSource, saveDtype: FloatDtype | undefined): ParameterSource {
  if (saveDtype === undefined) return parameters;
  return {
    has: (name) => parameters.has(name),
    dtypeOf: () => saveDtype,
    read: (name, first, count) => parameters.read(name, first, count),
  };
}

/** Names of a checkpoint's files. */
function weightNames(checkpoint: Checkpoint): string[] {
  return [INDEX_FILE, ...checkpoint.files.map((file) => file.name)];
}

/** What a saved folder takes over from its source; see {@link findCarried}. */
export async function carriedFiles(source: { dir: string; checkpoint: Checkpoint }): Promise<CarriedFiles> {
  return await findCarried(source.dir, weightNames(source.checkpoint));
}

async function carryFiles(
  files: readonly CarriedFile[],
  partial: string,
  untied: boolean,
  options: SaveModelDirOptions,
): Promise<void> {
  for (const { name, from } of files) {
    options.signal?.throwIfAborted();
    const to = join(partial, name);
    await attempt(partial, () => Deno.mkdir(dirname(to), { recursive: true }));
    if (name === "config.json" && (options.saveDtype !== undefined || untied)) {
      await saveAtomic(to, changedConfig(await Deno.readTextFile(from), options.saveDtype, untied));
    } else {
      await copyFile(from, to);
    }
  }
}

/** Not Deno.copyFile: that copies the permissions too, and files in Hugging Face's cache may be read-only. */
async function copyFile(from: string, to: string): Promise<void> {
  using file = await Deno.open(from, { read: true });
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, Math.max(1, (await file.stat()).size)));
  await replaceFile(to, async (append) => {
    let count: number | null;
    while ((count = await file.read(buffer)) !== null) await append(buffer.subarray(0, count));
  });
}

function changedConfig(text: string, saveDtype: FloatDtype | undefined, untied: boolean): string {
  const typed = saveDtype === undefined ? text : configWithDtype(text, saveDtype);
  return untied ? untiedConfig(typed) : typed;
}

const DTYPE_NAMES: Record<FloatDtype, string> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/**
 * Replaces the stored type in a config.json, nested configurations included. Edits the text: parsing and printing
 * it again would turn 10000.0 into 10000 and so change a float to an integer for Python.
 */
export function configWithDtype(configText: string, dtype: FloatDtype): string {
  return configText.replace(
    /("(?:torch_)?dtype"\s*:\s*)(?:"(?:torch\.)?(?:float(?:16|32|64)|bfloat16|half|float|double)"|null)/g,
    `$1"${DTYPE_NAMES[dtype]}"`,
  );
}

/** Says in a config.json, nested configurations included, that the head isn't the embedding. Edits the text as well. */
export function untiedConfig(configText: string): string {
  const text = configText.replace(/("tie_word_embeddings"\s*:\s*)(?:true|null)/g, "$1false");
  const config = parseJson("config.json", new TextEncoder().encode(text), { nonFinite: true });
  if (isJsonObject(config) && config.tie_word_embeddings === false) return text;
  return text.replace(/\{(\s*)/, (_, space) => `{${space}"tie_word_embeddings": false,${space || " "}`);
}

async function moveIntoPlace(partial: string, target: string, overwrite: boolean): Promise<void> {
  const previous = `${target}.previous-${Deno.pid}`;
  const replaces = overwrite && await statOrUndefined(target) !== undefined;
  if (replaces) {
    await removeQuietly(previous);
    await attempt(target, () => Deno.rename(target, previous));
  }
  try {
    await attempt(target, () => Deno.rename(partial, target));
  } catch (error) {
    if (replaces) await attempt(target, () => Deno.rename(previous, target));
    throw error;
  }
  await syncFolder(dirname(target));
  if (!replaces) return;
  try {
    await Deno.remove(previous, { recursive: true });
  } catch (cause) {
    const reason = `saved, but the folder it replaces could not be removed: ${(cause as Error).message}`;
    throw new FileWriteError(join(dirname(target), basename(previous)), reason, undefined, { cause });
  }
}

async function statOrUndefined(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}
