import type { Gpu } from "../gpu/context.ts";
import { readSlot, submitWrites } from "../gpu/transfer.ts";
import type { Checkpoint, TensorEntry } from "../io/safetensors.ts";
import { bytesOf, dtypeBytes, type FloatDtype, isFloatDtype, narrow, widen } from "../tensor/dtype.ts";
import { joinMaster, splitMaster } from "../tensor/split.ts";
import { areFinite, NonFiniteWeightsError } from "./finite.ts";
import type { Parameter, Parameters, ParameterShard } from "./parameters.ts";

/** A checkpoint lacks a parameter, or has it with another shape or dtype than the config asks for. */
export class CheckpointMismatchError extends Error {
  /** Always "CheckpointMismatchError". */
  override name = "CheckpointMismatchError";
  /** `tensor` is the parameter's name in the checkpoint. */
  constructor(readonly tensor: string, message: string) {
    super(`tensor "${tensor}" ${message}`);
  }
}

/** How far loading is; bytes count the checkpoint's parameters as stored. */
export interface LoadProgress {
  /** Bytes in GPU memory. */
  bytesDone: number;
  /** Bytes of all parameters. */
  bytesTotal: number;
}

/** Elements that travel from disk to the GPU at a time; even, so that pairs stay together. */
const PIECE_ELEMENTS = 1 << 20;

/**
 * The implementation holds a copy of each write until the device has taken it. After so many bytes the device is told to
 * begin, and after so many it is waited for, which takes 11 ms at least: on 2 cores of lavapipe 1.3 GB/s are written,
 * 1.0 when each 64 MiB are waited for.
 */
const SUBMIT_BYTES = 16 << 20;
const FLUSH_BYTES = 256 << 20;

/** Elements of a shard that are read at once. */
interface Piece {
  shard: ParameterShard;
  entry: TensorEntry & { dtype: FloatDtype };
  /** The tensor's element that is the first here. */
  first: number;
  count: number;
}

/**
 * Streams all parameters from the checkpoint into GPU buffers, in bounded host memory; other tensors of the checkpoint
 * are ignored. The next piece is read while one is converted and written.
 * @throws CheckpointMismatchError before anything is allocated; OutOfMemoryError; NonFiniteWeightsError.
 */
export async function loadParameters(
  gpu: Gpu,
  parameters: Parameters,
  checkpoint: Checkpoint,
  onProgress?: (progress: LoadProgress) => void,
): Promise<void> {
  checkTensors(parameters, checkpoint);
  parameters.realize(gpu);
  const pieces = piecesOf(parameters, checkpoint);
  const sizeOf = ({ entry, count }: Piece) => count * dtypeBytes(entry.dtype);
  const bytesTotal = pieces.reduce((sum, piece) => sum + sizeOf(piece), 0);
  let bytesDone = 0;
  let written = 0;
  const largest = pieces.reduce((most, piece) => Math.max(most, sizeOf(piece)), 0);
  const buffers = [new Uint8Array(largest), new Uint8Array(largest)];
  const scratch = new Scratch();
  const read = async (index: number) => {
    const { entry: { name, dtype }, first } = pieces[index]!;
    const bytes = buffers[index % 2]!.subarray(0, sizeOf(pieces[index]!));
    await checkpoint.readInto(name, first * dtypeBytes(dtype), bytes);
    return bytes;
  };
  let next: Promise<Uint8Array<ArrayBuffer>> | undefined;
  try {
    for (const [index, piece] of pieces.entries()) {
      const bytes = await (next ?? read(index));
      next = index + 1 < pieces.length ? read(index + 1) : undefined;
      // Until it is awaited, a failure must not count as one that nobody handles.
      next?.catch(() => {});
      if (!areFinite(piece.entry.dtype, bytes)) throw nonFinite(piece, bytes);
      writePiece(gpu, piece, bytes, scratch);
      const before = written;
      written += piece.count * 4;
      const passes = (stride: number) => Math.floor(before / stride) < Math.floor(written / stride);
      if (passes(FLUSH_BYTES)) await gpu.flush();
      else if (passes(SUBMIT_BYTES)) submitWrites(gpu);
      bytesDone += bytes.byteLength;
      onProgress?.({ bytesDone, bytesTotal });
    }
  } finally {
    // Whoever closes the checkpoint after an error must not find a read going on.
    await next?.catch(() => {});
  }
  await gpu.flush();
}

/** Names the first element of a piece that isn't finite. */
function nonFinite({ entry, first, count }: Piece, bytes: Uint8Array<ArrayBuffer>): NonFiniteWeightsError {
  const values = widen(entry.dtype, bytes, new Float32Array(count));
  const at = values.findIndex((value) => !Number.isFinite(value));
  return new NonFiniteWeightsError(entry.name, entry.file, first + at, values[at]!);
}

function piecesOf(parameters: Parameters, checkpoint: Checkpoint): Piece[] {
  return parameters.all.flatMap(({ name, shards }) => {
    const entry = checkpoint.tensors.get(name) as Piece["entry"];
    return shards.flatMap((shard) => {
      const { firstElement, count } = shard;
      return Array.from({ length: Math.ceil(count / PIECE_ELEMENTS) }, (_, i): Piece => ({
        shard,
        entry,
        first: firstElement + i * PIECE_ELEMENTS,
        count: Math.min(PIECE_ELEMENTS, count - i * PIECE_ELEMENTS),
      }));
    });
  });
}

function checkTensors(parameters: Parameters, checkpoint: Checkpoint): void {
  for (const { name, shape } of parameters.all) {
    const entry = checkpoint.tensors.get(name);
    if (!entry) {
      const file = checkpoint.absent.get(name);
      const where = file ? `, though its index places it in ${file}` : "";
      throw new CheckpointMismatchError(name, `is missing from the checkpoint${where}`);
    }
    if (entry.shape.join() !== shape.join()) {
      throw new CheckpointMismatchError(
        name,
        `has shape [${entry.shape}], but config.json gives [${shape}]`,
      );
    }
    if (!isFloatDtype(entry.dtype)) {
      throw new CheckpointMismatchError(name, `has dtype ${entry.dtype}, expected F32, F16 or BF16`);
    }
  }
}

/** Calls `visit` with the parts of the elements `first` … by shard: (shard, first element of the tensor, count). */
function forShards(
  { shards }: Parameter,
  first: number,
  count: number,
  visit: (shard: ParameterShard, first: number, count: number) => void,
): void {
  for (const shard of shards) {
    const begin = Math.max(first, shard.firstElement);
    const end = Math.min(first + count, shard.firstElement + shard.count);
    if (begin < end) visit(shard, begin, end - begin);
  }
}

/** Host memory of conversions, made when it is first needed. */
class Scratch {
  #values: Float32Array<ArrayBuffer> | undefined;
  #halves: [Uint16Array<ArrayBuffer>, Int16Array<ArrayBuffer>] | undefined;

  values(count: number): Float32Array<ArrayBuffer> {
    return (this.#values ??= new Float32Array(PIECE_ELEMENTS)).subarray(0, count);
  }

  halves(count: number): [Uint16Array<ArrayBuffer>, Int16Array<ArrayBuffer>] {
    this.#halves ??= [new Uint16Array(PIECE_ELEMENTS), new Int16Array(PIECE_ELEMENTS)];
    const [upper, lower] = this.#halves;
    return [upper.subarray(0, count), lower.subarray(0, count)];
  }
}

/** Writes a piece as its shard stores it. `bytes` begin their buffer. */
function writePiece(
  gpu: Gpu,
  { shard, entry: { dtype }, first, count }: Piece,
  bytes: Uint8Array<ArrayBuffer>,
  scratch: Scratch,
): void {
  // The upper plane is the stored bytes; lower planes begin as zeros, as all buffers do.
  if (shard.storage !== "f32" && dtype === "BF16") return writePadded(gpu, shard, first, bytes);
  const values = dtype === "F32"
    ? new Float32Array(bytes.buffer, 0, count)
    : widen(dtype, bytes, scratch.values(count));
  if (shard.storage === "f32") {
    gpu.write(shard.weight.buffer, values, (first - shard.firstElement) * 4);
  } else if (shard.storage === "bf16") {
    writePadded(gpu, shard, first, narrow("BF16", values, bytesOf(scratch.halves(count)[0])));
  } else {
    const [upper, lower] = scratch.halves(count);
    splitMaster(values, upper, lower);
    writePadded(gpu, shard, first, bytesOf(upper));
    writePadded(gpu, shard, first, bytesOf(lower), shard.lower);
  }
}

/** Writes 16-bit elements from the tensor's element `first` (even inside its shard) on. */
function writePadded(
  gpu: Gpu,
  shard: ParameterShard,
  first: number,
  bytes: Uint8Array,
  plane = shard.weight,
): void {
  let whole = bytes as Uint8Array<ArrayBuffer>;
  if (bytes.byteLength % 4) {
    whole = new Uint8Array(bytes.byteLength + 2);
    whole.set(bytes);
  }
  gpu.write(plane.buffer, whole, (first - shard.firstElement) * 2);
}

/** Reads `count` elements from `first` on, f32: the master where there is one. */
export async function readParameter(
  gpu: Gpu,
  parameter: Parameter,
  first = 0,
  count: number = parameter.count - first,
): Promise<Float32Array> {
  const out = new Float32Array(count);
  const parts: [ParameterShard, number, number][] = [];
  forShards(parameter, first, count, (...part) => parts.push(part));
  for (const [shard, begin, length] of parts) {
    const inside = begin - shard.firstElement;
    if (shard.storage === "f32") {
      const bytes = await readSlot(gpu, shard.weight, inside * 4, length * 4);
      out.set(new Float32Array(bytes.buffer), begin - first);
      continue;
    }
    // Copies begin at whole words.
    const odd = inside % 2;
    const bytes = Math.ceil((odd + length) / 2) * 4;
    const upper = await readSlot(gpu, shard.weight, (inside - odd) * 2, bytes);
    const lower = shard.lower ? await readSlot(gpu, shard.lower, (inside - odd) * 2, bytes) : undefined;
    const values = joinMaster(new Uint16Array(upper.buffer), lower && new Int16Array(lower.buffer));
    out.set(values.subarray(odd, odd + length), begin - first);
  }
  return out;
}
