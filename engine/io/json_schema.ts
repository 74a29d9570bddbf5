/**
 * JSON files that a zod schema describes: what doesn't fit is named by field and by its place in the file.
 * @module
 */

import { type Node, parseTree } from "jsonc-parser";
import type { z } from "zod";
import {
  decodeJson,
  describeJson,
  isJsonObject,
  JsonFileError,
  type JsonOptions,
  parseJson,
  readJsonBytes,
} from "./json.ts";
import { positionOf } from "./json_fault.ts";
import { maskNonFinite } from "./json_non_finite.ts";

/** Reads a JSON file of a schema. Throws JsonFileError as `path: field.path: expected …, found … (line L column C)`. */
export async function readJsonAs<Schema extends z.ZodType>(
  path: string,
  schema: Schema,
  options: JsonOptions = {},
): Promise<z.output<Schema>> {
  return parseJsonAs(path, await readJsonBytes(path, options), schema, options);
}

/** Parses the content of the JSON file `path`, of a schema. Throws as {@linkcode readJsonAs}. */
export function parseJsonAs<Schema extends z.ZodType>(
  path: string,
  content: string | Uint8Array,
  schema: Schema,
  options: JsonOptions = {},
): z.output<Schema> {
  const text = decodeJson(path, content);
  const value = parseJson(path, text, options);
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const position = positionOf(
    text,
    nodeAt(parseTree(options.nonFinite ? maskNonFinite(text) : text)!, issue.path).offset,
  );
  const where = `(line ${position.line} column ${position.column})`;
  // A field's name may be content, and so may what a schema's own checks say.
  const problem = options.secret
    ? `expected ${expectedBy(issue) ?? "another value"}`
    : `${issue.path.join(".") || "content"}: ${problemOf(issue, valueAt(value, issue.path))}`;
  throw new JsonFileError(path, `${problem} ${where}`, position);
}

function problemOf(issue: z.core.$ZodIssue, value: unknown): string {
  const expected = expectedBy(issue);
  const found = value === undefined ? "nothing" : describeJson(value);
  if (expected !== undefined) return `expected ${expected}, found ${found}`;
  return issue.code === "custom" ? issue.message : `${issue.message}, found ${found}`;
}

/** What the schema alone says was expected. */
function expectedBy(issue: z.core.$ZodIssue): string | undefined {
  if (issue.code === "invalid_type") return `${issue.expected}`;
  if (issue.code === "invalid_value") return issue.values.map((value) => JSON.stringify(value)).join(" or ");
}

/** The node of a path, or the last one there is on the way to it. Of equal names the last counts, as for the value. */
function nodeAt(root: Node, path: readonly PropertyKey[]): Node {
  let node = root;
  for (const step of path) {
    const next = node.type === "array"
      ? node.children?.[step as number]
      : node.children?.findLast(({ children }) => children?.[0]?.value === step)?.children?.[1];
    if (next === undefined) break;
    node = next;
  }
  return node;
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (inner, step) =>
      (isJsonObject(inner) || Array.isArray(inner)) && Object.hasOwn(inner, step)
        ? (inner as Record<PropertyKey, unknown>)[step]
        : undefined,
    value,
  );
}
