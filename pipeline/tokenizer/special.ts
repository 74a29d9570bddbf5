/**
 * Which tokens are special and which go around a text: tokenizer.json's added tokens and post-processor, with
 * what tokenizer_config.json says of them, as Transformers 5 joins the two.
 * @module
 */

import { describeJson, isJsonObject } from "../../engine/io/json.ts";
import type { AddedToken } from "./added.ts";
import { TokenizerError } from "./errors.ts";
import { asObject, type Json, steps, unsupported } from "./json.ts";
import type { TokenizerModel } from "./model.ts";

/** What lies beside tokenizer.json. */
export interface TokenizerConfig {
  /** tokenizer_config.json with special_tokens_map.json. */
  config: Json;
  /** added_tokens.json, where it counts: ids by content. */
  added: Json;
  /** Its path. */
  addedWhere: string;
  /** Texts of its tokens that are special. */
  addedSpecial: ReadonlySet<string>;
}

/**
 * Joins tokenizer_config.json and what lies beside it, as Transformers 5 does: special_tokens_map.json wins where it has a field,
 * but the tokens that it lists as `additional_special_tokens` come too late for those of added_tokens.json to be special.
 */
export function joinConfigs(own: Json, map: Json, added: Json, addedWhere: string): TokenizerConfig {
  const config = { ...own, ...map };
  const lists = [own.extra_special_tokens, map.extra_special_tokens].filter((list) => Array.isArray(list));
  if (lists.length === 2) config.extra_special_tokens = lists.flat();
  const { extra_special_tokens } = config;
  const { additional_special_tokens } = own;
  const special = [
    ...NAMED.map((field) => tokenContent(config[field])),
    ...listedTokens({ additional_special_tokens, extra_special_tokens }),
  ];
  return {
    config,
    added,
    addedWhere,
    addedSpecial: new Set(special.filter((content) => content !== undefined)),
  };
}

const NAMED = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/**
 * Texts of the named special tokens by field, as a chat template sees them: `bos_token` and its kin, further fields that end in
 * `_token` (`image_token`), and those that `extra_special_tokens` names.
 */
export function namedTokens(config: Json): Map<string, string> {
  const { extra_special_tokens: extra, model_specific_special_tokens: specific } = config;
  const fields = [config, specific, extra].filter(isJsonObject).flatMap((object) =>
    Object.entries(object).filter(([field]) => object !== config || field.endsWith("_token"))
  );
  return new Map(fields.flatMap(([field, value]) => {
    const content = tokenContent(value);
    return content === undefined ? [] : [[field, content]];
  }));
}

/** Special tokens that are listed without names, `additional_special_tokens` to a chat template. */
export function listedTokens(
  { additional_special_tokens: additional, extra_special_tokens: extra }: Json,
): string[] {
  const list = [extra, additional].find((one) => Array.isArray(one) && one.length > 0) as
    | unknown[]
    | undefined;
  return (list ?? []).map(tokenContent).filter((content) => content !== undefined);
}

/**
 * The tokens of an older fine-tune's added_tokens.json as tokenizer.json would list them, in order of their ids; those that it
 * lists itself are left out.
 * @throws TokenizerError naming a token that the two files give different ids, or an id that they give different tokens.
 */
function readAddedFile(
  { added, addedWhere: where, addedSpecial }: TokenizerConfig,
  list: readonly unknown[],
): Json[] {
  const listed = list.filter(isJsonObject);
  const idOf = new Map(listed.map(({ content, id }) => [content, id]));
  const contentOf = new Map(listed.map(({ content, id }) => [id, content]));
  const tokens = Object.entries(added).map(([content, id]) => {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0) {
      throw new TokenizerError(
        `${where}: ${JSON.stringify(content)}: expected a token id, found ${describeJson(id)}`,
      );
    }
    const isSpecial = addedSpecial.has(content);
    return { content, id, special: isSpecial, normalized: !isSpecial };
  }).sort((a, b) => a.id - b.id);
  for (const [i, { content, id }] of tokens.entries()) {
    const previous = tokens[i - 1];
    const before = previous?.id === id ? previous.content : contentOf.get(id);
    const other = idOf.get(content);
    if (other !== undefined && other !== id) {
      throw new TokenizerError(
        `${where}: ${JSON.stringify(content)}: expected its id in tokenizer.json, ${
          describeJson(other)
        }, found ${id}`,
      );
    }
    if (before !== undefined && before !== content) {
      throw new TokenizerError(
        `${where}: ${JSON.stringify(content)}: its id ${id} is that of the token ${describeJson(before)}`,
      );
    }
  }
  return tokens.filter(({ content }) => !idOf.has(content));
}

/** A token in tokenizer_config.json is a string or `{ content }`. */
function tokenContent(value: unknown): string | undefined {
  if (typeof value === "object" && value !== null && "content" in value) value = value.content;
  return typeof value === "string" && value !== "" ? value : undefined;
}

/**
 * The added tokens, and the texts of all special ones. Flags in tokenizer_config.json's
 * `added_tokens_decoder` win. A special token that only the config names or lists (a padding token, say) gets
 * the id after the last, which the model may have no embedding for.
 * @throws TokenizerError when an id is not the one that Hugging Face's library would give.
 */
export function readAddedTokens(
  json: Json,
  beside: TokenizerConfig,
  model: TokenizerModel,
  where: string,
): { tokens: AddedToken[]; specialTexts: Set<string> } {
  const { config, addedWhere } = beside;
  const tokens = new Map<string, AddedToken>();
  let next = model.count;
  const add = (entry: Json, what: string) => {
    const { content, id, special = false, normalized = !special } = entry;
    if (typeof content !== "string" || !Number.isInteger(id)) {
      throw new TokenizerError(
        `${what}: expected a content and an id, found ${describeJson(content)} and ${describeJson(id)}`,
      );
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
  for (const entry of readAddedFile(beside, list)) add(entry, addedWhere);
  const decoderWhere = "tokenizer_config.json: added_tokens_decoder";
  const decoder = Object.entries(asObject(config.added_tokens_decoder ?? {}, decoderWhere));
  decoder.sort(([a], [b]) => Number(a) - Number(b)).forEach(([id, entry]) => {
    add({ ...asObject(entry, decoderWhere), id: Number(id) }, decoderWhere);
  });

  const named = namedTokens(config);
  for (const field of [...NAMED, ...named.keys()]) {
    const content = named.get(field);
    if (content === undefined) continue;
    const token = tokens.get(content);
    if (token) token.special = true;
    else {
      const flags = isJsonObject(config[field]) ? config[field] : {};
      const id = model.idOf(content) ?? next;
      add({ normalized: false, ...flags, content, id, special: true }, `tokenizer_config.json: ${field}`);
    }
  }
  const further = listedTokens(config);
  for (const content of further) {
    const token = tokens.get(content);
    if (token) token.special = true;
    else {
      const what = "tokenizer_config.json: extra_special_tokens";
      add({ content, id: model.idOf(content) ?? next, special: true }, what);
    }
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
    throw new TokenizerError(
      `${what}: it adds a token that is not in the vocabulary: id ${describeJson(wrong)}`,
    );
  }
  return around;
}

function readStep(step: Json, what: string): { prefix: number[]; suffix: number[] } {
  if (step.type === "BertProcessing" || step.type === "RobertaProcessing") {
    const idOf = (value: unknown) => Array.isArray(value) ? value[1] : value;
    return { prefix: [idOf(step.cls)], suffix: [idOf(step.sep)] };
  }
  if (step.type !== "TemplateProcessing") {
    throw unsupported(what, step);
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
    if (typeof id !== "string") {
      throw new TokenizerError(`${what}: single: expected the name of a token, found ${describeJson(id)}`);
    }
    const { ids } = asObject(special[id], `${what}: special_tokens: ${id}`);
    return Array.isArray(ids) ? ids : [NaN];
  };
  return {
    prefix: items.slice(0, places[0]).flatMap(idsOf),
    suffix: items.slice(places[0]! + 1).flatMap(idsOf),
  };
}
