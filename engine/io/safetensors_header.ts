import { DTYPE_BYTES } from "../tensor/dtype.ts";
import { describeJson, isJsonObject, JsonFileError, parseJson } from "./json.ts";

/** A safetensors file or index that is missing, malformed or inconsistent. `path` is the file. */
export class SafetensorsError extends Error {
  /** Always "SafetensorsError". */
  override readonly name = "SafetensorsError";
  /** `reason` is the message without the path. */
  constructor(readonly path: string, readonly reason: string, options?: ErrorOptions) {
    super(`${path}: ${reason}`, options);
  }
}

/** Where a tensor lies: bytes `begin` to `end` (exclusive) of `file`, row-major little-endian. */
export interface TensorEntry {
  name: string;
  /** As the file has it: "F32", "BF16", "I64", "BOOL", … */
  dtype: string;
  shape: number[];
  file: string;
  begin: number;
  end: number;
}

/** What a safetensors header says. Entries are in the order of their data. */
export interface SafetensorsHeader {
  metadata: Record<string, string> | undefined;
  entries: TensorEntry[];
}

/** The largest header that is read, the same bound as in the reference implementation. */
const MAX_HEADER_BYTES = 100_000_000;

/** Reads the 8 bytes that hold the header's length. Throws SafetensorsError if it can't be right. */
export function parseHeaderLength(path: string, prefix: Uint8Array, fileBytes: number): number {
  if (fileBytes < 8 || prefix.byteLength < 8) {
    throw new SafetensorsError(
      path,
      `expected at least 8 bytes, found ${fileBytes}: truncated or not safetensors`,
    );
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new SafetensorsError(
      path,
      `header length ${length} is over the limit of ${MAX_HEADER_BYTES}: corrupt or not safetensors`,
    );
  }
  if (length > BigInt(fileBytes - 8)) {
    throw new SafetensorsError(
      path,
      `header length ${length} exceeds the ${fileBytes - 8} bytes that follow: truncated or not safetensors`,
    );
  }
  return Number(length);
}

/**
 * Parses and checks the JSON header of a safetensors file.
 *
 * @param header the JSON bytes, without the 8 bytes of length before them
 * @param fileBytes size of the whole file
 * @throws SafetensorsError naming the tensor, what was expected and what was found
 */
export function parseHeader(path: string, header: Uint8Array, fileBytes: number): SafetensorsHeader {
  const json = parseHeaderJson(path, header);
  const dataBegin = 8 + header.byteLength;
  let metadata: Record<string, string> | undefined;
  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(json)) {
    if (name === "__metadata__") metadata = parseMetadata(path, value);
    else entries.push(parseEntry(path, name, value, dataBegin, fileBytes));
  }
  // The order of the data is the order of the file: JSON puts number-like names first, and empty tensors tie.
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkCoverage(path, entries, dataBegin, fileBytes);
  return { metadata, entries };
}

/** Number of elements of a shape; 1 for a scalar's empty shape. */
export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * Encodes a header, its 8 bytes of length included, padded with spaces to a multiple of 8 so that the data
 * begins aligned. Tensors follow each other without gaps in the order given.
 */
export function encodeHeader(
  tensors: readonly { name: string; dtype: string; shape: readonly number[] }[],
  metadata: Record<string, string> | undefined,
): Uint8Array {
  const fields: string[] = [];
  if (metadata !== undefined) fields.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    const end = offset + elementsOf(shape) * DTYPE_BYTES[dtype]!;
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [offset, end] })}`);
    offset = end;
  }
  const json = new TextEncoder().encode(`{${fields.join(",")}}`);
  const padded = Math.ceil(json.byteLength / 8) * 8;
  const bytes = new Uint8Array(8 + padded).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(json, 8);
  return bytes;
}

function parseHeaderJson(path: string, header: Uint8Array): Record<string, unknown> {
  let json: unknown;
  try {
    // A header begins with a brace: a byte order mark is kept, and so refused.
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header);
    json = parseJson(path, text);
  } catch (cause) {
    const reason = cause instanceof JsonFileError ? cause.reason : "not valid UTF-8";
    const what = reason.startsWith("not valid") ? reason : `not valid JSON: ${reason}`;
    throw new SafetensorsError(path, `the header is ${what}`, { cause });
  }
  if (!isJsonObject(json)) {
    throw new SafetensorsError(path, `expected the header to be a JSON object, found ${describeJson(json)}`);
  }
  return json;
}

function parseMetadata(path: string, value: unknown): Record<string, string> {
  if (!isJsonObject(value)) {
    throw new SafetensorsError(path, `expected __metadata__ to be an object, found ${describeJson(value)}`);
  }
  for (const [key, item] of Object.entries(value)) {
    if (typeof item !== "string") {
      throw new SafetensorsError(
        path,
        `expected __metadata__[${JSON.stringify(key)}] to be a string, found ${describeJson(item)}`,
      );
    }
  }
  return value as Record<string, string>;
}

function parseEntry(
  path: string,
  name: string,
  value: unknown,
  dataBegin: number,
  fileBytes: number,
): TensorEntry {
  const fail = (reason: string) => new SafetensorsError(path, `tensor ${JSON.stringify(name)}: ${reason}`);
  if (!isJsonObject(value)) throw fail(`expected an object, found ${describeJson(value)}`);
  const { dtype, shape, data_offsets: offsets } = value;
  const size = typeof dtype === "string" ? DTYPE_BYTES[dtype] : undefined;
  if (size === undefined) {
    throw fail(`expected a dtype of ${Object.keys(DTYPE_BYTES).join(", ")}, found ${describeJson(dtype)}`);
  }
  if (!isCountList(shape)) {
    throw fail(`expected shape to be a list of non-negative integers, found ${JSON.stringify(shape)}`);
  }
  if (!isCountList(offsets) || offsets.length !== 2) {
    throw fail(`expected data_offsets to be two non-negative integers, found ${JSON.stringify(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw fail(`data_offsets [${begin},${end}] begin after they end`);
  if (dataBegin + end > fileBytes) {
    throw fail(
      `data_offsets [${begin},${end}] lie outside the file, which has ${fileBytes - dataBegin} data bytes: ` +
        `truncated or corrupt`,
    );
  }
  const expected = elementsOf(shape) * size;
  if (end - begin !== expected) {
    throw fail(`shape [${shape}] of ${dtype} needs ${expected} bytes, data_offsets hold ${end - begin}`);
  }
  return { name, dtype: dtype as string, shape, file: path, begin: dataBegin + begin, end: dataBegin + end };
}

function isCountList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function checkCoverage(path: string, entries: TensorEntry[], dataBegin: number, fileBytes: number): void {
  let covered = dataBegin;
  let previous = "the header";
  for (const { name, begin, end } of entries) {
    const quoted = `tensor ${JSON.stringify(name)}`;
    if (begin < covered) {
      throw new SafetensorsError(
        path,
        `${quoted} overlaps ${previous}: begins at data byte ${begin - dataBegin}, ` +
          `expected ${covered - dataBegin}`,
      );
    }
    if (begin > covered) {
      throw new SafetensorsError(
        path,
        `gap of ${begin - covered} bytes between ${previous} and ${quoted}: begins at data byte ` +
          `${begin - dataBegin}, expected ${covered - dataBegin}`,
      );
    }
    covered = end;
    previous = quoted;
  }
  if (covered !== fileBytes) {
    throw new SafetensorsError(
      path,
      `${fileBytes - covered} bytes follow the last tensor: expected a file of ${covered} bytes, ` +
        `found ${fileBytes}`,
    );
  }
}
