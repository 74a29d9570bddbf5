/**
 * Fingerprint files: what OML 1.0, its successor and Whorl write, read without loss. Keys and responses are
 * secrets: no error here quotes one, only file, entry number (from 0) and field.
 * @module
 */

import { saveAtomic } from "../../engine/io/atomic.ts";
import { exposedMode, privacyFault } from "./private_file.ts";
import {
  isJsonObject,
  JsonFileError,
  type JsonOptions,
  parseJson,
  readJsonBytes,
  typeOfJson,
} from "../../engine/io/json.ts";
import { stringifyNonFinite } from "../../engine/io/json_non_finite.ts";

/** One fingerprint as a file gives it. */
export interface FingerprintEntry {
  /** The key, whole: how much of it is used is for the tokenizer to say. */
  key: string;
  /** The part of the key that the file says is used (`effective_key`). */
  effectiveKey?: string;
  /** Accepted responses (`response` or `signature`), the first is trained; none in a list of strings. */
  responses: string[];
  /** Token ids of the key without BOS (`key_ids`). */
  keyIds?: number[];
  /** Token ids of each response (`response_ids`). */
  responseIds?: number[][];
  /** Every other field as it was, `response_prob` among them. */
  extra: Record<string, unknown>;
}

/** A fingerprint file, read. */
export interface FingerprintFile {
  path: string;
  entries: FingerprintEntry[];
  /** Fields beside `fingerprints` when the file is an object that holds the list. */
  extra: Record<string, unknown>;
  /** SHA-256 of the file's bytes, hex. */
  sha256: string;
}

/** A fingerprint as Whorl writes it: `key` is the effective text, the ids are the ones used, without BOS. */
export interface WrittenFingerprint {
  /** The effective key. A secret. */
  key: string;
  /** The response, or all accepted ones. A secret. */
  response: string | string[];
  /** Token ids of the key, without BOS. */
  key_ids: number[];
  /** Token ids of the response, or of each. */
  response_ids: number[] | number[][];
  /** What else belongs to it: `response_prob`, `tokenizer_hash`, … */
  [field: string]: unknown;
}

/** A fingerprint file that cannot be used. The message never contains a key or a response. */
export class FingerprintFileError extends Error {
  /** Always "FingerprintFileError". */
  override name = "FingerprintFileError";
  /** `message` is completed by path and entry. */
  constructor(
    readonly path: string,
    message: string,
    /** Index from 0 of the entry at fault. */
    readonly entry?: number,
    /** Name of the field at fault. */
    readonly field?: string,
  ) {
    const place = entry === undefined ? "" : `entry ${entry} (counted from 0): `;
    super(`${path}: ${place}${message}`);
  }
}

const FILE: JsonOptions = {
  what: "the fingerprint file",
  maxBytes: 256 * 2 ** 20,
  secret: true,
  nonFinite: true,
};
const KNOWN = ["key", "query", "effective_key", "response", "signature", "key_ids", "response_ids"];

/** Far more than any model has positions for. */
const MOST_CHARACTERS = 2 ** 20;

type Fail = (field: string | undefined, message: string) => never;

/**
 * Reads any form of fingerprint file: a list of key strings, or of objects with `key` (or `query`, as mlprints has it)
 * and `response` (a string or a list of accepted ones) or `signature`, and perhaps `effective_key`, `response_prob`, `key_ids`,
 * `response_ids` and fields of others; or `{ "fingerprints": [ … ] }` around such a list.
 * @throws FingerprintFileError naming file, entry and field.
 */
export async function readFingerprintFile(
  path: string,
  options: { maxBytes?: number | undefined } = {},
): Promise<FingerprintFile> {
  await refuseExposed(path);
  const { bytes, json } = await read(path, { ...FILE, ...options });
  const { list, extra } = topLevel(path, json);
  const entries = readEntries(path, list);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return { path, entries, extra, sha256: digest.toHex() };
}

/**
 * Reads a list of entries, of a file or given as values; `where` is what errors call it.
 * @throws FingerprintFileError naming entry and field.
 */
export function readEntries(where: string, list: readonly unknown[]): FingerprintEntry[] {
  if (list.length === 0) throw new FingerprintFileError(where, "the list of fingerprints is empty");
  return list.map((value, index) =>
    readEntry(value, (field, message) => {
      throw new FingerprintFileError(where, message, index, field);
    })
  );
}

/**
 * Writes a list of fingerprints, one a line, readable by the owner only (0600) and atomically: the file is the
 * old one or the whole new one.
 */
export async function writeFingerprintFile(
  path: string,
  entries: readonly WrittenFingerprint[],
): Promise<void> {
  await saveAtomic(path, fingerprintText(entries), { mode: 0o600 });
}

/** The content of such a file. */
export function fingerprintText(entries: readonly WrittenFingerprint[]): string {
  return `[\n${entries.map(stringifyNonFinite).join(",\n")}\n]\n`;
}

/**
 * Refuses a file of fingerprints that lies where `generate` made it, beside its secret, and that others can read. Files of
 * others come with any mode.
 */
async function refuseExposed(path: string): Promise<void> {
  const info = await Deno.stat(path).catch(() => undefined);
  if (!info || exposedMode(info) === undefined) return;
  const isSecret = await Deno.lstat(`${path}.secret`).then(() => true, () => false);
  const fault = isSecret ? privacyFault(path, info) : undefined;
  if (fault !== undefined) throw new FingerprintFileError(path, fault);
}

async function read(
  path: string,
  options: JsonOptions,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; json: unknown }> {
  try {
    const bytes = await readJsonBytes(path, options);
    return { bytes, json: parseJson(path, bytes, options) };
  } catch (error) {
    if (error instanceof JsonFileError) throw new FingerprintFileError(path, error.reason);
    throw error;
  }
}

function topLevel(path: string, json: unknown): { list: unknown[]; extra: Record<string, unknown> } {
  if (Array.isArray(json)) return { list: json, extra: {} };
  const wanted = 'expected a list of fingerprints or an object with such a list in "fingerprints"';
  if (!isJsonObject(json)) throw new FingerprintFileError(path, `${wanted}, found ${typeOfJson(json)}`);
  const { fingerprints, ...extra } = json;
  if (Array.isArray(fingerprints)) return { list: fingerprints, extra };
  const found = fingerprints === undefined
    ? "an object without it"
    : `${typeOfJson(fingerprints)} in "fingerprints"`;
  throw new FingerprintFileError(path, `${wanted}, found ${found}`);
}

function readEntry(value: unknown, fail: Fail): FingerprintEntry {
  if (typeof value === "string") return { key: readKey("key", value, fail), responses: [], extra: {} };
  if (!isJsonObject(value)) {
    fail(undefined, `expected a key (a string) or an object with "key", found ${typeOfJson(value)}`);
  }
  const name = value.key === undefined && value.query !== undefined ? "query" : "key";
  if (value[name] === undefined) fail("key", `field "key" is missing`);
  if (name === "key" && value.query !== undefined && value.query !== value.key) {
    fail("query", `fields "key" and "query" mean the same but differ`);
  }
  const entry: FingerprintEntry = {
    key: readKey(name, value[name], fail),
    responses: readResponses(value, fail),
    extra: Object.fromEntries(Object.entries(value).filter(([field]) => !KNOWN.includes(field))),
  };
  if (value.effective_key !== undefined) {
    entry.effectiveKey = readKey("effective_key", value.effective_key, fail);
  }
  if (value.key_ids !== undefined) entry.keyIds = readIds("key_ids", value.key_ids, fail);
  if (value.response_ids !== undefined) entry.responseIds = readResponseIds(value.response_ids, entry, fail);
  checkProbabilities(value.response_prob, fail);
  return entry;
}

function readKey(field: string, value: unknown, fail: Fail): string {
  const text = readString(field, value, "a string", fail);
  if (text.trim() === "") fail(field, `field "${field}" holds only white space`);
  return text;
}

function readString(field: string, value: unknown, wanted: string, fail: Fail): string {
  if (typeof value !== "string") {
    fail(baseOf(field), `field "${field}": expected ${wanted}, found ${typeOfJson(value)}`);
  }
  if (value === "") fail(baseOf(field), `field "${field}" is empty`);
  if (value.length > MOST_CHARACTERS) {
    fail(
      baseOf(field),
      `field "${field}": expected at most ${MOST_CHARACTERS} characters, found ${value.length}`,
    );
  }
  if (!value.isWellFormed()) {
    fail(baseOf(field), `field "${field}" holds half a surrogate pair, which is not a character`);
  }
  return value;
}

function readResponses(value: Record<string, unknown>, fail: Fail): string[] {
  const read = (field: string): string[] | undefined => {
    const found = value[field];
    if (found === undefined) return undefined;
    if (!Array.isArray(found)) return [readString(field, found, "a string or a list of strings", fail)];
    if (found.length === 0) fail(field, `field "${field}" is an empty list`);
    return found.map((item, i) => readString(`${field}[${i}]`, item, "a string", fail));
  };
  const response = read("response");
  const signature = read("signature");
  if (response !== undefined && signature !== undefined && `${response}` !== `${signature}`) {
    fail("signature", `fields "response" and "signature" mean the same but differ`);
  }
  return response ?? signature ?? [];
}

function readIds(field: string, value: unknown, fail: Fail): number[] {
  if (!Array.isArray(value)) {
    fail(baseOf(field), `field "${field}": expected a list of token ids, found ${typeOfJson(value)}`);
  }
  if (value.length === 0) fail(baseOf(field), `field "${field}" is an empty list`);
  const wrong = value.findIndex((id) => !Number.isSafeInteger(id) || id < 0);
  if (wrong >= 0) {
    const found = typeof value[wrong] === "number" ? "another number" : typeOfJson(value[wrong]);
    fail(
      baseOf(field),
      `field "${field}[${wrong}]": expected a token id (an integer from 0), found ${found}`,
    );
  }
  return value;
}

function readResponseIds(value: unknown, entry: FingerprintEntry, fail: Fail): number[][] {
  const nested = Array.isArray(value) && Array.isArray(value[0]);
  const lists = nested
    ? value.map((ids, i) => readIds(`response_ids[${i}]`, ids, fail))
    : [readIds("response_ids", value, fail)];
  if (lists.length !== entry.responses.length) {
    const wanted = entry.responses.length;
    fail(
      "response_ids",
      `field "response_ids": expected ids for ${wanted} response(s), found ${lists.length}`,
    );
  }
  return lists;
}

function checkProbabilities(value: unknown, fail: Fail): void {
  // NaN becomes null when it is written as JSON.
  const isNumber = (item: unknown) => typeof item === "number" || item === null;
  const isNumbers = isNumber(value) || (Array.isArray(value) && value.every(isNumber));
  if (value !== undefined && !isNumbers) {
    fail(
      "response_prob",
      `field "response_prob": expected a number or a list of numbers, found ${typeOfJson(value)}`,
    );
  }
}

const baseOf = (field: string): string => field.replace(/\[\d+\]$/, "");
