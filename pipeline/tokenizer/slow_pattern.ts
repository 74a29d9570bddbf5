/**
 * Finding regular expressions of a tokenizer's file that take time exponential in a text's length, or a high power of it: they
 * come with a model, and nothing can stop one that runs.
 * @module
 */

/** What a match of so short a text may take at most, milliseconds: real patterns take some microseconds. */
const MOST_MS = 60;
/** Lengths of the texts tried: each takes little longer than the one before unless the pattern is one of those. */
const LENGTHS = [...Array.from({ length: 36 }, (_, i) => i + 5), 64, 96, 128, 192, 256, 384, 512];
/** Characters of every class that patterns name, tried in every pattern. */
const CLASSES = ["a", "A", "0", " ", "\n", "'", "!", "é", "漢"];
/** Characters and pairs that are taken from the pattern's own text. */
const MOST_OWN = 40;

/**
 * Whether a pattern is slow: tried on repetitions of characters and pairs that it names, followed by one that it may not
 * match. A pattern that hides its weakness from these is not found.
 */
export function isSlow(pattern: RegExp): boolean {
  const name = String(pattern);
  const known = found.get(name) ?? tryOut(pattern);
  found.set(name, known);
  return known;
}

/** Patterns that were tried, by their text: the same model is often read more than once. */
const found = new Map<string, boolean>();

function tryOut(pattern: RegExp): boolean {
  const own = Array.from(pattern.source).filter((char) => !"\\()[]{}?*+|^$".includes(char));
  const pairs = own.slice(1).map((char, i) => own[i] + char);
  const parts = new Set([
    ...CLASSES,
    ...new Set(own.slice(0, MOST_OWN)),
    ...new Set(pairs.slice(0, MOST_OWN)),
  ]);
  for (const part of parts) {
    for (const end of ["", "\u0001", "\n", "a"]) {
      for (const length of LENGTHS) {
        const text = part.repeat(length) + end;
        // Thrice: a machine may be busy elsewhere once.
        if (takesLong(pattern, text) && takesLong(pattern, text) && takesLong(pattern, text)) return true;
      }
    }
  }
  return false;
}

function takesLong(pattern: RegExp, text: string): boolean {
  const began = performance.now();
  // As splitting does, which goes through the whole text.
  text.replace(pattern, "");
  return performance.now() - began > MOST_MS;
}
