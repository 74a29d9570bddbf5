import { join } from "node:path";
import { dtypeBytes, type FloatDtype, isFloatDtype, narrow } from "../tensor/dtype.ts";
import { type Append, replaceFile, saveAtomic } from "./atomic.ts";
import { isJsonObject, parseJson } from "./json_file.ts";
import { type Checkpoint, type CheckpointFile, elementsOf, INDEX_FILE, PIECE_BYTES } from "./safetensors.ts";
import { encodeHeader, SafetensorsError, type TensorEntry } from "./safetensors_header.ts";

/** The new values of a checkpoint's parameters. Names and flat row-major order are the checkpoint's. */
export interface ParameterSource {
  /** Whether this source replaces the tensor. One that it does not replace is copied as stored. */
  has(name: string): boolean;
  /** Type to store a replaced tensor in; undefined = as in the checkpoint it replaces. */
  dtypeOf?(name: string): FloatDtype | undefined;
  /** `count` values from flat index `firstElement`. The array may be reused after the next call. */
  read(name: string, firstElement: number, count: number): Promise<Float32Array>;
}

/** How far a save is; bytes count tensor data of all files. */
export interface SaveProgress {
  file: string;
  tensor: string;
  bytesDone: number;
  bytesTotal: number;
}

/** Options of {@link writeCheckpoint}. */
export interface WriteCheckpointOptions {
  /** Called after each piece of at most {@link PIECE_BYTES} bytes. */
  onProgress?: (progress: SaveProgress) => void;
  /** Stops between pieces; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/**
 * Writes a checkpoint with the files, tensor order, names, shapes and metadata of `source`, its parameters taken
 * from `parameters` and all other tensors copied as stored. Each file appears complete or not at all; files
 * finished before an error stay (`saveModelDir` is all or nothing).
 *
 * @param targetDir an existing folder, not that of `source`
 * @throws RangeError if `read` gives another number of values than asked for, or a finite value is too large for
 * its 16-bit type
 * @throws FileWriteError naming the file when the system refuses
 */
export async function writeCheckpoint(
  source: Checkpoint,
  targetDir: string,
  parameters: ParameterSource,
  options: WriteCheckpointOptions = {},
): Promise<void> {
  await refuseSameFolder(source.dir, targetDir);
  const plans = source.files.map((file) => ({ file, tensors: planFile(file, parameters) }));
  const bytesTotal = sum(plans.flatMap(({ tensors }) => tensors.map((tensor) => tensor.bytes)));
  let bytesDone = 0;
  for (const { file, tensors } of plans) {
    await replaceFile(join(targetDir, file.name), async (append) => {
      // Hugging Face Transformers refuses a file that does not say which framework's layout it has.
      await append(
        encodeHeader(tensors, { ...(file.metadata ?? {}), format: file.metadata?.format ?? "pt" }),
      );
      for (const tensor of tensors) {
        await writeTensor(source, parameters, tensor, async (bytes) => {
          options.signal?.throwIfAborted();
          await append(bytes);
          bytesDone += bytes.byteLength;
          options.onProgress?.({ file: file.name, tensor: tensor.name, bytesDone, bytesTotal });
        });
      }
      options.signal?.throwIfAborted();
    });
  }
  if (source.indexBytes !== undefined) {
    const resized = plans.some(({ tensors }) =>
      tensors.some((tensor) => tensor.dtype !== tensor.stored.dtype)
    );
    const index = resized ? withTotalSize(source, bytesTotal) : source.indexBytes;
    await saveAtomic(join(targetDir, INDEX_FILE), index);
  }
}

/** A tensor given whole, for {@link writeSafetensors}. */
export interface NewTensor {
  name: string;
  dtype: FloatDtype;
  shape: readonly number[];
  values: Float32Array;
}

/**
 * Writes a small safetensors file whole, atomically, tensors in the order given.
 *
 * @param metadata `__metadata__`; by default `{ format: "pt" }`, which Hugging Face Transformers needs
 * @throws RangeError if a name repeats, a shape does not fit its values or a value is too large for its type
 * @throws FileWriteError naming `path`
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly NewTensor[],
  metadata: Record<string, string> = { format: "pt" },
): Promise<void> {
  const names = new Set<string>();
  for (const { name, shape, values } of tensors) {
    if (names.has(name) || name === "__metadata__") {
      throw new RangeError(`${path}: the tensor name ${JSON.stringify(name)} is taken`);
    }
    names.add(name);
    if (
      shape.some((size) => !Number.isSafeInteger(size) || size < 0) || elementsOf(shape) !== values.length
    ) {
      throw new RangeError(
        `${path}: tensor ${JSON.stringify(name)}: shape [${shape}] does not fit ${values.length} values`,
      );
    }
  }
  await replaceFile(path, async (append) => {
    await append(encodeHeader(tensors, metadata));
    for (const { name, dtype, values } of tensors) await append(narrowChecked(name, dtype, values, 0));
  });
}

/** Throws RangeError if two paths are one folder. A path that does not exist equals none. */
export async function refuseSameFolder(source: string, target: string): Promise<void> {
  let real: string;
  try {
    real = await Deno.realPath(target);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return;
    throw error;
  }
  if (real === await Deno.realPath(source)) {
    throw new RangeError(`cannot save into ${target}: it is the folder that the weights are read from`);
  }
}

interface PlannedTensor {
  name: string;
  dtype: string;
  shape: number[];
  bytes: number;
  stored: TensorEntry;
  replaced: boolean;
}

function planFile(file: CheckpointFile, parameters: ParameterSource): PlannedTensor[] {
  return file.entries.map((stored) => {
    const { name, shape } = stored;
    const replaced = parameters.has(name);
    const dtype = (replaced ? parameters.dtypeOf?.(name) : undefined) ?? stored.dtype;
    if (replaced && !isFloatDtype(dtype)) {
      throw new SafetensorsError(
        file.path,
        `parameter ${JSON.stringify(name)} is stored as ${dtype}, not as floats`,
      );
    }
    return { name, dtype, shape, bytes: elementsOf(shape) * dtypeBytes(dtype), stored, replaced };
  });
}

async function writeTensor(
  source: Checkpoint,
  parameters: ParameterSource,
  { name, dtype, shape, replaced }: PlannedTensor,
  append: Append,
): Promise<void> {
  if (!replaced) return await source.streamBytes(name, PIECE_BYTES, append);
  const elements = elementsOf(shape);
  const piece = PIECE_BYTES / 4;
  const buffer = new Uint8Array(Math.min(piece, elements) * dtypeBytes(dtype));
  for (let first = 0; first < elements; first += piece) {
    const count = Math.min(piece, elements - first);
    const values = await parameters.read(name, first, count);
    if (values.length !== count) {
      throw new RangeError(
        `parameter ${JSON.stringify(name)}: expected ${count} values from ${first}, found ${values.length}`,
      );
    }
    await append(narrowChecked(name, dtype as FloatDtype, values, first, buffer));
  }
}

/** Narrows, but refuses to turn a finite value into infinity: the saved model would be broken without a word. */
function narrowChecked(
  name: string,
  dtype: FloatDtype,
  values: Float32Array,
  first: number,
  out?: Uint8Array,
): Uint8Array {
  const bytes = narrow(dtype, values, out);
  if (dtype === "F32") return bytes;
  const infinity = dtype === "F16" ? 0x7c00 : 0x7f80;
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, values.length);
  for (let i = 0; i < halves.length; i++) {
    if ((halves[i] & 0x7fff) === infinity && Number.isFinite(values[i])) {
      throw new RangeError(
        `tensor ${JSON.stringify(name)}: value ${values[i]} at element ${
          first + i
        } is too large for ${dtype}`,
      );
    }
  }
  return bytes;
}

function withTotalSize(source: Checkpoint, totalSize: number): Uint8Array {
  const index = parseJson(join(source.dir, INDEX_FILE), source.indexBytes!) as Record<string, unknown>;
  index.metadata = { ...(isJsonObject(index.metadata) ? index.metadata : {}), total_size: totalSize };
  return new TextEncoder().encode(JSON.stringify(index, null, 2) + "\n");
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
