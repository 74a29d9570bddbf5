/**
 * Reading tokenizer.json and the files beside it: stages, patterns, and errors that name the file.
 * @module
 */

import { SplitPreTokenizer } from "@huggingface/tokenizers";
import { describeJson, isJsonObject, JsonFileError, parseJson, readJsonBytes } from "../../engine/io/json.ts";
import { TokenizerError } from "./errors.ts";
import { isSlow } from "./slow_pattern.ts";

/** A JSON object of a tokenizer file. */
export type Json = Record<string, unknown>;

/** Vocabularies of 256,000 tokens make 35 MB. */
const FILE = { what: "the tokenizer", maxBytes: 256 * 2 ** 20, nonFinite: true };

/** The longest that real tokenizers have is of some hundred. */
const MOST_PATTERN = 10_000;

/** The object that a file of a tokenizer holds, and the file's bytes. @throws TokenizerError */
export async function readTokenizerFile(
  path: string,
): Promise<{ json: Json; bytes: Uint8Array<ArrayBuffer> }> {
  try {
    const bytes = await readJsonBytes(path, FILE);
    return { json: asObject(parseJson(path, bytes, FILE), path), bytes };
  } catch (cause) {
    if (cause instanceof JsonFileError) throw new TokenizerError(cause.message, { cause });
    throw cause;
  }
}

/** @throws TokenizerError when the value is not a JSON object; `what` is what the message calls it. */
export function asObject(value: unknown, what: string): Json {
  if (isJsonObject(value)) return value;
  throw new TokenizerError(`${what}: expected a JSON object, found ${describeJson(value)}`);
}

/** The steps of a stage: none for null, those of a Sequence (in `list`) flattened, else the one. */
export function steps(stage: unknown, list: string, what: string): Json[] {
  if (stage === null || stage === undefined) return [];
  const json = asObject(stage, what);
  if (json.type !== "Sequence") return [json];
  const inner = json[list];
  if (!Array.isArray(inner)) throw new TokenizerError(`${what}: expected a Sequence with a list of ${list}`);
  return inner.flatMap((step) => steps(step, list, what));
}

/**
 * The error for a step of a kind that is read otherwise here than in Hugging Face's Rust library, or not at
 * all.
 */
export function unsupported(what: string, step: Json): TokenizerError {
  return new TokenizerError(
    `${what}: this tokenizer is not supported: ${nameOf(step.type, "a step without type")}`,
  );
}

/** A kind as a file names it, for a message. */
export function nameOf(type: unknown, absent: string): string {
  return type === undefined || type === null
    ? absent
    : typeof type === "string"
    ? type.slice(0, 60)
    : describeJson(type);
}

/**
 * The `pattern` of a step as a global JavaScript expression. Regular expressions are Oniguruma's, translated
 * by
 * @huggingface/tokenizers.
 */
export function readPattern(step: Json, what: string): RegExp {
  const { String: text, Regex: source } = asObject(step.pattern, `${what}: pattern`);
  if (typeof text === "string" && text !== "") return new RegExp(RegExp.escape(text), "gu");
  if (typeof source !== "string") throw new TokenizerError(`${what}: expected a pattern, found none`);
  if (source.length > MOST_PATTERN) {
    throw new TokenizerError(
      `${what}: expected a pattern of at most ${MOST_PATTERN} characters, found ${source.length}`,
    );
  }
  const pattern = { Regex: foldBeyondAscii(source) };
  let expression: RegExp;
  try {
    expression = new SplitPreTokenizer({ type: "Split", pattern, behavior: "Isolated" }).pattern!;
  } catch (cause) {
    throw new TokenizerError(
      `${what}: the pattern is not supported: ${(cause as Error).message}`,
      { cause },
    );
  }
  if (isSlow(expression)) {
    throw new TokenizerError(
      `${what}: expected a pattern that takes time in proportion to a text's length, found one that takes too long for ` +
        `some of a few characters: ${describeJson(source)}`,
    );
  }
  return expression;
}

/**
 * In `(?i:…)` the library folds ASCII letters only; Oniguruma takes U+017F for s and U+212A for k too, so
 * that the contractions of Llama 3's pattern match "it\u017F".
 */
function foldBeyondAscii(source: string): string {
  const others = (part: string) => (/s/i.test(part) ? "\u017F" : "") + (/k/i.test(part) ? "\u212A" : "");
  return source.replace(
    /\(\?i:(?:\\.|[^\\()])*\)/g,
    (group) =>
      group.replace(/\\p\{[^}]*\}|\\.|\[[^\]]*\]|[sk]/gi, (part) => {
        if (part[0] === "\\") return part;
        if (part[0] === "[") return part.slice(0, -1) + others(part.replace(/\\./g, "")) + "]";
        return `[${part}${others(part)}]`;
      }),
  );
}
