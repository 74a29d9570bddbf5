/**
 * Prompt templates: texts around a key, so that a fingerprint answers inside other prompts too.
 * @module
 */

import { fileURLToPath } from "node:url";
import { JsonFileError, readJson } from "../../engine/io/json.ts";
import { randomInt } from "../../engine/tensor/random.ts";

/**
 * Turns the text of a question into token ids, up to where the answer begins. A `Tokenizer` is the plain one;
 * a `ChatTemplate` makes the text a user's message.
 */
export interface PromptEncoder {
  /** Ids before those of every text: BOS, or nothing where the encoded text has its own. */
  readonly prefixIds: readonly number[];
  /** @throws UntokenizableError when the text can't be asked. */
  encode(text: string): number[];
  /** Ids of a fingerprint's key as it is asked: in plain text its own. */
  askedIds(fingerprint: { readonly key: string; readonly keyIds: readonly number[] }): readonly number[];
}

/** Where the key goes in a template. */
const KEY_PLACE = "{}";

/** The templates that come with Whorl: those to train with and those held out to check with. */
export const PROMPT_FILES: Readonly<Record<"train" | "test", URL>> = {
  train: new URL("../../assets/prompts/train.json", import.meta.url),
  test: new URL("../../assets/prompts/test.json", import.meta.url),
};

/**
 * Reads a JSON list of templates, each with exactly one `{}`.
 * @throws TypeError naming the file and the number (from 0) of the template at fault.
 */
export async function loadPrompts(path: string | URL = PROMPT_FILES.train): Promise<string[]> {
  const where = path instanceof URL ? fileURLToPath(path) : path;
  let json: unknown;
  try {
    json = await readJson(where, { what: "the prompt templates" });
  } catch (cause) {
    if (cause instanceof JsonFileError) throw new TypeError(cause.message, { cause });
    throw cause;
  }
  if (!Array.isArray(json) || json.length === 0) {
    throw new TypeError(`${where}: expected a list of at least one prompt template`);
  }
  json.forEach((template, i) => {
    if (typeof template !== "string") {
      throw new TypeError(`${where}: template ${i}: expected a string, found ${typeof template}`);
    }
    const places = template.split(KEY_PLACE).length - 1;
    if (places !== 1) {
      throw new TypeError(`${where}: template ${i}: expected exactly one ${KEY_PLACE}, found ${places}`);
    }
  });
  return json;
}

/** The template with the key in its place. */
export function fillTemplate(template: string, key: string): string {
  const at = template.indexOf(KEY_PLACE);
  return template.slice(0, at) + key + template.slice(at + KEY_PLACE.length);
}

/**
 * Token ids of a key inside a template, without the encoder's `prefixIds`: the whole text is encoded anew,
 * since tokens may form across the seam. In a chat the template is part of the user's message.
 */
export function templateIds(template: string, key: string, prompts: PromptEncoder): number[] {
  return prompts.encode(fillTemplate(template, key));
}

/**
 * How a fingerprint is shown in an epoch: undefined for the plain key, else a template. A fingerprint is
 * plain in every other epoch, and in each epoch half of the fingerprints are; the template is drawn afresh
 * for each (seed, fingerprint, epoch), so a resumed run draws the same ones.
 */
export function pickTemplate(
  templates: readonly string[],
  seed: number,
  fingerprintIndex: number,
  epoch: number,
): string | undefined {
  if ((fingerprintIndex + epoch) % 2 === 0) return undefined;
  return templates[randomInt(templates.length, seed, TEMPLATE_STREAM, fingerprintIndex, epoch)];
}

/** Keeps the templates' numbers apart from others drawn with the same seed. */
const TEMPLATE_STREAM = 0x7e3f;
