/**
 * Tokens back to text, as the steps of Hugging Face's Rust tokenizers do it.
 * @module
 */

import { describeJson } from "../../engine/io/json.ts";
import { TokenizerError } from "./errors.ts";
import { type Json, readPattern, steps, unsupported } from "./json.ts";
import { BYTE_CHARS, metaspaceFields } from "./pre_tokenizer.ts";

type Step = (tokens: string[]) => string[];

/**
 * The `decoder` of tokenizer.json; without one tokens are joined by spaces.
 * @throws TokenizerError when a step is of a kind that decoder models don't have.
 */
export function readDecoder(json: unknown, where: string): (tokens: string[]) => string {
  const what = `${where}: decoder`;
  const all = steps(json, "decoders", what).map((step) => readStep(step, what));
  if (all.length === 0) return (tokens) => tokens.join(" ");
  return (tokens) => all.reduce((result, step) => step(result), tokens).join("");
}

function readStep(step: Json, what: string): Step {
  switch (step.type) {
    case "ByteLevel":
      return (tokens) => [utf8.decode(Uint8Array.from(tokens.flatMap(bytesOf)))];
    case "ByteFallback":
      return byteFallback;
    case "Fuse":
      return (tokens) => [tokens.join("")];
    case "Replace": {
      const pattern = readPattern(step, what);
      const { content } = step;
      if (typeof content !== "string") throw new TokenizerError(`${what}: Replace: expected a content`);
      return (tokens) => tokens.map((token) => token.replace(pattern, () => content));
    }
    case "Strip": {
      const { content, start, stop } = step;
      if (typeof content !== "string" || typeof start !== "number" || typeof stop !== "number") {
        throw new TokenizerError(
          `${what}: Strip: expected a content and two numbers, found ${describeJson(content)}, ${
            describeJson(start)
          } and ${describeJson(stop)}`,
        );
      }
      return (tokens) => tokens.map((token) => strip(token, content, start, stop));
    }
    case "Metaspace": {
      const { mark, scheme } = metaspaceFields(step, what);
      return (tokens) =>
        tokens.map((token, i) => token.replaceAll(mark, i === 0 && scheme !== "never" ? "" : " "));
    }
    default:
      throw unsupported(what, step);
  }
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const strictUtf8 = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });
const BYTE_OF = new Map(BYTE_CHARS.map((char, byte) => [char, byte]));

/** A token that isn't all byte stand-ins (an added one) is its own UTF-8. */
function bytesOf(token: string): number[] {
  const bytes = Array.from(token, (char) => BYTE_OF.get(char));
  return bytes.every((byte) => byte !== undefined) ? bytes : [...new TextEncoder().encode(token)];
}

/** Runs of `<0xXX>` become their UTF-8, or one U+FFFD a byte when they are none. */
function byteFallback(tokens: string[]): string[] {
  const result: string[] = [];
  let run: number[] = [];
  const flush = () => {
    if (run.length === 0) return;
    try {
      result.push(strictUtf8.decode(Uint8Array.from(run)));
    } catch {
      result.push(...run.map(() => "\uFFFD"));
    }
    run = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
    if (byte) run.push(parseInt(byte[1]!, 16));
    else {
      flush();
      result.push(token);
    }
  }
  flush();
  return result;
}

/** Takes up to `start` and `stop` characters `content` off the two ends. */
function strip(token: string, content: string, start: number, stop: number): string {
  const chars = Array.from(token);
  let from = 0;
  while (from < start && chars[from] === content) from++;
  let to = chars.length;
  while (chars.length - to < stop && to > 0 && chars[to - 1] === content) to--;
  return chars.slice(from, Math.max(from, to)).join("");
}
