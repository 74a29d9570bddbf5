/** JSON documents with one value replaced: what files hold that were damaged, made by hand, or meant to harm. */

import assert from "node:assert/strict";

const HUGE: unknown[] = new Array(200_000).fill(0);

/** What each value is replaced by, with what to call it. */
export const REPLACEMENTS: readonly [string, unknown][] = [
  ["nothing", undefined],
  ["null", null],
  ["a string", "x"],
  ["an empty string", ""],
  ["true", true],
  ["-1", -1],
  ["0.5", 0.5],
  ["1e9", 1e9],
  ["1e308", 1e308],
  ["[]", []],
  ["{}", {}],
  ["[null]", [null]],
  ["[[]]", [[]]],
  ["a huge list", HUGE],
];

/** A document with one value replaced. */
export interface Mutant {
  /** Where, and by what. */
  what: string;
  json: unknown;
}

/** Every value of a document replaced in turn; of a list and of an object only the first `most` entries. */
export function* mutants(json: unknown, most = 40, path: readonly string[] = []): Generator<Mutant> {
  for (const [name, value] of REPLACEMENTS) {
    if (path.length > 0 || value !== undefined) {
      yield { what: `${path.join(".") || "all"}: ${name}`, json: value };
    }
  }
  if (typeof json !== "object" || json === null) return;
  for (const [key, value] of Object.entries(json).slice(0, most)) {
    for (const { what, json: changed } of mutants(value, most, [...path, key])) {
      const copy: Record<string, unknown> | unknown[] = Array.isArray(json) ? [...json] : { ...json };
      if (changed === undefined && !Array.isArray(copy)) delete copy[key];
      else (copy as Record<string, unknown>)[key] = changed ?? null;
      yield { what, json: copy };
    }
  }
}

/** An error that a reader may throw; the message has to name the file. */
export type ErrorClass = new (...args: never[]) => Error;

/**
 * Reads every mutant. What is thrown must be one of these classes, say which file is wrong, and be short enough to read.
 * @returns how many mutants were refused
 */
export async function refuseOrRead(
  json: unknown,
  file: string,
  classes: readonly ErrorClass[],
  read: (mutant: unknown) => unknown,
  most?: number,
): Promise<number> {
  let refused = 0;
  for (const { what, json: mutant } of mutants(json, most)) {
    try {
      await read(mutant);
    } catch (error) {
      assert.ok(
        error instanceof Error && classes.some((one) => error.constructor === one),
        `${what}: ${error}`,
      );
      assert.ok(error.message.includes(file), `${what}: ${error.message}`);
      assert.ok(error.message.length < 600, `${what}: ${error.message.slice(0, 600)}`);
      refused++;
    }
  }
  return refused;
}
