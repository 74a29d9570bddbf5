/**
 * SentencePiece's `precompiled_charsmap`: a double-array trie from UTF-8 to replacements, read as the Rust
 * crate spm_precompiled does it, with its rule of graphemes under 6 bytes.
 * @module
 */

import { TokenizerError } from "./errors.ts";

/**
 * The replacements of a charsmap in base64: u32 size of the trie in bytes, the trie's u32 units, and texts
 * that end with a zero byte, all little-endian.
 * @throws TokenizerError when the blob is not one.
 */
export function readCharsmap(base64: string, what: string): (text: string) => string {
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.fromBase64(base64);
  } catch (cause) {
    throw new TokenizerError(`${what}: Precompiled: the charsmap is not base64`, { cause });
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = bytes.length < 4 ? NaN : view.getUint32(0, true);
  if (!(size % 4 === 0 && size + 4 <= bytes.length)) {
    throw new TokenizerError(`${what}: Precompiled: the charsmap is cut short: ${bytes.length} bytes`);
  }
  const units = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
  const texts = bytes.subarray(4 + size);

  /** The replacement of the shortest beginning of `chunk` that has one. */
  const transform = (chunk: string): string | undefined => {
    let node = offsetOf(units[0]!);
    for (const byte of encoder.encode(chunk)) {
      if (byte === 0) return undefined;
      node ^= byte;
      const unit = units[node] ?? 0;
      if ((unit & LABEL) >>> 0 !== byte) return undefined;
      node ^= offsetOf(unit);
      if (unit & HAS_LEAF) {
        const start = (units[node] ?? 0) & VALUE;
        const end = texts.indexOf(0, start);
        return decoder.decode(texts.subarray(start, end < 0 ? undefined : end));
      }
    }
    return undefined;
  };

  return (text) => {
    let result = "";
    for (const { segment } of graphemes.segment(text)) {
      const whole = encoder.encode(segment).length < 6 ? transform(segment) : undefined;
      result += whole ?? Array.from(segment, (char) => transform(char) ?? char).join("");
    }
    return result;
  };
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

// The layout of a unit of Darts-clone.
const HAS_LEAF = 1 << 8;
const LABEL = (1 << 31) | 0xff;
const VALUE = 0x7fffffff;
const offsetOf = (unit: number): number => (unit >>> 10) << ((unit & (1 << 9)) >>> 6);
