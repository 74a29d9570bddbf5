import { basename, join } from "node:path";
import { dtypeBytes, FLOAT_DTYPES, isFloatDtype, widen } from "../tensor/dtype.ts";
import { describeJson, isJsonObject, parseJson, readJsonBytes } from "./json.ts";
import { Shard } from "./safetensors_file.ts";
import { elementsOf, SafetensorsError, type TensorEntry } from "./safetensors_header.ts";
import { INDEX_FILE, SINGLE_FILE } from "./weight_files.ts";

export { elementsOf, SafetensorsError, type TensorEntry } from "./safetensors_header.ts";

/** Host bytes that reading or writing a tensor holds at a time. */
export const PIECE_BYTES = 8 * 1024 * 1024;

/** One file of a checkpoint. */
export interface CheckpointFile {
  path: string;
  /** File name inside the checkpoint's folder. */
  name: string;
  /** `__metadata__`; undefined if the file has none. */
  metadata: Record<string, string> | undefined;
  /** In the order of the data. */
  entries: readonly TensorEntry[];
}

/**
 * The tensors of a safetensors checkpoint, on disk: headers are read and checked when it is opened, data only
 * when asked for. Reads may run at the same time. Close it (or declare it with `using`) when done.
 */
export class Checkpoint {
  readonly #shards: ReadonlyMap<string, Shard>;
  /** By Hugging Face name, file after file, each in the order of its data. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly files: readonly CheckpointFile[];
  /** Tensors that the index names and no file has, by the file that it places them in. */
  readonly absent: ReadonlyMap<string, string>;

  private constructor(
    /** The folder that holds the files. */
    readonly dir: string,
    shards: Shard[],
    /** Content of `model.safetensors.index.json`; undefined if the checkpoint is not sharded. */
    readonly indexBytes: Uint8Array | undefined,
    weightMap: ReadonlyMap<string, string> = new Map(),
  ) {
    const tensors = new Map<string, TensorEntry>();
    for (const entry of shards.flatMap(({ header }) => header.entries)) {
      if (!tensors.has(entry.name)) tensors.set(entry.name, entry);
    }
    this.tensors = tensors;
    this.absent = new Map([...weightMap].filter(([name]) => !tensors.has(name)));
    this.#shards = new Map(shards.map((shard) => [shard.path, shard]));
    this.files = shards.map(({ path, header }) => ({
      path,
      name: basename(path),
      metadata: header.metadata,
      entries: header.entries,
    }));
  }

  /**
   * Opens `model.safetensors` of a folder, or else the shards of `model.safetensors.index.json`. As in Transformers, the
   * shards say what there is: an index may name tensors that none has, or place them in another.
   *
   * @throws SafetensorsError if there is neither, a file is malformed or missing, or two differ in a tensor that both have
   * @throws JsonFileError if the index can't be read or is not JSON
   */
  static async open(dir: string): Promise<Checkpoint> {
    if (await isFile(join(dir, SINGLE_FILE))) return await Checkpoint.openFile(join(dir, SINGLE_FILE));
    const indexPath = join(dir, INDEX_FILE);
    if (!await isFile(indexPath)) throw new SafetensorsError(dir, await missingReason(dir));
    const indexBytes = await readJsonBytes(indexPath);
    const weightMap = parseIndex(indexPath, indexBytes);
    const shards: Shard[] = [];
    try {
      for (const name of new Set(weightMap.values())) {
        const path = join(dir, name);
        if (!await isFile(path)) {
          const [tensor] = [...weightMap].find(([_, file]) => file === name)!;
          throw new SafetensorsError(
            indexPath,
            `weight_map[${JSON.stringify(tensor)}]: expected the shard ${JSON.stringify(name)} in the same ` +
              `folder, found no such file`,
          );
        }
        shards.push(await Shard.open(path));
      }
      await checkDuplicates(shards);
      return new Checkpoint(dir, shards, indexBytes, weightMap);
    } catch (error) {
      for (const shard of shards) shard.close();
      throw error;
    }
  }

  /** Opens one safetensors file of any name. Throws SafetensorsError. */
  static async openFile(path: string): Promise<Checkpoint> {
    return new Checkpoint(join(path, ".."), [await Shard.open(path)], undefined);
  }

  /**
   * Reads a tensor or a part of it in pieces, widened to f32, in order. `values` is overwritten by the next piece:
   * `onPiece` must be done with it when it returns, or when its promise resolves.
   *
   * @param pieceElements most elements of a piece; host memory is at most 6 bytes for each
   * @param onPiece gets the values and the index of the first in the flat tensor; not called for an empty one
   * @param part the elements to read; by default all
   * @throws SafetensorsError if there is no such tensor, it is not F32, F16 or BF16, or the file has shrunk
   * @throws RangeError if `part` is not inside the tensor
   */
  async stream(
    name: string,
    pieceElements: number,
    onPiece: (values: Float32Array<ArrayBuffer>, firstElement: number) => void | Promise<void>,
    part: { firstElement?: number | undefined; elements?: number | undefined } = {},
  ): Promise<void> {
    const { dtype, shape, file } = this.#entry(name);
    if (!isFloatDtype(dtype)) {
      throw new SafetensorsError(
        file,
        `tensor ${JSON.stringify(name)} is ${dtype}: only ${FLOAT_DTYPES.join(", ")} can be read as numbers`,
      );
    }
    checkPiece("pieceElements", pieceElements);
    const { first, count } = checkPart(name, "elements", elementsOf(shape), part.firstElement, part.elements);
    const size = dtypeBytes(dtype);
    const values = new Float32Array(Math.min(pieceElements, count));
    const stored = dtype === "F32" ? new Uint8Array(values.buffer) : new Uint8Array(values.length * size);
    await this.#pieces(name, stored, first * size, count * size, (bytes, at) => {
      const piece = dtype === "F32"
        ? values.subarray(0, bytes.byteLength / size)
        : widen(dtype, bytes, values);
      return onPiece(piece, at / size);
    });
  }

  /**
   * Reads a tensor of any dtype, or a part of it, as stored, in pieces that are overwritten as in {@link stream}.
   *
   * @param pieceBytes most bytes of a piece; all but the last have as many, and each begins its buffer
   * @param onPiece gets the bytes and where in the tensor the first lies; not called for an empty one
   * @param part the bytes to read; by default all
   * @throws SafetensorsError if there is no such tensor or the file has shrunk
   * @throws RangeError if `part` is not inside the tensor
   */
  async streamBytes(
    name: string,
    pieceBytes: number,
    onPiece: (bytes: Uint8Array<ArrayBuffer>, firstByte: number) => void | Promise<void>,
    part: { firstByte?: number | undefined; bytes?: number | undefined } = {},
  ): Promise<void> {
    checkPiece("pieceBytes", pieceBytes);
    const { begin, end } = this.#entry(name);
    const { first, count } = checkPart(name, "bytes", end - begin, part.firstByte, part.bytes);
    await this.#pieces(name, new Uint8Array(Math.min(pieceBytes, count)), first, count, onPiece);
  }

  /** Fills `bytes` with a tensor's stored bytes from its byte `first` on. Throws as {@link streamBytes} does. */
  async readInto(name: string, first: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const { begin, end, file } = this.#entry(name);
    checkPart(name, "bytes", end - begin, first, bytes.byteLength);
    await this.#shards.get(file)!.read(name, begin + first, bytes);
  }

  /** Reads a whole tensor, widened to f32. Throws as {@link stream} does. */
  async read(name: string): Promise<Float32Array> {
    const result = new Float32Array(elementsOf(this.#entry(name).shape));
    await this.stream(name, PIECE_BYTES / 4, (values, first) => result.set(values, first));
    return result;
  }

  /** Reads a whole tensor of any dtype as stored. */
  async readBytes(name: string): Promise<Uint8Array> {
    const { begin, end } = this.#entry(name);
    const result = new Uint8Array(end - begin);
    await this.#pieces(name, result, 0, result.byteLength, () => {});
    return result;
  }

  /** Closes the files. Later reads throw; closing again does nothing. */
  close(): void {
    for (const shard of this.#shards.values()) shard.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #entry(name: string): TensorEntry {
    const entry = this.tensors.get(name);
    if (entry === undefined) {
      const where = this.files.length === 1 ? this.files[0]!.path : this.dir;
      throw new SafetensorsError(where, `has no tensor ${JSON.stringify(name)}`);
    }
    return entry;
  }

  /** Reads `count` bytes of a tensor from its byte `first` on, as many at a time as `buffer` holds. */
  async #pieces(
    name: string,
    buffer: Uint8Array<ArrayBuffer>,
    first: number,
    count: number,
    onPiece: (bytes: Uint8Array<ArrayBuffer>, firstByte: number) => void | Promise<void>,
  ): Promise<void> {
    const { file, begin } = this.#entry(name);
    const shard = this.#shards.get(file)!;
    for (let done = 0; done < count; done += buffer.byteLength) {
      const bytes = buffer.subarray(0, Math.min(buffer.byteLength, count - done));
      await shard.read(name, begin + first + done, bytes);
      await onPiece(bytes, first + done);
    }
  }
}

function parseIndex(path: string, bytes: Uint8Array): Map<string, string> {
  const index = parseJson(path, bytes);
  const map = isJsonObject(index) ? index.weight_map : undefined;
  if (!isJsonObject(map) || Object.keys(map).length === 0) {
    throw new SafetensorsError(
      path,
      `expected weight_map to name a file a tensor, found ${describeJson(map)}`,
    );
  }
  for (const [tensor, file] of Object.entries(map)) {
    // Only plain names: a checkpoint from elsewhere must not make us read, or later write, outside its folder.
    if (typeof file !== "string" || !/^[^/\\:\0]+$/.test(file) || file === "." || file === "..") {
      throw new SafetensorsError(
        path,
        `weight_map[${JSON.stringify(tensor)}]: expected the name of a file in the same folder, ` +
          `found ${describeJson(file)}`,
      );
    }
  }
  return new Map(Object.entries(map as Record<string, string>));
}

/** A tensor and its file. */
interface Placed {
  shard: Shard;
  entry: TensorEntry;
}

/** Shards may have a tensor in common only if it is the same in both. */
async function checkDuplicates(shards: readonly Shard[]): Promise<void> {
  const seen = new Map<string, Placed>();
  for (const shard of shards) {
    for (const entry of shard.header.entries) {
      const other = seen.get(entry.name);
      if (other === undefined) seen.set(entry.name, { shard, entry });
      else if (!await areSame(other, { shard, entry })) {
        throw new SafetensorsError(
          shard.path,
          `tensor ${JSON.stringify(entry.name)} is also in ${other.entry.file}, with other content`,
        );
      }
    }
  }
}

async function areSame(a: Placed, b: Placed): Promise<boolean> {
  if (a.entry.dtype !== b.entry.dtype || a.entry.shape.join() !== b.entry.shape.join()) return false;
  const size = a.entry.end - a.entry.begin;
  const first = new Uint8Array(Math.min(PIECE_BYTES, size));
  const second = first.slice();
  for (let done = 0; done < size; done += PIECE_BYTES) {
    const count = Math.min(PIECE_BYTES, size - done);
    const one = first.subarray(0, count);
    const other = second.subarray(0, count);
    await a.shard.read(a.entry.name, a.entry.begin + done, one);
    await b.shard.read(b.entry.name, b.entry.begin + done, other);
    if (one.some((byte, i) => byte !== other[i])) return false;
  }
  return true;
}

async function missingReason(dir: string): Promise<string> {
  try {
    if (!(await Deno.stat(dir)).isDirectory) return "is not a folder";
  } catch {
    return "no such folder";
  }
  const looked = `no weights found: looked for ${SINGLE_FILE} and ${INDEX_FILE}`;
  for (const name of ["pytorch_model.bin", "pytorch_model.bin.index.json"]) {
    if (await isFile(join(dir, name))) {
      return `${looked}; ${name} is there, but PyTorch files must be converted to safetensors first ` +
        `(save_pretrained of Hugging Face Transformers does it)`;
    }
  }
  return looked;
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    throw error;
  }
}

function checkPiece(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new RangeError(`${name}: expected a positive integer, found ${value}`);
  }
}

function checkPart(
  name: string,
  unit: "elements" | "bytes",
  available: number,
  first = 0,
  count = available - first,
): { first: number; count: number } {
  const whole = Number.isSafeInteger(first) && Number.isSafeInteger(count) && first >= 0 && count >= 0;
  if (!whole || first + count > available) {
    throw new RangeError(
      `tensor ${JSON.stringify(name)}: expected a part of its ${available} ${unit}, ` +
        `found ${count} ${unit} from ${first}`,
    );
  }
  return { first, count };
}
