/**
 * Where a model folder has its chat template.
 * @module
 */

import { join } from "node:path";
import { describeJson, isJsonObject, JsonFileError, readJsonIfThere } from "../../engine/io/json.ts";
import { FileReadError, readBytesIfThere } from "../../engine/io/read_file.ts";

/** A chat template that is missing, or that can't be parsed or rendered; the message names the file. */
export class ChatTemplateError extends Error {
  /** Always "ChatTemplateError". */
  override name = "ChatTemplateError";
}

/** The default of several templates in files of their own. */
export const DEFAULT_TEMPLATE = "additional_chat_templates/default.jinja";

/** The longest templates that models come with have 20,000 characters. */
const MOST_BYTES = 2 ** 20;
/** What looks for tags walks a run of white space once for each of its characters. */
const MOST_SPACES = 1000;

/** The text of a chat template, with line feeds at the ends of lines, and the file it is from. */
export interface TemplateSource {
  text: string;
  where: string;
}

/**
 * Finds the chat template of a model folder: `chat_template.jinja`, `additional_chat_templates/default.jinja`, `chat_template`
 * of tokenizer_config.json (a text, or a list of `{ name, template }` of which `default` is taken), or that of the
 * `chat_template.json` of older models with a processor. Undefined if there is none.
 * @throws ChatTemplateError naming the file that can't be read.
 */
export async function findTemplate(dir: string): Promise<TemplateSource | undefined> {
  for (const [name, read] of PLACES) {
    const where = join(dir, name);
    const text = await read(where);
    if (text !== undefined) return { text: checked(text, where), where };
  }
}

/** Where {@linkcode findTemplate} looks. */
const PLACES: readonly [string, (path: string) => Promise<string | undefined>][] = [
  ["chat_template.jinja", readText],
  [DEFAULT_TEMPLATE, readText],
  ["tokenizer_config.json", readField],
  ["chat_template.json", readField],
];

/** As Python opens a text file, and Jinja reads a template: every kind of line end is a line feed. */
function checked(source: string, where: string): string {
  const text = source.replace(/\r\n?/g, "\n");
  if (text.length > MOST_BYTES) {
    throw new ChatTemplateError(
      `${where}: expected a chat template of at most ${MOST_BYTES} characters, found ${text.length}`,
    );
  }
  const longest = (text.match(/\s+/g) ?? []).reduce((most, { length }) => Math.max(most, length), 0);
  if (longest > MOST_SPACES) {
    throw new ChatTemplateError(
      `${where}: expected a chat template without more than ${MOST_SPACES} spaces in a row, found ${longest}`,
    );
  }
  return text;
}

async function readText(where: string): Promise<string | undefined> {
  try {
    const bytes = await readBytesIfThere(where, { what: "the chat template", maxBytes: MOST_BYTES });
    // A byte order mark is a part of the text, as in Python.
    return bytes && new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    if (cause instanceof FileReadError) throw new ChatTemplateError(cause.message, { cause });
    throw new ChatTemplateError(`${where}: expected a chat template in UTF-8, found other bytes`, { cause });
  }
}

async function readField(where: string): Promise<string | undefined> {
  let config: unknown;
  try {
    config = await readJsonIfThere(where, { what: "the chat template", nonFinite: true });
  } catch (cause) {
    if (cause instanceof JsonFileError) throw new ChatTemplateError(cause.message, { cause });
    throw cause;
  }
  const template = isJsonObject(config) ? config.chat_template : undefined;
  if (template === undefined || template === null) return undefined;
  if (typeof template === "string") return template;
  if (!Array.isArray(template)) {
    throw new ChatTemplateError(
      `${where}: chat_template: expected a text or a list, found ${describeJson(template)}`,
    );
  }
  const named = template.filter(isJsonObject);
  // Of equal names the last counts, as in Python.
  const found = named.findLast(({ name }) => name === "default")?.template;
  if (typeof found === "string") return found;
  const names = named.slice(0, 20).map(({ name }) => describeJson(name)).join(", ");
  throw new ChatTemplateError(
    `${where}: chat_template: expected one with the name "default", found ${names || "none"}`,
  );
}
