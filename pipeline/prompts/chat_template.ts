/**
 * Asking an instruct model through its chat template: a key becomes a user's message, and the question ends
 * where the assistant's answer begins.
 * @module
 */

import { join } from "node:path";
import type { PromptEncoder } from "./prompts.ts";
import { parseTemplate, renderTemplate } from "./render.ts";
import { ChatTemplateError, findTemplate, type TemplateSource } from "./template_source.ts";
import { type Tokenizer, UntokenizableError } from "../tokenizer/tokenizer.ts";

export { ChatTemplateError };

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

  readonly #template: ReturnType<typeof parseTemplate>;
  readonly #tokenizer: Tokenizer;
  readonly #where: string;
  /** Special tokens of the template around any message. */
  readonly #marks: string;

  private constructor({ text, where }: TemplateSource, tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    this.#where = where;
    try {
      this.#template = parseTemplate(text);
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
   * Reads the chat template of a model folder, see {@linkcode findTemplate}.
   * @throws ChatTemplateError when there is none, naming the files looked at, or when it can't be rendered.
   */
  static async load(dir: string, tokenizer: Tokenizer): Promise<ChatTemplate> {
    const chat = await ChatTemplate.loadIfThere(dir, tokenizer);
    if (chat !== undefined) return chat;
    throw new ChatTemplateError(
      `this model has no chat template: there is no ${join(dir, "chat_template.jinja")}, and no ` +
        `"chat_template" in ${join(dir, "tokenizer_config.json")}`,
    );
  }

  /** As {@linkcode ChatTemplate.load}; undefined if there is none. */
  static async loadIfThere(dir: string, tokenizer: Tokenizer): Promise<ChatTemplate | undefined> {
    const source = await findTemplate(dir);
    return source && new ChatTemplate(source, tokenizer);
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
    const { namedTokens, furtherTokens } = this.#tokenizer;
    const variables = {
      ...(furtherTokens.length > 0 ? { additional_special_tokens: furtherTokens } : {}),
      ...Object.fromEntries(namedTokens),
      messages: [{ role: "user", content: text }],
      add_generation_prompt: true,
      tools: null,
      documents: null,
    };
    try {
      return renderTemplate(this.#template, variables, text.length);
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

/** How a model is asked: through its chat template, or in plain text. @throws ChatTemplateError when there is none. */
export async function promptEncoder(
  useChatTemplate: boolean,
  dir: string,
  tokenizer: Tokenizer,
): Promise<PromptEncoder> {
  return useChatTemplate ? await ChatTemplate.load(dir, tokenizer) : tokenizer;
}
