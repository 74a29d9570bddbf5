/**
 * NaN, Infinity and -Infinity in JSON, as Python's `json` reads and writes them. JSON itself has no way to write them.
 * @module
 */

/** A number that nobody writes, which stands for NaN between `JSON.parse` and its reviver, or `JSON.stringify` and text. */
const NAN = "0.00000e-2718281";
const INFINITY = "2.71828e+2718281";

/** What stands for a value that isn't finite, in texts that strict parsers read. */
const STANDS_FOR: Readonly<Record<string, string>> = {
  "NaN": NAN,
  "Infinity": INFINITY,
  "-Infinity": `-${INFINITY}`,
};

/** Parses JSON with such values. Throws SyntaxError as `JSON.parse` does. */
export function parseNonFinite(text: string): unknown {
  const strict = replaceWords(text, (word) => STANDS_FOR[word]);
  // The source text of a number is newer than TypeScript's declaration.
  const reviver = (_: string, value: unknown, context?: { source?: string }) =>
    context?.source === NAN ? NaN : value;
  return JSON.parse(strict, reviver);
}

/** The text with zeros in place of such values: strict JSON of the same length, to find places in. */
export function maskNonFinite(text: string): string {
  return replaceWords(text, (word) => word in STANDS_FOR ? "0".padEnd(word.length) : undefined);
}

/** As `JSON.stringify`, but for such values, which that writes as null. */
export function stringifyNonFinite(value: unknown): string {
  // deno-lint-ignore no-explicit-any
  const { rawJSON } = JSON as any;
  const text = JSON.stringify(
    value,
    (_, inner) =>
      typeof inner === "number" && !Number.isFinite(inner) ? rawJSON(STANDS_FOR[String(inner)]) : inner,
  );
  const words = Object.fromEntries(Object.entries(STANDS_FOR).map(([word, stands]) => [stands, word]));
  return replaceWords(text, (word) => words[word]);
}

const QUOTE = 0x22, BACKSLASH = 0x5c;

/** Whether a character is part of a word: of a number or a name outside of strings. */
function isWord(code: number): boolean {
  return code >= 0x30 && code <= 0x39 || code >= 0x41 && code <= 0x5a || code >= 0x61 && code <= 0x7a ||
    code === 0x2b || code === 0x2d || code === 0x2e || code === 0x5f || code === 0x24 || code >= 0x80;
}

/** Replaces whole words outside of strings, where `replace` gives another. Takes time in proportion to the text. */
function replaceWords(text: string, replace: (word: string) => string | undefined): string {
  const parts: string[] = [];
  let copied = 0;
  for (let at = 0; at < text.length;) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      for (at++; at < text.length && text.charCodeAt(at) !== QUOTE; at++) {
        if (text.charCodeAt(at) === BACKSLASH) at++;
      }
      at++;
    } else if (isWord(code)) {
      const begin = at;
      while (at < text.length && isWord(text.charCodeAt(at))) at++;
      const replaced = replace(text.slice(begin, at));
      if (replaced === undefined) continue;
      parts.push(text.slice(copied, begin), replaced);
      copied = at;
    } else at++;
  }
  parts.push(text.slice(copied));
  return parts.join("");
}
