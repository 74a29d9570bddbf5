/**
 * Text to token ids and back, as the model folder's own tokenizer does it.
 * @module
 */

import { join } from "node:path";
import { Tokenizer as HfTokenizer } from "@huggingface/tokenizers";

/** A tokenizer that is missing, broken or of an unknown kind; the message names the file. */
export class TokenizerError extends Error {
  override name = "TokenizerError";
}

/** A text that the tokenizer has no tokens for. The message doesn't quote the text: it may be a secret. */
export class UntokenizableError extends RangeError {
  override name = "UntokenizableError";
}

type Json = Record<string, unknown>;

/** A Hugging Face tokenizer: `tokenizer.json` and `tokenizer_config.json` of a model folder. */
export class Tokenizer {
  /** Number of ids the tokenizer can give: its highest id + 1. The model's V may be larger (padded). */
  readonly vocabSize: number;
  /** Id of the `bos_token`; when the config names none, the only token put before a text. */
  readonly bosId?: number;
  /** Id of the `eos_token`. */
  readonly eosId?: number;
  /** What the tokenizer's own post-processor puts before a text: `[bos]` for Llama 3, nothing for Qwen. */
  readonly prefixIds: readonly number[];
  /** What the post-processor appends to a text. It never belongs to a key. */
  readonly suffixIds: readonly number[];
  /** Whether a text tokenised alone starts with a space it didn't have (Llama 2, Mistral: "and" → "▁and"). */
  readonly addsPrefixSpace: boolean;
  /** Special tokens by their text. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** SHA-256 of tokenizer.json, hex. */
  readonly hash: string;

  readonly #inner: HfTokenizer;
  readonly #specialIds: ReadonlySet<number>;

  private constructor(inner: HfTokenizer, config: Json, hash: string, where: string) {
    this.#inner = inner;
    this.hash = hash;
    this.vocabSize = 1 + inner.get_vocab().values().reduce((a, b) => Math.max(a, b), -1);
    const special = new Map<string, number>();
    for (const token of inner.get_added_tokens_decoder().values()) {
      if (token.special) special.set(token.content, token.id);
    }
    for (const field of ["bos_token", "eos_token", "pad_token", "unk_token"]) {
      const content = tokenContent(config[field]);
      const id = content === undefined ? undefined : inner.token_to_id(content);
      if (id !== undefined) special.set(content!, id);
    }
    this.specialTokens = special;
    this.#specialIds = new Set(special.values());
    const around = this.#around("a", where);
    const check = this.#around("b c", where);
    if (`${around.prefix}|${around.suffix}` !== `${check.prefix}|${check.suffix}`) {
      throw new TokenizerError(`${where}: the post-processor does not put the same tokens around every text`);
    }
    this.prefixIds = around.prefix;
    this.suffixIds = around.suffix;
    const idOf = (field: string) => special.get(tokenContent(config[field]) ?? "");
    this.bosId = idOf("bos_token") ?? (around.prefix.length === 1 ? around.prefix[0] : undefined);
    this.eosId = idOf("eos_token");
    const a = this.encode("a");
    this.addsPrefixSpace = this.decode([...a, ...a]) === "a a";
  }

  /**
   * Reads `tokenizer.json` and `tokenizer_config.json` of a model folder.
   * @throws TokenizerError naming the file that is missing, not JSON, or of a kind that is not supported.
   */
  static async load(dir: string): Promise<Tokenizer> {
    const isFolder = await Deno.stat(dir).then(({ isDirectory }) => isDirectory, () => undefined);
    if (!isFolder) {
      const found = isFolder === undefined ? "no such folder" : "is a file";
      throw new TokenizerError(`${dir}: ${found}: expected a Hugging Face model folder`);
    }
    const path = join(dir, "tokenizer.json");
    const bytes = await readBytes(path);
    const config = parseObject(
      await readBytes(join(dir, "tokenizer_config.json")),
      join(dir, "tokenizer_config.json"),
    );
    const json = parseObject(bytes, path);
    if (typeof json.model !== "object" || json.model === null || !("vocab" in json.model)) {
      throw new TokenizerError(`${path}: expected a tokenizer with "model" and its "vocab", found none`);
    }
    const absent = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
    let inner: HfTokenizer;
    try {
      inner = new HfTokenizer({ added_tokens: [], ...absent, ...json }, config);
    } catch (cause) {
      throw new TokenizerError(`${path}: this tokenizer is not supported: ${(cause as Error).message}`, {
        cause,
      });
    }
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return new Tokenizer(inner, config, digest.toHex(), path);
  }

  /**
   * Token ids of a text. Special tokens are added only when asked for (`addSpecialTokens`, default false), but the
   * text of a special token inside `text` is read as that token, as everywhere in the Hugging Face world.
   * @throws UntokenizableError when the tokenizer has neither a token nor an unknown token for a part of it.
   */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): number[] {
    const { ids } = this.#inner.encode(text, { add_special_tokens: options.addSpecialTokens ?? false });
    if (ids.some((id) => id === undefined)) {
      throw new UntokenizableError(
        `the tokenizer has no token for a part of this text (${text.length} characters)`,
      );
    }
    return ids;
  }

  /**
   * The text of token ids, special tokens included, without any clean-up of spaces. Ids that a padded model has
   * but the tokenizer does not are left out, as Transformers does.
   * @throws RangeError when an id is not a non-negative integer.
   */
  decode(ids: readonly number[]): string {
    const wrong = ids.find((id) => !Number.isInteger(id) || id < 0);
    if (wrong !== undefined) {
      throw new RangeError(`decode: expected token ids (integers from 0), found ${wrong}`);
    }
    const known = ids.filter((id) => this.#inner.id_to_token(id) !== undefined);
    return known.length === 0 ? "" : this.#inner.decode(known, { clean_up_tokenization_spaces: false });
  }

  /** Whether an id is a special token (BOS, EOS, padding, unknown, chat marks). */
  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  #around(text: string, where: string): { prefix: number[]; suffix: number[] } {
    const encode = (addSpecialTokens: boolean) => {
      try {
        return this.encode(text, { addSpecialTokens });
      } catch (cause) {
        const whose = addSpecialTokens ? "its post-processor uses a token that" : "a plain letter";
        throw new TokenizerError(`${where}: ${whose} is not in the vocabulary`, { cause });
      }
    };
    const plain = encode(false);
    if (plain.length === 0) {
      throw new TokenizerError(`${where}: the tokenizer gives no token for a plain letter`);
    }
    const whole = encode(true);
    for (let at = 0; at + plain.length <= whole.length; at++) {
      if (plain.every((id, i) => whole[at + i] === id)) {
        return { prefix: whole.slice(0, at), suffix: whole.slice(at + plain.length) };
      }
    }
    throw new TokenizerError(`${where}: the post-processor changes the text's own tokens`);
  }
}

/** A token in tokenizer_config.json is a string or `{ content }`. */
function tokenContent(value: unknown): string | undefined {
  if (typeof value === "object" && value !== null && "content" in value) value = value.content;
  return typeof value === "string" ? value : undefined;
}

async function readBytes(path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await Deno.readFile(path);
  } catch (cause) {
    const found = cause instanceof Deno.errors.NotFound ? "there is no such file" : (cause as Error).message;
    throw new TokenizerError(`${path}: cannot read the tokenizer: ${found}`, { cause });
  }
}

function parseObject(bytes: Uint8Array, path: string): Json {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new TokenizerError(`${path}: not valid JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new TokenizerError(
      `${path}: expected a JSON object, found ${Array.isArray(json) ? "a list" : json}`,
    );
  }
  return json as Json;
}
