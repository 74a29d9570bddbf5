/**
 * Text to token ids and back, as the model folder's own tokenizer does it.
 * @module
 */

import { join } from "node:path";
import type { JsonFileError } from "../../engine/io/json.ts";
import { AddedTokens } from "./added.ts";
import { readDecoder } from "./decoder.ts";
import { TokenizerError, UntokenizableError } from "./errors.ts";
import { type Json, readTokenizerFile } from "./json.ts";
import { TokenizerModel } from "./model.ts";
import { readNormalizer } from "./normalizer.ts";
import { type PreTokenizer, readPreTokenizer } from "./pre_tokenizer.ts";
import {
  joinConfigs,
  listedTokens,
  namedTokens,
  readAddedTokens,
  readAround,
  type TokenizerConfig,
} from "./special.ts";

export { TokenizerError, UntokenizableError };

/** How {@link Tokenizer.encode} reads a text. */
export interface EncodeOptions {
  /** Put `prefixIds` before the text's ids and `suffixIds` after them. Default false. */
  addSpecialTokens?: boolean | undefined;
}

/**
 * A Hugging Face tokenizer: `tokenizer.json` and `tokenizer_config.json` of a model folder. BPE and Unigram
 * run in the package `@huggingface/tokenizers`; what goes before and after them is done here, where that
 * library and Hugging Face's Rust one, which Transformers uses, read a file differently.
 *
 * ```ts
 * import { Tokenizer } from "@whorl/whorl";
 *
 * const tokenizer = await Tokenizer.load("path/to/model");
 * const ids = tokenizer.encode("Once upon a time", { addSpecialTokens: true });
 * console.log(ids, tokenizer.decode(ids), tokenizer.bosId, tokenizer.eosId);
 * ```
 */
export class Tokenizer {
  /** Number of ids the tokenizer can give: its highest id + 1. The model's V may be larger (padded). */
  readonly vocabSize: number;
  /** Id of the `bos_token`; when the config names none, the only token put before a text. */
  readonly bosId: number | undefined;
  /** Id of the `eos_token`. */
  readonly eosId: number | undefined;
  /** Id that stands for a character without tokens. */
  readonly unkId: number | undefined;
  /** What the tokenizer's own post-processor puts before a text: `[bos]` for Llama 3, nothing for Qwen. */
  readonly prefixIds: readonly number[];
  /** What the post-processor appends to a text. It never belongs to a key. */
  readonly suffixIds: readonly number[];
  /** Whether a text tokenised alone starts with a space it didn't have (Llama 2, Mistral: "and" → "▁and"). */
  readonly addsPrefixSpace: boolean;
  /** Special tokens by their text. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** Texts of the named special tokens by field (`bos_token`, …) of tokenizer_config.json. */
  readonly namedTokens: ReadonlyMap<string, string>;
  /** Texts of the special tokens that it lists without a name. */
  readonly furtherTokens: readonly string[];
  /** SHA-256 of tokenizer.json, hex. */
  readonly hash: string;

  readonly #model: TokenizerModel;
  readonly #added: AddedTokens;
  readonly #preTokenize: PreTokenizer;
  readonly #decode: (tokens: string[]) => string;
  readonly #specialTexts: ReadonlySet<string>;
  readonly #specialIds: ReadonlySet<number>;

  private constructor(json: Json, beside: TokenizerConfig, hash: string, where: string) {
    const { config } = beside;
    this.hash = hash;
    this.#model = new TokenizerModel(json.model, where);
    this.#preTokenize = readPreTokenizer(json.pre_tokenizer, where);
    this.#decode = readDecoder(json.decoder, where);
    const { tokens, specialTexts } = readAddedTokens(json, beside, this.#model, where);
    this.#added = new AddedTokens(tokens, readNormalizer(json.normalizer, where));
    this.#specialTexts = specialTexts;
    this.specialTokens = new Map(
      tokens.filter(({ special }) => special).map(({ content, id }) => [content, id]),
    );
    this.#specialIds = new Set(this.specialTokens.values());
    this.vocabSize = tokens.reduce((size, { id }) => Math.max(size, id + 1), this.#model.size);
    this.unkId = this.#model.unkId;
    const { prefix, suffix } = readAround(json.post_processor, this.vocabSize, where);
    this.prefixIds = prefix;
    this.suffixIds = suffix;
    this.namedTokens = namedTokens(config);
    this.furtherTokens = listedTokens(config);
    const idOf = (field: string) => this.specialTokens.get(this.namedTokens.get(field) ?? "");
    this.bosId = idOf("bos_token") ?? (prefix.length === 1 ? prefix[0] : undefined);
    this.eosId = idOf("eos_token");
    const letter = this.#letter(where);
    this.addsPrefixSpace = this.decode([...letter, ...letter]) === "a a";
  }

  /**
   * Reads `tokenizer.json` of a model folder with `tokenizer_config.json`, if there is one, and for special tokens the
   * `special_tokens_map.json` and `added_tokens.json` of older ones.
   * @throws TokenizerError naming the file that is missing, not JSON, or of a kind that is not supported.
   */
  static async load(dir: string): Promise<Tokenizer> {
    const isFolder = await Deno.stat(dir).then(({ isDirectory }) => isDirectory, () => undefined);
    if (!isFolder) {
      const found = isFolder === undefined ? "no such folder" : "is a file";
      throw new TokenizerError(`${dir}: ${found}: expected a Hugging Face model folder`);
    }
    const path = join(dir, "tokenizer.json");
    const { json, bytes } = await readTokenizerFile(path);
    if (typeof json.model !== "object" || json.model === null || !("vocab" in json.model)) {
      throw new TokenizerError(`${path}: expected a tokenizer with "model" and its "vocab", found none`);
    }
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return new Tokenizer(json, await readConfig(dir), digest.toHex(), path);
  }

  /**
   * Token ids of a text. Special tokens are added only when asked for (`addSpecialTokens`, default false),
   * but the text of a special token inside `text` is read as that token, as everywhere in the Hugging Face
   * world; ask {@linkcode specialTokenIn} first for text that must not have any.
   * @throws UntokenizableError when the tokenizer has neither a token nor an unknown token for a part of it,
   * and for text that is not valid Unicode.
   */
  encode(text: string, options: EncodeOptions = {}): number[] {
    if (!text.isWellFormed()) {
      throw new UntokenizableError(
        `a text with half a surrogate pair has no tokens (${text.length} characters)`,
      );
    }
    const ids: number[] = [];
    for (const section of this.#added.split(text)) {
      if ("id" in section) ids.push(section.id);
      else {for (const piece of this.#preTokenize(section)) {
          for (const id of this.#model.encode(piece.text)) ids.push(id);
        }}
    }
    return options.addSpecialTokens ? [...this.prefixIds, ...ids, ...this.suffixIds] : ids;
  }

  /**
   * The text of token ids, special tokens included, without any clean-up of spaces. Ids that a padded model
   * has but the tokenizer does not are left out, as Transformers does.
   * @throws RangeError when an id is not a non-negative integer.
   */
  decode(ids: readonly number[]): string {
    const wrong = ids.find((id) => !Number.isInteger(id) || id < 0);
    if (wrong !== undefined) {
      throw new RangeError(`decode: expected token ids (integers from 0), found ${wrong}`);
    }
    const tokens = ids.map((id) => this.#added.texts.get(id) ?? this.#model.tokenOf(id));
    return this.#decode(tokens.filter((token) => token !== undefined));
  }

  /** A key in plain text: its own ids. */
  askedIds({ keyIds }: { readonly keyIds: readonly number[] }): readonly number[] {
    return keyIds;
  }

  /** Whether an id is a special token (BOS, EOS, padding, unknown, chat marks). */
  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  /**
   * The text of a special token that a text has in it (or becomes one when normalised); undefined without
   * any.
   */
  specialTokenIn(text: string): string | undefined {
    const written = this.#specialTexts.values().find((content) => text.includes(content));
    if (written !== undefined) return written;
    const found = this.#added.split(text).find((section) => "id" in section && this.isSpecial(section.id));
    return this.specialTokens.entries().find(([, id]) => found && "id" in found && id === found.id)?.[0];
  }

  #letter(where: string): number[] {
    try {
      const ids = this.encode("a");
      if (ids.length > 0) return ids;
    } catch (cause) {
      if (!(cause instanceof UntokenizableError)) throw cause;
    }
    throw new TokenizerError(`${where}: the tokenizer gives no token for a plain letter`);
  }
}

/**
 * What is beside tokenizer.json; any of it may be missing. As in Transformers, special_tokens_map.json wins where it has a token,
 * and added_tokens.json counts, unless the config lists the added tokens itself.
 */
async function readConfig(dir: string): Promise<TokenizerConfig> {
  const config = await readIfThere(join(dir, "tokenizer_config.json"));
  const addedWhere = join(dir, "added_tokens.json");
  if (config.added_tokens_decoder !== undefined) return joinConfigs(config, {}, {}, addedWhere);
  const map = await readIfThere(join(dir, "special_tokens_map.json"));
  return joinConfigs(config, map, await readIfThere(addedWhere), addedWhere);
}

async function readIfThere(path: string): Promise<Json> {
  try {
    return (await readTokenizerFile(path)).json;
  } catch (error) {
    if (error instanceof TokenizerError && (error.cause as JsonFileError | undefined)?.isMissing) return {};
    throw error;
  }
}
