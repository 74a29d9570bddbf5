/** The byte-level pre-tokenisation of GPT-2, as Hugging Face's `ByteLevel` with `use_regex` does it. */

const PATTERN = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

const bytes = new TextEncoder();

/**
 * The 256 characters that stand for the bytes, by byte: printable Latin-1 stands for itself, the others are
 * moved up from U+0100 on in order.
 */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  let next = 256;
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : next++));
})();

/** The words of a text, each written in the byte-level alphabet; joined they spell the whole text. */
export function wordPieces(text: string): string[] {
  return (text.match(PATTERN) ?? []).map((word) =>
    Array.from(bytes.encode(word), (byte) => BYTE_CHARACTERS[byte]).join("")
  );
}

/** Adds the words of a text to `counts`, `weight` times each. */
export function countWords(text: string, counts: Map<string, number>, weight = 1): void {
  for (const word of wordPieces(text)) counts.set(word, (counts.get(word) ?? 0) + weight);
}
