/**
 * Which models a run of generation needs, and for what.
 * @module
 */

import { join } from "node:path";
import { readJsonObject } from "../../../engine/io/json.ts";
import { ChatTemplate, promptEncoder } from "../../prompts/chat_template.ts";
import { SettingsError } from "../../settings/parse.ts";
import { DEMO_MODEL } from "../../settings/demo_assets.ts";
import { type ModelSource, type ModelSourceHooks, resolveModel } from "../../hub/model_source.ts";
import type { PromptEncoder } from "../../prompts/prompts.ts";
import { Tokenizer } from "../../tokenizer/tokenizer.ts";
import type { GenerateSettings } from "./settings.ts";

/** Model folders by what they are for; two may be one. */
export interface Sources {
  /** The model to be fingerprinted: its tokenizer and its prompts. */
  target: ModelSource;
  tokenizer: Tokenizer;
  prompts: PromptEncoder;
  /** The model whose probabilities count. */
  base: ModelSource;
  /** The model that writes texts, if any are wanted. */
  writer?: { source: ModelSource; tokenizer: Tokenizer; chat?: PromptEncoder | undefined };
}

/**
 * Finds them, downloading what is on the Hub. The model to be fingerprinted is that of `model_path` or its
 * family; else, as in OML 1.0's commands, the one whose distributions are wanted, or the one that writes;
 * else the demo model.
 * @throws SettingsError, TokenizerError, ChatTemplateError, HubError and their kin
 */
export async function findSources(
  settings: GenerateSettings,
  hooks: ModelSourceHooks = {},
): Promise<Sources> {
  const at = async (setting: "perinucleus_model" | "model_used_for_key_generation") => {
    try {
      return await resolveModel({ model_path: settings[setting] }, hooks);
    } catch (error) {
      if (!(error instanceof SettingsError)) throw error;
      throw new SettingsError(error.message.replace(/^model_path/, setting));
    }
  };
  const isWritten = settings.keys === "english" || settings.responses === "english";
  const [own, distributions, key] = [
    await resolveModel(settings, hooks),
    await at("perinucleus_model"),
    isWritten ? await at("model_used_for_key_generation") : null,
  ];
  const target = own ?? distributions ?? key ?? { dir: DEMO_MODEL, name: "the demo model" };
  const base = distributions ?? target;
  const tokenizer = await Tokenizer.load(target.dir);
  if (base !== target && (await Tokenizer.load(base.dir)).hash !== tokenizer.hash) {
    throw new SettingsError(
      `perinucleus_model: ${base.name} has another tokenizer than ${target.name}, so its distributions are ` +
        "not over the tokens that are trained; expected a model with the same tokenizer.json",
    );
  }
  const prompts = await promptEncoder(settings.use_chat_template, target.dir, tokenizer);
  if (!isWritten) return { target, tokenizer, prompts, base };
  const source = key ?? target;
  if (source.dir === target.dir) {
    const chat = settings.use_chat_template ? prompts : undefined;
    return { target, tokenizer, prompts, base, writer: { source, tokenizer, chat } };
  }
  const writerTokenizer = await Tokenizer.load(source.dir);
  // A writer of its own is mostly an instruct model; one without a template can only continue a text.
  const chat = await hasChatTemplate(source.dir)
    ? await ChatTemplate.load(source.dir, writerTokenizer)
    : undefined;
  return { target, tokenizer, prompts, base, writer: { source, tokenizer: writerTokenizer, chat } };
}

async function hasChatTemplate(dir: string): Promise<boolean> {
  const isFile = await Deno.stat(join(dir, "chat_template.jinja")).then(({ isFile }) => isFile, () => false);
  if (isFile) return true;
  const config = await readJsonObject(join(dir, "tokenizer_config.json"), {
    what: "the tokenizer",
    nonFinite: true,
  });
  return config.chat_template !== undefined && config.chat_template !== null;
}
