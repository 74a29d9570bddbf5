/**
 * Splitting a text into the pieces that tokens never cross, as the steps of Hugging Face's Rust tokenizers do
 * it. The library's own differ: digits and punctuation outside ASCII, merging behaviours, Metaspace's
 * `split`.
 * @module
 */

import { describeJson } from "../../engine/io/json.ts";
import { TokenizerError } from "./errors.ts";
import { type Json, readPattern, steps, unsupported } from "./json.ts";

/** A part of a text; `isFirst` when it starts where the text does. */
export interface Piece {
  text: string;
  isFirst: boolean;
}

/** Splits a part of a text. No piece is empty. */
export type PreTokenizer = (part: Piece) => Piece[];

/**
 * The `pre_tokenizer` of tokenizer.json.
 * @throws TokenizerError when a step is of a kind that decoder models don't have.
 */
export function readPreTokenizer(json: unknown, where: string): PreTokenizer {
  const what = `${where}: pre_tokenizer`;
  const all = steps(json, "pretokenizers", what).map((step) => readStep(step, what));
  return (part) =>
    all.reduce((pieces, step) => pieces.flatMap(step), [part]).filter(({ text }) => text !== "");
}

const GPT2_WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu;

function readStep(step: Json, what: string): PreTokenizer {
  switch (step.type) {
    case "ByteLevel": {
      const addsSpace = step.add_prefix_space === true;
      const usesPattern = step.use_regex !== false;
      return ({ text, isFirst }) => {
        const part = { text: addsSpace && !text.startsWith(" ") ? ` ${text}` : text, isFirst };
        const words = usesPattern ? splitBy(part, GPT2_WORDS, "Isolated") : [part];
        return words.map((word) => ({ ...word, text: toByteChars(word.text) }));
      };
    }
    case "Split": {
      const pattern = readPattern(step, what);
      const behavior = readBehavior(step, what);
      return (part) => splitBy(part, pattern, behavior, step.invert === true);
    }
    case "Digits":
      return (part) => splitBy(part, /\p{N}/gu, step.individual_digits === true ? "Isolated" : "Contiguous");
    case "Punctuation": {
      const behavior = readBehavior({ behavior: "Isolated", ...step }, what);
      return (part) => splitBy(part, PUNCTUATION, behavior);
    }
    case "WhitespaceSplit":
      return (part) => splitBy(part, /\p{White_Space}/gu, "Removed");
    case "Metaspace":
      return readMetaspace(step, what);
    default:
      throw unsupported(what, step);
  }
}

const SCHEMES = ["always", "first", "never"] as const;

/** Checks a Metaspace step (a decoder has one too) and gives its fields. */
export function metaspaceFields(
  step: Json,
  what: string,
): { mark: string; scheme: typeof SCHEMES[number]; splits: boolean } {
  const { replacement: mark = "▁", prepend_scheme: scheme = "always", split = true } = step;
  const isKnown = SCHEMES.includes(scheme as typeof SCHEMES[number]);
  // Rust's reader refuses the last too: the old field contradicts the new one.
  if (typeof mark !== "string" || !isKnown || (step.add_prefix_space === false && scheme !== "never")) {
    throw new TokenizerError(
      `${what}: Metaspace: expected a replacement and a prepend_scheme (${SCHEMES.join(", ")}) that ` +
        `add_prefix_space agrees with, found ${describeJson(mark)} and ${describeJson(scheme)}`,
    );
  }
  return { mark, scheme: scheme as typeof SCHEMES[number], splits: split !== false };
}

function readMetaspace(step: Json, what: string): PreTokenizer {
  const { mark, scheme, splits } = metaspaceFields(step, what);
  const marks = new RegExp(RegExp.escape(mark), "gu");
  return ({ text, isFirst }) => {
    let marked = text.replaceAll(" ", () => mark);
    const prepends = scheme === "always" || (scheme === "first" && isFirst);
    if (prepends && !marked.startsWith(mark)) marked = mark + marked;
    return splits ? splitBy({ text: marked, isFirst }, marks, "MergedWithNext") : [{ text: marked, isFirst }];
  };
}

const BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"] as const;
type Behavior = typeof BEHAVIORS[number];

function readBehavior(step: Json, what: string): Behavior {
  const behavior = BEHAVIORS.find((one) => one === step.behavior);
  if (!behavior) {
    throw new TokenizerError(
      `${what}: behavior: expected one of ${BEHAVIORS.join(", ")}, found ${describeJson(step.behavior)}`,
    );
  }
  return behavior;
}

/** `NormalizedString::split` of Rust's tokenizers. */
function splitBy(part: Piece, pattern: RegExp, behavior: Behavior, inverted = false): Piece[] {
  type Span = { start: number; end: number; matched: boolean };
  const spans: Span[] = [];
  let last = 0;
  for (const match of part.text.matchAll(pattern)) {
    const end = match.index + match[0].length;
    if (last < match.index) spans.push({ start: last, end: match.index, matched: inverted });
    spans.push({ start: match.index, end, matched: !inverted });
    last = end;
  }
  if (last < part.text.length) spans.push({ start: last, end: part.text.length, matched: inverted });

  let kept = spans;
  if (behavior === "Removed") kept = spans.filter(({ matched }) => !matched);
  if (behavior === "Contiguous") {
    kept = merged(spans, (span, before) => span.matched === (before?.matched ?? false));
  }
  if (behavior === "MergedWithPrevious") {
    kept = merged(spans, (span, before) => span.matched && !(before?.matched ?? false));
  }
  if (behavior === "MergedWithNext") {
    kept = merged(spans.toReversed(), (span, after) => span.matched && !(after?.matched ?? false)).reverse();
  }
  return kept.filter(({ start, end }) => start < end).map(({ start, end }) => ({
    text: part.text.slice(start, end),
    isFirst: part.isFirst && start === 0,
  }));
}

/** Joins each span for which `joins` says so to the one before it in the list. */
function merged<T extends { start: number; end: number }>(
  spans: readonly T[],
  joins: (span: T, before: T | undefined) => boolean,
): T[] {
  const result: T[] = [];
  spans.forEach((span, i) => {
    const last = result.at(-1);
    if (last && joins(span, spans[i - 1])) {
      last.start = Math.min(last.start, span.start);
      last.end = Math.max(last.end, span.end);
    } else {
      result.push({ ...span });
    }
  });
  return result;
}

/** GPT-2's printable stand-ins for the 256 bytes. */
export const BYTE_CHARS: readonly string[] = (() => {
  const isPrintable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
})();

const toByteChars = (text: string): string =>
  Array.from(new TextEncoder().encode(text), (byte) => BYTE_CHARS[byte]).join("");
