/**
 * A minimal safetensors reader and writer for tests. It shares nothing with the engine's own, so that each checks
 * the other.
 */

/** One tensor of a file: its bytes are little endian and row major. */
export interface RawTensor {
  dtype: string;
  shape: number[];
  bytes: Uint8Array<ArrayBuffer>;
}

/** Every tensor of a safetensors file in the order of its header, without `__metadata__`. */
export function parseSafetensors(file: Uint8Array): Map<string, RawTensor> {
  const headerBytes = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + headerBytes)));
  const tensors = new Map<string, RawTensor>();
  for (const [name, entry] of Object.entries<Record<string, unknown>>(header)) {
    if (name === "__metadata__") continue;
    const [begin, end] = entry.data_offsets as [number, number];
    // slice() copies, so that typed array views of the bytes are aligned
    const bytes = new Uint8Array(file.slice(8 + headerBytes + begin, 8 + headerBytes + end));
    tensors.set(name, { dtype: entry.dtype as string, shape: entry.shape as number[], bytes });
  }
  return tensors;
}

/** Elements of an F32, F16 or BF16 tensor, widened exactly to float32. Throws TypeError for other types. */
export function widen(name: string, tensor: RawTensor): Float32Array<ArrayBuffer> {
  const { buffer } = tensor.bytes;
  switch (tensor.dtype) {
    case "F32":
      return new Float32Array(buffer);
    case "F16":
      return Float32Array.from(new Float16Array(buffer));
    case "BF16":
      return new Float32Array(Uint32Array.from(new Uint16Array(buffer), (half) => half << 16).buffer);
    default:
      throw new TypeError(`${name}: expected F32, F16 or BF16, found ${tensor.dtype}`);
  }
}

/** A safetensors file of F32 tensors, in the order of the map. */
export function encodeSafetensors(
  tensors: Iterable<[string, { shape: number[]; data: Float32Array }]>,
): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  const parts: Float32Array[] = [];
  let size = 0;
  for (const [name, { shape, data }] of tensors) {
    const elements = shape.reduce((product, extent) => product * extent, 1);
    if (elements !== data.length) {
      throw new RangeError(
        `${name}: shape [${shape}] has ${elements} elements, its data has ${data.length}`,
      );
    }
    header[name] = { dtype: "F32", shape, data_offsets: [size, size + data.byteLength] };
    parts.push(data);
    size += data.byteLength;
  }
  const json = JSON.stringify(header);
  const text = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8));
  const file = new Uint8Array(8 + text.length + size);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  let offset = 8 + text.length;
  for (const part of parts) {
    file.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), offset);
    offset += part.byteLength;
  }
  return file;
}
