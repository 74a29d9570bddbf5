/**
 * What is done to a text before it is split, as the steps of Hugging Face's Rust tokenizers do it.
 * @module
 */

import { readCharsmap } from "./charsmap.ts";
import { TokenizerError } from "./errors.ts";
import { type Json, readPattern, steps, unsupported } from "./json.ts";

/** A text in, the text to tokenise out. */
export type Normalizer = (text: string) => string;

/**
 * The `normalizer` of tokenizer.json.
 * @throws TokenizerError when a step is of a kind that decoder models don't have.
 */
export function readNormalizer(json: unknown, where: string): Normalizer {
  const what = `${where}: normalizer`;
  const all = steps(json, "normalizers", what).map((step) => readStep(step, what));
  return (text) => all.reduce((result, step) => step(result), text);
}

function readStep(step: Json, what: string): Normalizer {
  switch (step.type) {
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = step.type;
      return (text) => text.normalize(form);
    }
    case "Prepend": {
      const before = text(step, "prepend", what);
      return (text) => text === "" ? text : before + text;
    }
    case "Replace": {
      const pattern = readPattern(step, what);
      const content = text(step, "content", what);
      return (text) => text.replace(pattern, () => content);
    }
    case "Strip": {
      const left = step.strip_left === true ? /^\p{White_Space}+/u : /(?!)/;
      const right = step.strip_right === true ? /\p{White_Space}+$/u : /(?!)/;
      return (text) => text.replace(left, "").replace(right, "");
    }
    case "Lowercase":
      // One character at a time: the whole text would make a final Σ another letter.
      return (text) => Array.from(text, (char) => char.toLowerCase()).join("");
    case "Precompiled":
      return readCharsmap(text(step, "precompiled_charsmap", what), what);
    default:
      throw unsupported(what, step);
  }
}

function text(step: Json, field: string, what: string): string {
  const value = step[field];
  if (typeof value !== "string") {
    throw new TokenizerError(`${what}: ${step.type}: expected a text as ${field}, found ${typeof value}`);
  }
  return value;
}
