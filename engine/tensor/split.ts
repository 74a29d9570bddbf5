/**
 * An f32 number in two halves: the upper holds it rounded to bf16 (ties away from zero), the lower the signed distance
 * of its bits from there, so both together are exact.
 * @throws RangeError unless all three have one length.
 */
export function splitMaster(values: Float32Array, upper: Uint16Array, lower: Int16Array): void {
  if (upper.length !== values.length || lower.length !== values.length) {
    throw new RangeError(`${values.length} numbers, but room for ${upper.length} and ${lower.length} halves`);
  }
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    // A NaN whose bits would round over to −0 must stay one.
    const word = (bits[i]! & 0x7fffffff) > 0x7f800000 ? 0x7fc00000 : bits[i]!;
    const rounded = (word + 0x8000) >>> 16;
    upper[i] = rounded;
    lower[i] = word - (rounded << 16);
  }
}

/** The numbers of {@link splitMaster}; without lower halves those of the upper ones. */
export function joinMaster(upper: Uint16Array, lower?: Int16Array): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(upper.length);
  for (let i = 0; i < bits.length; i++) bits[i] = (upper[i]! << 16) + (lower ? lower[i]! : 0);
  return new Float32Array(bits.buffer);
}
