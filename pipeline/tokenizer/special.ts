/**
 * Which tokens are special and which go around a text: tokenizer.json's added tokens and post-processor, with
 * what tokenizer_config.json says of them, as Transformers 5 joins the two.
 * @module
 */

import type { AddedToken } from "./added.ts";
import { TokenizerError } from "./errors.ts";
import { asObject, type Json, steps } from "./json.ts";
import type { TokenizerModel } from "./model.ts";

const NAMED = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/** Texts of the named special tokens by field (`bos_token`, …), as a chat template sees them. */
export function namedTokens(config: Json): Map<string, string> {
  return new Map(NAMED.flatMap((field) => {
    const content = tokenContent(config[field]);
    return content === undefined ? [] : [[field, content]];
  }));
}

/** A token in tokenizer_config.json is a string or `{ content }`. */
function tokenContent(value: unknown): string | undefined {
  if (typeof value === "object" && value !== null && "content" in value) value = value.content;
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** Special tokens of tokenizer_config.json that have no name, or one of the model's own. */
function furtherTokens(config: Json): string[] {
  const { additional_special_tokens: additional, extra_special_tokens: extra } = config;
  const listed = [additional, extra].flatMap((list) =>
    Array.isArray(list) ? list : typeof list === "object" && list !== null ? Object.values(list) : []
  );
  const own = Object.entries(config).filter(([field]) => field.endsWith("_token")).map(([, value]) => value);
  return [...listed, ...own].map(tokenContent).filter((content) => content !== undefined);
}

/**
 * The added tokens, and the texts of all special ones. Flags in tokenizer_config.json's
 * `added_tokens_decoder` win. A special token that only the config names (a padding token, say) gets the id
 * after the last, which the model may have no embedding for; one that the config merely lists has a text, and
 * an id only when the vocabulary has it.
 * @throws TokenizerError when an id is not the one that Hugging Face's library would give.
 */
export function readAddedTokens(
  json: Json,
  config: Json,
  model: TokenizerModel,
  where: string,
): { tokens: AddedToken[]; specialTexts: Set<string> } {
  const tokens = new Map<string, AddedToken>();
  let next = model.count;
  const add = (entry: Json, what: string) => {
    const { content, id, special = false, normalized = !special } = entry;
    if (typeof content !== "string" || !Number.isInteger(id)) {
      throw new TokenizerError(`${what}: expected a content and an id, found ${JSON.stringify(entry)}`);
    }
    const given = tokens.get(content)?.id ?? model.idOf(content) ?? next;
    if (given !== id) {
      throw new TokenizerError(
        `${what}: the added token ${content} has id ${id}, but ids go on from the vocabulary: ` +
          `expected ${given}`,
      );
    }
    if (given === next) next++;
    const flag = (name: string) => entry[name] === true;
    tokens.set(content, {
      id: given,
      content,
      special: special === true,
      normalized: normalized === true,
      single_word: flag("single_word"),
      lstrip: flag("lstrip"),
      rstrip: flag("rstrip"),
    });
  };
  const list = json.added_tokens ?? [];
  if (!Array.isArray(list)) throw new TokenizerError(`${where}: added_tokens: expected a list`);
  for (const entry of list) add(asObject(entry, `${where}: added_tokens`), `${where}: added_tokens`);
  const decoder = Object.entries(asObject(config.added_tokens_decoder ?? {}, "added_tokens_decoder"));
  decoder.sort(([a], [b]) => Number(a) - Number(b)).forEach(([id, entry]) => {
    const what = "tokenizer_config.json: added_tokens_decoder";
    add({ ...asObject(entry, what), id: Number(id) }, what);
  });

  for (const field of NAMED) {
    const content = tokenContent(config[field]);
    if (content === undefined) continue;
    const token = tokens.get(content);
    if (token) token.special = true;
    else {
      const flags = typeof config[field] === "object" ? config[field] : {};
      const id = model.idOf(content) ?? next;
      add({ normalized: false, ...flags, content, id, special: true }, `tokenizer_config.json: ${field}`);
    }
  }
  const further = furtherTokens(config);
  for (const content of further) {
    const token = tokens.get(content);
    const id = model.idOf(content);
    if (token) token.special = true;
    else if (id !== undefined) add({ content, id, special: true }, "tokenizer_config.json");
  }
  const special = tokens.values().filter((token) => token.special).map(({ content }) => content);
  return { tokens: [...tokens.values()], specialTexts: new Set([...special, ...further]) };
}

/**
 * What the post-processor of tokenizer.json puts before and after a text. `add_bos_token` and `add_eos_token`
 * of tokenizer_config.json have no say where there is a tokenizer.json, as in Transformers 5.
 * @throws TokenizerError when it does more than that.
 */
export function readAround(
  json: unknown,
  vocabSize: number,
  where: string,
): { prefix: number[]; suffix: number[] } {
  const what = `${where}: post_processor`;
  const adding = steps(json, "processors", what).filter(({ type }) => type !== "ByteLevel");
  if (adding.length === 0) return { prefix: [], suffix: [] };
  if (adding.length > 1) throw new TokenizerError(`${what}: more than one step adds tokens: not supported`);
  const [step] = adding;
  const around = readStep(step!, what);
  const wrong = [...around.prefix, ...around.suffix].find((id) => !(Number.isInteger(id) && id < vocabSize));
  if (wrong !== undefined) {
    throw new TokenizerError(`${what}: it adds a token that is not in the vocabulary: id ${wrong}`);
  }
  return around;
}

function readStep(step: Json, what: string): { prefix: number[]; suffix: number[] } {
  if (step.type === "BertProcessing" || step.type === "RobertaProcessing") {
    const idOf = (value: unknown) => Array.isArray(value) ? value[1] : value;
    return { prefix: [idOf(step.cls)], suffix: [idOf(step.sep)] };
  }
  if (step.type !== "TemplateProcessing") {
    throw new TokenizerError(`${what}: this tokenizer is not supported: ${step.type}`);
  }
  const special = asObject(step.special_tokens ?? {}, `${what}: special_tokens`);
  const items = Array.isArray(step.single) ? step.single.map((item) => asObject(item, what)) : [];
  const places = items.flatMap((item, i) => "Sequence" in item ? [i] : []);
  if (places.length !== 1) {
    throw new TokenizerError(
      `${what}: expected a template with the text once, found it ${places.length} times`,
    );
  }
  const idsOf = (item: Json): number[] => {
    const { id } = asObject(item.SpecialToken, `${what}: single`);
    const { ids } = asObject(special[String(id)], `${what}: special_tokens: ${id}`);
    return Array.isArray(ids) ? ids : [NaN];
  };
  return {
    prefix: items.slice(0, places[0]).flatMap(idsOf),
    suffix: items.slice(places[0]! + 1).flatMap(idsOf),
  };
}
