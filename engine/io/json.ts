/**
 * Reading JSON files: strict JSON in UTF-8 (a byte order mark is skipped; of equal names in an object the last counts, as
 * in Python) of bounded size and nesting. Errors name the file, the place and what was expected there.
 * @module
 */

import { findFault, isTooDeep, type JsonFault, type Position, positionOf } from "./json_fault.ts";
import { FileReadError, readBytes } from "./read_file.ts";
import { maskNonFinite, parseNonFinite } from "./json_non_finite.ts";

/** How a kind of file is read. */
export interface JsonOptions {
  /** What the file is, for a message: "the tokenizer". */
  what?: string;
  /** Default 64 MiB. */
  maxBytes?: number | undefined;
  /** Nothing of the content may be in an error: not in its message, not in its cause. Default false. */
  secret?: boolean;
  /** NaN, Infinity and -Infinity are numbers, as Python's `json` reads and writes them. Default false. */
  nonFinite?: boolean;
}

const MAX_BYTES = 64 * 2 ** 20;

/** A JSON file that is missing, unreadable or malformed; the message names the file and the place. */
export class JsonFileError extends Error {
  /** Always "JsonFileError". */
  override readonly name = "JsonFileError";
  /** From 1, where a place in the file is at fault. */
  readonly line: number | undefined;
  /** From 1, in UTF-16 units. */
  readonly column: number | undefined;

  /** `reason` is the message without the path; `options` have the place. */
  constructor(
    readonly path: string,
    readonly reason: string,
    options: ErrorOptions & Partial<Position> = {},
  ) {
    super(`${path}: ${reason}`, "cause" in options ? { cause: options.cause } : {});
    this.line = options.line;
    this.column = options.column;
  }

  /** Whether it is that there is no such file. */
  get isMissing(): boolean {
    return this.cause instanceof Deno.errors.NotFound;
  }
}

/** Reads and parses a JSON file. Throws JsonFileError. */
export async function readJson(path: string, options: JsonOptions = {}): Promise<unknown> {
  return parseJson(path, await readJsonBytes(path, options), options);
}

/** Reads a JSON file whose top level must be an object. Throws JsonFileError. */
export async function readJsonObject(
  path: string,
  options: JsonOptions = {},
): Promise<Record<string, unknown>> {
  const value = await readJson(path, options);
  if (isJsonObject(value)) return value;
  const found = options.secret ? typeOfJson(value) : describeJson(value);
  throw new JsonFileError(path, `expected a JSON object, found ${found}`);
}

/** As {@linkcode readJson}; undefined if there is no such file. */
export async function readJsonIfThere(path: string, options: JsonOptions = {}): Promise<unknown> {
  try {
    return await readJson(path, options);
  } catch (error) {
    if (error instanceof JsonFileError && error.isMissing) return undefined;
    throw error;
  }
}

/** Bytes of a JSON file, for {@linkcode parseJson}: for who needs them, too. Throws JsonFileError. */
export async function readJsonBytes(
  path: string,
  options: JsonOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await readBytes(path, { what: options.what, maxBytes: options.maxBytes ?? MAX_BYTES });
  } catch (error) {
    if (!(error instanceof FileReadError)) throw error;
    throw new JsonFileError(path, error.reason, "cause" in error ? { cause: error.cause } : {});
  }
}

/** Parses the content of the JSON file `path`, a byte order mark in bytes skipped. Throws JsonFileError. */
export function parseJson(path: string, content: string | Uint8Array, options: JsonOptions = {}): unknown {
  const text = decodeJson(path, content);
  const { value, fault } = parse(text, options.nonFinite);
  if (fault === undefined) return value;
  if (text.trim() === "") throw new JsonFileError(path, "expected JSON, found an empty file");
  const position = positionOf(text, fault.offset);
  const { line, column } = position;
  const isEnd = fault.offset >= text.length;
  if (options.secret) {
    const what = isEnd ? "the file ends too early, at" : "the first unexpected character is at";
    throw new JsonFileError(
      path,
      `not valid JSON: ${what} line ${line}, column ${column} (position ${fault.offset}); ` +
        `expected ${fault.expected}`,
      position,
    );
  }
  const found = isEnd ? "the end of the file" : quote(text, fault.offset);
  throw new JsonFileError(
    path,
    `not valid JSON at line ${line} column ${column}: unexpected ${found}, expected ${fault.expected}`,
    position,
  );
}

/**
 * Values of JSON Lines, blank lines left out. Throws JsonFileError.
 * @param expected what a message says that each line should be
 */
export function parseJsonLines(
  path: string,
  content: string | Uint8Array,
  options: JsonOptions & { expected?: string } = {},
): unknown[] {
  const { secret, expected = "one JSON value, as JSON Lines has it" } = options;
  const values: unknown[] = [];
  decodeJson(path, content).split("\n").forEach((text, index) => {
    if (text.trim() === "") return;
    const { value, fault } = parse(text);
    if (fault === undefined) return void values.push(value);
    const line = index + 1, column = fault.offset + 1;
    const found = fault.offset >= text.trimEnd().length ? "the end of the line" : quote(text, fault.offset);
    const what = secret ? "not valid JSON" : `unexpected ${found}`;
    throw new JsonFileError(path, `${what} at column ${column} of line ${line}: expected ${expected}`, {
      line,
      column,
    });
  });
  return values;
}

/** The text of a JSON file's bytes, without a byte order mark; a text as it is. Throws JsonFileError. */
export function decodeJson(path: string, content: string | Uint8Array): string {
  if (typeof content === "string") return content;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    const position = positionOfBadBytes(content);
    throw new JsonFileError(
      path,
      `not valid UTF-8 at line ${position.line} column ${position.column}: ` +
        "expected JSON in UTF-8, found bytes that are not UTF-8",
      position,
    );
  }
}

/** Whether a parsed JSON value is an object (not null, not a list). */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A parsed JSON value in words, short enough for a message. */
export function describeJson(value: unknown): string {
  if (typeof value === "object" && value !== null) return typeOfJson(value);
  if (typeof value === "number") return String(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** The type of a parsed JSON value in words, for a message that must not quote it. */
export function typeOfJson(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** The value of a text, or what is wrong with it. V8's message is dropped: it quotes the text. */
function parse(text: string, nonFinite = false): { value?: unknown; fault?: JsonFault } {
  if (!isTooDeep(text)) {
    try {
      return { value: JSON.parse(text) };
    } catch {
      // Said below.
    }
    try {
      if (nonFinite) return { value: parseNonFinite(text) };
    } catch {
      // As well.
    }
  }
  return { fault: findFault(nonFinite ? maskNonFinite(text) : text) ?? { offset: 0, expected: "JSON" } };
}

function quote(text: string, offset: number): string {
  return JSON.stringify(text.slice(offset, offset + 12));
}

function positionOfBadBytes(bytes: Uint8Array): Position {
  const replaced = new TextEncoder().encode(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
  const bad = bytes.findIndex((byte, index) => byte !== replaced[index]);
  // A character may have begun before its first bad byte: as part of a stream it is left out.
  const before = new TextDecoder().decode(bytes.subarray(0, bad), { stream: true });
  return positionOf(before, before.length);
}
