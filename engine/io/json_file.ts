/** A JSON file that is missing, unreadable or malformed; the message names the file and the position. */
export class JsonFileError extends Error {
  override readonly name = "JsonFileError";
  constructor(readonly path: string, readonly reason: string, options?: ErrorOptions) {
    super(`${path}: ${reason}`, options);
  }
}

/** Reads and parses a JSON file. Throws JsonFileError naming the file, line and column. */
export async function readJson(path: string): Promise<unknown> {
  let bytes: Uint8Array;
  try {
    bytes = await Deno.readFile(path);
  } catch (cause) {
    const reason = cause instanceof Deno.errors.NotFound
      ? "does not exist"
      : `cannot be read: ${messageOf(cause)}`;
    throw new JsonFileError(path, reason, { cause });
  }
  return parseJson(path, bytes);
}

/** Reads a JSON file whose top level must be an object. Throws JsonFileError. */
export async function readJsonObject(path: string): Promise<Record<string, unknown>> {
  const value = await readJson(path);
  if (!isJsonObject(value)) {
    throw new JsonFileError(path, `expected a JSON object, found ${describeJson(value)}`);
  }
  return value;
}

/** Parses the content of the JSON file `path`. Throws JsonFileError naming the file, line and column. */
export function parseJson(path: string, bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new JsonFileError(path, "not valid UTF-8", { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    if (text.trim() === "") throw new JsonFileError(path, "expected JSON, found an empty file", { cause });
    const offset = faultOffset(text);
    const line = text.slice(0, offset).split("\n").length;
    const column = offset - text.lastIndexOf("\n", offset - 1);
    const found = offset >= text.length
      ? "the end of the file"
      : JSON.stringify(text.slice(offset, offset + 12));
    throw new JsonFileError(path, `not valid JSON at line ${line} column ${column}: unexpected ${found}`, {
      cause,
    });
  }
}

/** Whether a parsed JSON value is an object (not null, not a list). */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A parsed JSON value in words, short enough for a message. */
export function describeJson(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (isJsonObject(value)) return "an object";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

const SCALAR =
  // deno-lint-ignore no-control-regex
  /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

/**
 * Where malformed JSON goes wrong: the offset of the first token that cannot stand there. V8 gives a position
 * with some of its messages only.
 */
function faultOffset(text: string): number {
  const closers: string[] = [];
  let at = 0;
  let expecting: "value" | "first" | "key" | "colon" | "separator" = "value";
  while (true) {
    while (" \t\n\r".includes(text[at] ?? "x")) at++;
    const char = text[at];
    const closer = closers.at(-1);
    if (char === undefined) return text.length;
    if (expecting === "separator") {
      if (closer === undefined) return at;
      if (char === closer) closers.pop();
      else if (char !== ",") return at;
      else expecting = closer === "}" ? "key" : "value";
      at++;
    } else if (expecting === "colon") {
      if (char !== ":") return at;
      expecting = "value";
      at++;
    } else if (expecting === "first" && char === closer) {
      closers.pop();
      expecting = "separator";
      at++;
    } else if (closer === "}" && expecting !== "value") {
      SCALAR.lastIndex = at;
      if (char !== '"' || !SCALAR.test(text)) return at;
      at = SCALAR.lastIndex;
      expecting = "colon";
    } else if (char === "{" || char === "[") {
      closers.push(char === "{" ? "}" : "]");
      expecting = "first";
      at++;
    } else {
      SCALAR.lastIndex = at;
      if (!SCALAR.test(text)) return at;
      at = SCALAR.lastIndex;
      expecting = "separator";
    }
  }
}
