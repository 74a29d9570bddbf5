import type { Gpu } from "../gpu/context.ts";
import { readSlot } from "../gpu/transfer.ts";
import type { Checkpoint } from "../io/safetensors.ts";
import { dtypeBytes, isFloatDtype, narrow } from "../tensor/dtype.ts";
import { joinMaster, splitMaster } from "../tensor/split.ts";
import type { Parameter, Parameters, ParameterShard } from "./params.ts";

/** A checkpoint lacks a parameter, or has it with another shape or dtype than the config asks for. */
export class CheckpointMismatchError extends Error {
  override name = "CheckpointMismatchError";
  constructor(readonly tensor: string, message: string) {
    super(`tensor "${tensor}" ${message}`);
  }
}

/** How far loading is; bytes count the checkpoint's parameters as stored. */
export interface LoadProgress {
  bytesDone: number;
  bytesTotal: number;
}

/** Elements that travel from disk to the GPU at a time; even, so that pairs stay together. */
const PIECE_ELEMENTS = 1 << 20;

/** Written bytes after which the device is waited for: until then the implementation holds a copy of each write. */
const FLUSH_BYTES = 64 << 20;

/**
 * Streams all parameters from the checkpoint into GPU buffers, in bounded host memory; other tensors of the checkpoint
 * are ignored.
 * @throws CheckpointMismatchError before anything is allocated; OutOfMemoryError.
 */
export async function loadParameters(
  gpu: Gpu,
  parameters: Parameters,
  checkpoint: Checkpoint,
  onProgress?: (progress: LoadProgress) => void,
): Promise<void> {
  checkTensors(parameters, checkpoint);
  parameters.realize(gpu);
  const entries = parameters.all.map(({ name }) => checkpoint.tensors.get(name)!);
  const bytesTotal = entries.reduce((sum, { begin, end }) => sum + end - begin, 0);
  let bytesDone = 0;
  let unflushed = 0;
  const written = async (elements: number, bytes: number) => {
    unflushed += elements * 4;
    if (unflushed >= FLUSH_BYTES) {
      await gpu.flush();
      unflushed = 0;
    }
    bytesDone += bytes;
    onProgress?.({ bytesDone, bytesTotal });
  };
  for (const [i, { name, storage, shards }] of parameters.all.entries()) {
    const size = dtypeBytes(entries[i].dtype);
    for (const shard of shards) {
      const { firstElement, count } = shard;
      if (storage !== "f32" && entries[i].dtype === "BF16") {
        // The upper plane is the stored bytes; lower planes begin as zeros, as all buffers do.
        await checkpoint.streamBytes(name, PIECE_ELEMENTS * 2, async (bytes, firstByte) => {
          writePadded(gpu, shard, firstByte / 2, bytes);
          await written(bytes.byteLength / 2, bytes.byteLength);
        }, { firstByte: firstElement * 2, bytes: count * 2 });
      } else {
        await checkpoint.stream(name, PIECE_ELEMENTS, async (values, first) => {
          writeValues(gpu, shard, first, values);
          await written(values.length, values.length * size);
        }, { firstElement, elements: count });
      }
    }
  }
  await gpu.flush();
}

function checkTensors(parameters: Parameters, checkpoint: Checkpoint): void {
  for (const { name, shape } of parameters.all) {
    const entry = checkpoint.tensors.get(name);
    if (!entry) throw new CheckpointMismatchError(name, "is missing from the checkpoint");
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

/** Writes f32 numbers from the tensor's element `first` on, as the shard stores them. */
function writeValues(
  gpu: Gpu,
  shard: ParameterShard,
  first: number,
  values: Float32Array<ArrayBuffer>,
): void {
  if (shard.storage === "f32") {
    gpu.write(shard.weight.buffer, values, (first - shard.firstElement) * 4);
  } else if (shard.storage === "bf16") {
    writePadded(gpu, shard, first, narrow("BF16", values));
  } else {
    const [upper, lower] = [new Uint16Array(values.length), new Int16Array(values.length)];
    splitMaster(values, upper, lower);
    writePadded(gpu, shard, first, new Uint8Array(upper.buffer));
    writePadded(gpu, shard, first, new Uint8Array(lower.buffer), shard.lower);
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
