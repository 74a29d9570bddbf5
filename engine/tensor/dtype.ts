/**
 * Storage types: their sizes, and exact conversion between f32 and the 16-bit floats.
 *
 * All byte arrays are little-endian, as safetensors is and as every platform Deno runs on is, so typed arrays
 * view them directly.
 */

/** Storage types a parameter may have. Arithmetic is always f32. */
export type FloatDtype = "F32" | "F16" | "BF16";

/** Every type a {@link FloatDtype} may take, for messages and option lists. */
export const FLOAT_DTYPES: readonly FloatDtype[] = ["F32", "F16", "BF16"];

/** Bytes of one element, by safetensors type name. */
export const DTYPE_BYTES: Readonly<Record<string, number>> = Object.freeze(
  Object.assign(Object.create(null) as Record<string, number>, {
    BOOL: 1,
    U8: 1,
    I8: 1,
    F8_E5M2: 1,
    F8_E4M3: 1,
    F8_E8M0: 1,
    I16: 2,
    U16: 2,
    F16: 2,
    BF16: 2,
    I32: 4,
    U32: 4,
    F32: 4,
    I64: 8,
    U64: 8,
    F64: 8,
    C64: 8,
  }),
);

/** Whether `dtype` is one that {@link widen} and {@link narrow} convert. */
export function isFloatDtype(dtype: string): dtype is FloatDtype {
  return dtype === "F32" || dtype === "F16" || dtype === "BF16";
}

/** Bytes of one element of `dtype`. Throws TypeError for a type that safetensors does not have. */
export function dtypeBytes(dtype: string): number {
  const bytes = DTYPE_BYTES[dtype];
  if (bytes === undefined) {
    throw new TypeError(
      `unknown dtype ${JSON.stringify(dtype)}, expected ${Object.keys(DTYPE_BYTES).join(", ")}`,
    );
  }
  return bytes;
}

/**
 * Converts stored elements to f32, exactly (NaN payloads included).
 *
 * @param bytes little-endian elements of `dtype`, at any byte offset
 * @param out written from its start if given; may be longer than needed
 * @returns exactly the converted elements: a new array, or the beginning of `out`
 * @throws RangeError if `bytes` is not a whole number of elements or `out` is too short
 */
export function widen(
  dtype: FloatDtype,
  bytes: Uint8Array,
  out?: Float32Array<ArrayBuffer>,
): Float32Array<ArrayBuffer> {
  const size = dtypeBytes(dtype);
  const count = bytes.byteLength / size;
  if (!Number.isInteger(count)) {
    throw new RangeError(`widen ${dtype}: expected a multiple of ${size} bytes, found ${bytes.byteLength}`);
  }
  if (out !== undefined && out.length < count) {
    throw new RangeError(`widen ${dtype}: out needs ${count} elements, found ${out.length}`);
  }
  const target = out === undefined ? new Float32Array(count) : out.subarray(0, count);
  if (dtype === "F32") {
    bytesOf(target).set(bytes);
    return target;
  }
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, count);
  // Bits, not numbers, are stored: writing a signalling NaN as a number may change it.
  const bits = new Uint32Array(target.buffer, target.byteOffset, count);
  if (dtype === "BF16") {
    for (let i = 0; i < count; i++) bits[i] = halves[i]! << 16;
  } else {
    const table = f16Table();
    for (let i = 0; i < count; i++) bits[i] = table[halves[i]!]!;
  }
  return target;
}

/**
 * Converts f32 to stored elements: round to nearest, ties to even; too large becomes infinity; NaN stays NaN
 * with as much of its payload as fits.
 *
 * @param out written from its start if given; may be longer than needed; must start at an element boundary
 * @returns exactly the bytes of the converted elements, little-endian: a copy, or the beginning of `out`
 * @throws RangeError if `out` is too short or not aligned
 */
export function narrow(dtype: FloatDtype, values: Float32Array, out?: Uint8Array): Uint8Array {
  const size = dtypeBytes(dtype);
  const count = values.length;
  if (out !== undefined && (out.byteLength < count * size || out.byteOffset % size !== 0)) {
    throw new RangeError(
      `narrow ${dtype}: out needs ${count * size} bytes from a multiple of ${size}, ` +
        `found ${out.byteLength} from ${out.byteOffset}`,
    );
  }
  const target = out === undefined ? new Uint8Array(count * size) : out.subarray(0, count * size);
  if (dtype === "F32") {
    target.set(bytesOf(values));
    return target;
  }
  const bits = new Int32Array(values.buffer, values.byteOffset, count);
  const halves = new Uint16Array(target.buffer, target.byteOffset, count);
  if (dtype === "BF16") narrowToBf16(bits, halves);
  else narrowToF16(bits, halves);
  return target;
}

/** The bytes of a typed array, not copied. */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function narrowToBf16(bits: Int32Array, halves: Uint16Array): void {
  for (let i = 0; i < bits.length; i++) {
    const x = bits[i]!;
    if ((x & 0x7fffffff) > 0x7f800000) {
      const high = x >>> 16;
      // A payload held only in the low half would truncate to infinity.
      halves[i] = (high & 0x7f) === 0 ? high | 0x40 : high;
    } else {
      halves[i] = (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
    }
  }
}

function narrowToF16(bits: Int32Array, halves: Uint16Array): void {
  for (let i = 0; i < bits.length; i++) {
    const x = bits[i]!;
    const sign = (x >>> 16) & 0x8000;
    const magnitude = x & 0x7fffffff;
    let half: number;
    if (magnitude > 0x7f800000) {
      const payload = (magnitude >>> 13) & 0x3ff;
      half = 0x7c00 | (payload === 0 ? 0x200 : payload);
    } else if (magnitude >= 0x47800000) {
      half = 0x7c00; // 65,536 and above, infinity too
    } else if (magnitude >= 0x38800000) {
      // Rebias the exponent by 127 − 15; a carry out of 65,504 gives the bits of infinity.
      half = (magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
    } else if (magnitude > 0x33000000) {
      // Below 2⁻¹⁴: count multiples of 2⁻²⁴. At most 2⁻²⁵ (0x33000000) rounds to zero.
      const shift = 126 - (magnitude >>> 23);
      const mantissa = (magnitude & 0x7fffff) | 0x800000;
      const rest = mantissa & ((1 << shift) - 1);
      const tie = 1 << (shift - 1);
      half = mantissa >>> shift;
      if (rest > tie || (rest === tie && (half & 1) === 1)) half++;
    } else {
      half = 0;
    }
    halves[i] = sign | half;
  }
}

let f16Bits: Uint32Array | undefined;

/** The f32 bits of every f16 pattern: 256 KiB, built once; a lookup is several times faster than the cases. */
function f16Table(): Uint32Array {
  if (f16Bits !== undefined) return f16Bits;
  const table = new Uint32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 0x1f;
    const mantissa = half & 0x3ff;
    if (exponent === 0x1f) {
      table[half] = sign | 0x7f800000 | (mantissa << 13);
    } else if (exponent !== 0) {
      table[half] = sign | ((exponent + 112) << 23) | (mantissa << 13);
    } else if (mantissa !== 0) {
      const leading = 31 - Math.clz32(mantissa);
      table[half] = sign | ((leading + 103) << 23) | ((mantissa << (23 - leading)) & 0x7fffff);
    } else {
      table[half] = sign;
    }
  }
  return f16Bits = table;
}
