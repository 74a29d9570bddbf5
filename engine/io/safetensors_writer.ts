import { join } from "node:path";
import { dtypeBytes, type FloatDtype, isFloatDtype, narrow } from "../tensor/dtype.ts";
import { type Append, replaceFile } from "./atomic.ts";
import { isJsonObject, parseJson } from "./json.ts";
import { type Checkpoint, type CheckpointFile, PIECE_BYTES } from "./safetensors.ts";
import { elementsOf, encodeHeader, SafetensorsError } from "./safetensors_header.ts";
import {
  encodeIndex,
  INDEX_FILE,
  layOutFiles,
  MAX_FILE_BYTES,
  splitIntoFiles,
  type TensorHead,
  totalBytes,
  type WeightFile,
  type WeightFiles,
  type WriteOptions,
  writeWeightFiles,
} from "./weight_files.ts";

/** The new values of a checkpoint's parameters. Names and flat row-major order are the checkpoint's. */
export interface ParameterSource {
  /** Whether this source replaces the tensor. One that it does not replace is copied as stored. */
  has(name: string): boolean;
  /** The head isn't the embedding, whatever config.json says. */
  untied?: boolean;
  /** Type to store a replaced tensor in; undefined = as in the checkpoint it replaces. */
  dtypeOf?(name: string): FloatDtype | undefined;
  /** `count` values from flat index `firstElement`. The array may be reused after the next call. */
  read(name: string, firstElement: number, count: number): Promise<Float32Array>;
}

/** Options of {@link writeCheckpoint}. */
export interface WriteCheckpointOptions extends WriteOptions {
  /** Most bytes of tensor data in a file; 5 GB by default. */
  maxFileBytes?: number | undefined;
}

/**
 * Writes a checkpoint with the tensor names, shapes and metadata of `source`, its parameters taken from `parameters`
 * and all other tensors copied as stored. The files are those of `source`, tensors in the same order; if one of them
 * would be larger than `maxFileBytes`, all are written anew in pieces `model-00001-of-0000n.safetensors` with an
 * index. Each file appears complete or not at all; files finished before an error stay (`saveModelDir` is all or
 * nothing). Host memory is a few times {@link PIECE_BYTES}, whatever the size.
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
  { maxFileBytes = MAX_FILE_BYTES, ...options }: WriteCheckpointOptions = {},
): Promise<void> {
  await refuseSameFolder(source.dir, targetDir);
  const files = planFiles(source, parameters, maxFileBytes);
  await writeWeightFiles(targetDir, files, async (tensor, append) => {
    await writeTensor(source, parameters, tensor, append);
  }, options);
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

interface PlannedTensor extends TensorHead {
  /** Whether the parameters have it, and so whether it isn't copied. */
  replaced: boolean;
}

function planFiles(
  source: Checkpoint,
  parameters: ParameterSource,
  maxFileBytes: number,
): WeightFiles<PlannedTensor> {
  const files = source.files.map((file) => planFile(file, parameters));
  const index = source.indexBytes && parseJson(join(source.dir, INDEX_FILE), source.indexBytes);
  const fields = isJsonObject(index) ? index : {};
  const indexMetadata = isJsonObject(fields.metadata) ? fields.metadata : {};
  if (files.some(({ tensors }) => splitIntoFiles(tensors, maxFileBytes).length > 1)) {
    // An index lists tensors by name, so its files come in no order; their own names do.
    const ordered = files.toSorted((a, b) => a.name < b.name ? -1 : 1);
    const metadata = Object.assign({}, ...ordered.map((file) => file.metadata));
    // A tensor may lie in two files, but not twice in one.
    const once = new Map(ordered.flatMap(({ tensors }) => tensors.map((tensor) => [tensor.name, tensor])));
    return layOutFiles([...once.values()], metadata, maxFileBytes, indexMetadata);
  }
  const tensors = files.flatMap((file) => file.tensors);
  if (tensors.every(({ name, dtype }) => dtype === source.tensors.get(name)!.dtype)) {
    return { files, index: source.indexBytes };
  }
  const resized = { ...fields, metadata: { ...indexMetadata, total_size: totalBytes(tensors) } };
  return { files, index: source.indexBytes && encodeIndex(resized) };
}

function planFile(file: CheckpointFile, parameters: ParameterSource): WeightFile<PlannedTensor> {
  const tensors = file.entries.map(({ name, shape, dtype: stored }) => {
    const replaced = parameters.has(name);
    const dtype = (replaced ? parameters.dtypeOf?.(name) : undefined) ?? stored;
    if (replaced && !isFloatDtype(dtype)) {
      throw new SafetensorsError(
        file.path,
        `parameter ${JSON.stringify(name)} is stored as ${dtype}, not as floats`,
      );
    }
    return { name, dtype, shape, replaced };
  });
  // Hugging Face Transformers refuses a file that does not say which framework's layout it has.
  const metadata = { ...(file.metadata ?? {}), format: file.metadata?.format ?? "pt" };
  return { name: file.name, metadata, tensors };
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
    if ((halves[i]! & 0x7fff) === infinity && Number.isFinite(values[i])) {
      throw new RangeError(
        `tensor ${JSON.stringify(name)}: value ${values[i]} at element ${
          first + i
        } is too large for ${dtype}`,
      );
    }
  }
  return bytes;
}
