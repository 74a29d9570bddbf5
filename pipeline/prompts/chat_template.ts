/**
 * Asking an instruct model through its chat template: a key becomes a user's message, and the question ends
 * where the assistant's answer begins.
 * @module
 */

import { join } from "node:path";
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { isJsonObject, JsonFileError, readJsonIfThere } from "../../engine/io/json.ts";
import type { PromptEncoder } from "./prompts.ts";
import { type Tokenizer, UntokenizableError } from "../tokenizer/tokenizer.ts";

/** A chat template that is missing, or that can't be parsed or rendered; the message names the file. */
export class ChatTemplateError extends Error {
  /** Always "ChatTemplateError". */
  override name = "ChatTemplateError";
}

/**
 * The chat template of a model folder, rendered as Transformers' `apply_chat_template` does it for one user's
 * message with `add_generation_prompt`. The template writes its own BOS, so nothing is put before its tokens;
 * if it writes none, there is none.
 *
 * A template that asks for today's date gets 26 July 2024, the default that Llama 3.1's template has itself:
 * a key must give the same tokens on every day.
 */
export class ChatTemplate implements PromptEncoder {
  readonly prefixIds: readonly number[] = [];

  readonly #template: Template;
  readonly #tokenizer: Tokenizer;
  readonly #where: string;
  /** Special tokens of the template around any message. */
  readonly #marks: string;

  private constructor(source: string, tokenizer: Tokenizer, where: string) {
    this.#tokenizer = tokenizer;
    this.#where = where;
    try {
      this.#template = new Template(source);
    } catch (cause) {
      throw new ChatTemplateError(`${where}: cannot parse the chat template: ${(cause as Error).message}`, {
        cause,
      });
    }
    if (this.render("a") === this.render("b")) {
      throw new ChatTemplateError(`${where}: the chat template does not show the user's message`);
    }
    this.#marks = this.#marksIn(tokenizer.encode(this.render("a")));
  }

  /**
   * Reads `chat_template.jinja` of a model folder, or `chat_template` of its tokenizer_config.json: a text,
   * or a list of `{ name, template }` of which `default` is taken.
   * @throws ChatTemplateError when there is none, naming the files looked at, or when it can't be rendered.
   */
  static async load(dir: string, tokenizer: Tokenizer): Promise<ChatTemplate> {
    const file = join(dir, "chat_template.jinja");
    const config = join(dir, "tokenizer_config.json");
    const source = await readText(file);
    if (source !== undefined) return new ChatTemplate(source, tokenizer, file);
    const found = await fromConfig(config);
    if (found === undefined) {
      throw new ChatTemplateError(
        `this model has no chat template: there is no ${file}, and no "chat_template" in ${config}`,
      );
    }
    return new ChatTemplate(found, tokenizer, config);
  }

  /**
   * Token ids of the whole question for a user's message, BOS included where the template has one.
   * @throws UntokenizableError when the message has text that would be read as a special token.
   * @throws ChatTemplateError when the template refuses the message.
   */
  encode(text: string): number[] {
    const ids = this.#tokenizer.encode(this.render(text));
    const token = this.#tokenizer.specialTokenIn(text);
    // Compared, too: message and template could make a special token together.
    if (token !== undefined || this.#marksIn(ids) !== this.#marks) {
      throw new UntokenizableError(
        `a chat message can't have text of a special token${token === undefined ? "" : ` (${token})`}`,
      );
    }
    return ids;
  }

  /** The key as a user's message. */
  askedIds({ key }: { readonly key: string }): readonly number[] {
    return this.encode(key);
  }

  /** The text that is tokenised for a user's message. */
  render(text: string): string {
    const environment = new Environment();
    const values = {
      ...GLOBALS,
      ...Object.fromEntries(this.#tokenizer.namedTokens),
      messages: [{ role: "user", content: text }],
      add_generation_prompt: true,
      tools: null,
      documents: null,
    };
    for (const [name, value] of Object.entries(values)) environment.set(name, value);
    try {
      const { value } = new Interpreter(environment).run(this.#template.parsed);
      return String(value);
    } catch (cause) {
      throw new ChatTemplateError(
        `${this.#where}: cannot render the chat template: ${(cause as Error).message}`,
        { cause },
      );
    }
  }

  #marksIn(ids: readonly number[]): string {
    return ids.filter((id) => this.#tokenizer.isSpecial(id)).join();
  }
}

/**
 * What every template sees. The library's own `strftime_now` tells today's date and can't be replaced in
 * `render`.
 */
const GLOBALS = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  raise_exception(message: string) {
    throw new Error(message);
  },
  range(start: number, stop?: number, step = 1) {
    const [first, end] = stop === undefined ? [0, start] : [start, stop];
    return Array.from({ length: Math.max(0, Math.ceil((end - first) / step)) }, (_, i) => first + i * step);
  },
  strftime_now(format: string) {
    return format.replace(/%(-?[A-Za-z]|%)/g, (_, directive: string) => {
      const text = directive === "%" ? "%" : FIXED_DATE[directive];
      if (text === undefined) throw new Error(`strftime_now: %${directive} is not supported`);
      return text;
    });
  },
};

/** Friday, 26 July 2024, 0:00, by Python's strftime directives. */
const FIXED_DATE: Readonly<Record<string, string>> = {
  d: "26",
  "-d": "26",
  e: "26",
  m: "07",
  "-m": "7",
  Y: "2024",
  y: "24",
  j: "208",
  a: "Fri",
  A: "Friday",
  b: "Jul",
  B: "July",
  H: "00",
  I: "12",
  p: "AM",
  M: "00",
  S: "00",
  Z: "UTC",
};

async function fromConfig(where: string): Promise<string | undefined> {
  let config: unknown;
  try {
    config = await readJsonIfThere(where, { what: "the chat template", nonFinite: true });
  } catch (cause) {
    if (cause instanceof JsonFileError) throw new ChatTemplateError(cause.message, { cause });
    throw cause;
  }
  const template = isJsonObject(config) ? config.chat_template : undefined;
  if (template === undefined || template === null || typeof template === "string") {
    return template ?? undefined;
  }
  if (!Array.isArray(template)) {
    throw new ChatTemplateError(
      `${where}: chat_template: expected a text or a list, found ${typeof template}`,
    );
  }
  const named = template.find((one) => one?.name === "default")?.template;
  if (typeof named !== "string") {
    const names = template.map((one) => one?.name).join(", ");
    throw new ChatTemplateError(
      `${where}: chat_template: expected one with the name "default", found ${names}`,
    );
  }
  return named;
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return undefined;
    throw new ChatTemplateError(`${path}: cannot read: ${(cause as Error).message}`, { cause });
  }
}

/** How a model is asked: through its chat template, or in plain text. @throws ChatTemplateError when there is none. */
export async function promptEncoder(
  useChatTemplate: boolean,
  dir: string,
  tokenizer: Tokenizer,
): Promise<PromptEncoder> {
  return useChatTemplate ? await ChatTemplate.load(dir, tokenizer) : tokenizer;
}
