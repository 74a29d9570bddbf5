import { join } from "node:path";
import { dtypeBytes } from "../tensor/dtype.ts";
import { type Append, attempt, replaceFile, saveAtomic } from "./atomic.ts";
import { elementsOf, encodeHeader } from "./safetensors_header.ts";

/** The file of a checkpoint that is not sharded. */
export const SINGLE_FILE = "model.safetensors";
/** The file that lists the shards of one that is. */
export const INDEX_FILE = "model.safetensors.index.json";

/** Most bytes of tensor data in a file: "5GB", the default of Hugging Face's save_pretrained. */
export const MAX_FILE_BYTES = 5e9;

/** What a header says of a tensor. */
export interface TensorHead {
  name: string;
  dtype: string;
  shape: readonly number[];
}

/** A safetensors file to be written, its tensors in the order of their data. */
export interface WeightFile<T extends TensorHead> {
  name: string;
  metadata: Record<string, string> | undefined;
  tensors: readonly T[];
}

/** All files of a checkpoint to be written; `index` is the content of `model.safetensors.index.json`, if it has one. */
export interface WeightFiles<T extends TensorHead> {
  files: readonly WeightFile<T>[];
  index: Uint8Array | undefined;
}

/** How far a save is; bytes count tensor data of all files. */
export interface SaveProgress {
  /** The file being written. */
  file: string;
  /** The tensor being written, by its name in the checkpoint. */
  tensor: string;
  /** Bytes written. */
  bytesDone: number;
  /** Bytes of all files. */
  bytesTotal: number;
}

/** Options of {@link writeWeightFiles}. */
export interface WriteOptions {
  /** Called after each piece that is written. */
  onProgress?: ((progress: SaveProgress) => void) | undefined;
  /** Stops between pieces; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Bytes of a tensor's data. */
export function tensorBytes({ dtype, shape }: TensorHead): number {
  return elementsOf(shape) * dtypeBytes(dtype);
}

/** Bytes of the data of all tensors. */
export function totalBytes(tensors: readonly TensorHead[]): number {
  return tensors.reduce((total, tensor) => total + tensorBytes(tensor), 0);
}

/**
 * Groups tensors, in order, into files of at most `maxFileBytes` of data. No tensor is split: one that is larger than
 * that has a file to itself (with empty tensors at most).
 *
 * @throws RangeError if `maxFileBytes` is not a positive number
 */
export function splitIntoFiles<T extends TensorHead>(tensors: readonly T[], maxFileBytes: number): T[][] {
  if (!(maxFileBytes > 0)) throw new RangeError(`maxFileBytes: expected more than 0, found ${maxFileBytes}`);
  const groups: T[][] = [[]];
  let filled = 0;
  for (const tensor of tensors) {
    const bytes = tensorBytes(tensor);
    if (bytes > 0 && filled > 0 && filled + bytes > maxFileBytes) {
      groups.push([]);
      filled = 0;
    }
    groups.at(-1)!.push(tensor);
    filled += bytes;
  }
  return groups;
}

/**
 * The files of a checkpoint that is written anew, as Hugging Face names them: `model.safetensors`, or where that would
 * hold more than `maxFileBytes`, `model-00001-of-0000n.safetensors` and so on with an index.
 *
 * @param metadata `__metadata__` of every file
 * @param indexMetadata fields of the index's `metadata` beside `total_size`
 * @throws RangeError as {@link splitIntoFiles}
 */
export function layOutFiles<T extends TensorHead>(
  tensors: readonly T[],
  metadata: Record<string, string>,
  maxFileBytes: number = MAX_FILE_BYTES,
  indexMetadata: Record<string, unknown> = {},
): WeightFiles<T> {
  const groups = splitIntoFiles(tensors, maxFileBytes);
  if (groups.length === 1) {
    return { files: [{ name: SINGLE_FILE, metadata, tensors }], index: undefined };
  }
  const five = (number: number) => String(number).padStart(5, "0");
  const files = groups.map((group, i) => ({
    name: `model-${five(i + 1)}-of-${five(groups.length)}.safetensors`,
    metadata,
    tensors: group,
  }));
  const places = files.flatMap(({ name, tensors }) => tensors.map((tensor) => [tensor.name, name] as const));
  places.sort(([a], [b]) => a < b ? -1 : 1);
  const index = {
    metadata: { ...indexMetadata, total_size: totalBytes(tensors) },
    weight_map: Object.fromEntries(places),
  };
  return { files, index: encodeIndex(index) };
}

/** An index as save_pretrained formats it. */
export function encodeIndex(index: Record<string, unknown>): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(index, null, 2) + "\n");
}

/**
 * Writes the files of a checkpoint, one after the other; each appears complete or not at all, the index last. A
 * `model.safetensors` or an index that was in the folder and would be taken for a part of this checkpoint is removed.
 *
 * @param dir an existing folder
 * @param produce appends the data of one tensor, in pieces as small as memory asks for
 * @throws RangeError if `produce` appends another number of bytes than the tensor has
 * @throws FileWriteError naming the file when the system refuses; whatever `produce` throws
 */
export async function writeWeightFiles<T extends TensorHead>(
  dir: string,
  { files, index }: WeightFiles<T>,
  produce: (tensor: T, append: Append) => Promise<void>,
  { onProgress, signal }: WriteOptions = {},
): Promise<void> {
  const bytesTotal = files.reduce((total, { tensors }) => total + totalBytes(tensors), 0);
  let bytesDone = 0;
  for (const { name: file, metadata, tensors } of files) {
    await replaceFile(join(dir, file), async (append) => {
      await append(encodeHeader(tensors, metadata));
      for (const tensor of tensors) {
        const expected = bytesDone + tensorBytes(tensor);
        await produce(tensor, async (bytes) => {
          signal?.throwIfAborted();
          await append(bytes);
          bytesDone += bytes.byteLength;
          onProgress?.({ file, tensor: tensor.name, bytesDone, bytesTotal });
        });
        if (bytesDone !== expected) {
          throw new RangeError(
            `tensor ${JSON.stringify(tensor.name)}: expected ${tensorBytes(tensor)} bytes, ` +
              `found ${tensorBytes(tensor) + bytesDone - expected}`,
          );
        }
      }
      signal?.throwIfAborted();
    });
  }
  if (index !== undefined) await saveAtomic(join(dir, INDEX_FILE), index);
  const written = new Set(files.map(({ name }) => name));
  if (index !== undefined && !written.has(SINGLE_FILE)) await removeStale(join(dir, SINGLE_FILE));
  if (index === undefined && written.has(SINGLE_FILE)) await removeStale(join(dir, INDEX_FILE));
}

async function removeStale(path: string): Promise<void> {
  await attempt(path, async () => {
    try {
      await Deno.remove(path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  });
}
