import {
  decodeJson,
  describeJson,
  isJsonObject,
  JsonFileError,
  parseJson,
  parseJsonLines,
  readJsonBytes,
} from "../../engine/io/json.ts";

/** A file of benign texts, read. */
export interface BenignFile {
  path: string;
  /** Its texts, those of white space alone left out. */
  texts: string[];
  /** SHA-256 of the file's bytes, hex. */
  sha256: string;
}

const FILE = { what: "the benign texts", maxBytes: 256 * 2 ** 20 };
const LINES = { expected: "one JSON value, as JSON Lines has it, or a JSON list" };

/**
 * Reads benign texts: a JSON list, or JSON Lines, of strings or of objects with `text` (or `key`, as the
 * successor of OML 1.0 has it); other fields are ignored.
 * @throws JsonFileError naming file, entry (from 0) and what was expected.
 */
export async function readBenignFile(path: string): Promise<BenignFile> {
  const bytes = await readJsonBytes(path, FILE);
  const texts = parseEntries(path, bytes).map((value, index) => {
    const text = isJsonObject(value) ? value.text ?? value.key : value;
    const problem = typeof text !== "string"
      ? `expected a text (a string) or an object with "text", found ${described(value)}`
      : text.isWellFormed()
      ? undefined
      : "holds half a surrogate pair, which is not a character";
    if (problem) throw new JsonFileError(path, `entry ${index} (counted from 0): ${problem}`);
    return text as string;
  }).filter((text) => text.trim() !== "");
  if (!texts.length) throw new JsonFileError(path, "there is no benign text in it");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return { path, texts, sha256: digest.toHex() };
}

/** Values of a list, or of the lines of JSON Lines. */
function parseEntries(path: string, bytes: Uint8Array): unknown[] {
  const text = decodeJson(path, bytes);
  const first = text.trimStart()[0];
  if (first === "{" || first === '"') return parseJsonLines(path, text, LINES);
  const json = parseJson(path, text);
  if (Array.isArray(json)) return json;
  throw new JsonFileError(path, `expected a JSON list or JSON Lines of texts, found ${describeJson(json)}`);
}

function described(value: unknown): string {
  if (!isJsonObject(value)) return describeJson(value);
  return "text" in value || "key" in value ? "an object in which it is none" : "an object without it";
}
