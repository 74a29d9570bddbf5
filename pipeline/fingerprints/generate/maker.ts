/**
 * From attempts to fingerprints: keys and responses by every strategy.
 * @module
 */

import type { Attempt } from "./attempts.ts";
import { type Key, type Reason, REASONS, Rejected, type Response, type Texts } from "./candidate.ts";
import { drawResponses } from "./draw.ts";
import type { LanguageModel } from "./language_model.ts";
import { perinucleus } from "./perinucleus.ts";
import type { Secret } from "./secret.ts";
import type { GenerateSettings } from "./settings.ts";
import type { Writer } from "./writer.ts";
import { WordTexts } from "../word_texts.ts";

/** A fingerprint that is good by itself; whether it goes with the others is for the set to say. */
export interface Candidate {
  key: Key;
  responses: Response[];
  /** Probability of each response's first token after the key. */
  probabilities: number[];
  /** Where the response was drawn from, of the nucleus strategies. */
  nucleus?: {
    candidates: number;
    size: number;
    /** Place of each response's first token among the candidates, from 0. */
    drawn: number[];
  };
}

/** What fingerprints are made with. */
interface MakerParts {
  settings: GenerateSettings;
  secret: Secret;
  texts: Texts;
  /** The model whose probabilities count. */
  base: LanguageModel;
  /** Writes english texts; not needed for words. */
  writer?: Writer;
  signal?: AbortSignal | undefined;
}

/** A response before its probability is known. */
type Draft = Pick<Candidate, "key" | "responses">;

/** Probabilities that are in host memory at a time. */
const MOST_PROBABILITIES = 2 ** 25;
/**
 * Tokens that an english text gets beyond its length, for another tokenizer's sake or a chat model's opening
 * marks.
 */
const SPARE_TOKENS = 8;

/** Makes candidates; what it makes of an attempt depends on nothing else. */
export class Maker {
  readonly #parts: MakerParts;
  #words: WordTexts | undefined;
  readonly #seeds: Record<"keyWord" | "keyText" | "responseWord" | "responseText", number>;

  constructor(parts: MakerParts) {
    this.#parts = parts;
    const { secret } = parts;
    this.#seeds = {
      keyWord: secret.stream("key words"),
      keyText: secret.stream("key texts"),
      responseWord: secret.stream("response words"),
      responseText: secret.stream("response texts"),
    };
  }

  /** What consecutive attempts give, in their order. */
  async make(attempts: readonly Attempt[]): Promise<(Candidate | Reason)[]> {
    const keys = await this.#keys(attempts);
    if (this.#parts.settings.responses === "nucleus") return await this.#nucleus(keys);
    return await this.#weigh(await this.#drafts(attempts, keys));
  }

  async #keys(attempts: readonly Attempt[]): Promise<(Key | Reason)[]> {
    const { settings, texts } = this.#parts;
    const { key_length: length } = settings;
    if (settings.keys === "file") {
      return attempts.map(({ ownKey }) => attempt(() => texts.key(ownKey!, length, false)));
    }
    if (settings.keys === "words") {
      return attempts.map(({ number }) =>
        attempt(() => texts.key(this.#wordText(this.#seeds.keyWord, number, length, false), length, true))
      );
    }
    const written = await this.#write(attempts, length, this.#seeds.keyWord, this.#seeds.keyText);
    return written.map((text) =>
      text === undefined ? REASONS.keyWord : attempt(() => texts.key(text, length, true))
    );
  }

  async #drafts(attempts: readonly Attempt[], keys: readonly (Key | Reason)[]): Promise<(Draft | Reason)[]> {
    const { settings, texts } = this.#parts;
    const { response_length: length } = settings;
    const { responseWord, responseText } = this.#seeds;
    // In a chat the answer begins a message; else it goes on where the key ends.
    const continues = !settings.use_chat_template;
    const written: (string | undefined)[] = settings.responses === "words"
      ? attempts.map(({ number }) => this.#wordText(responseWord, number, length, continues))
      : (await this.#write(attempts, length, responseWord, responseText))
        .map((text) => text === undefined ? undefined : (continues ? " " : "") + text);
    return keys.map((key, i) => {
      const text = written[i];
      if (typeof key === "string") return key;
      if (text === undefined) return REASONS.responseWord;
      return attempt(() => ({ key, responses: [texts.responseText(key, text, length)] }));
    });
  }

  #wordText(seed: number, number: number, length: number, continues: boolean): string {
    this.#words ??= new WordTexts(this.#parts.texts.tokenizer);
    return this.#words.text(seed, number, length, continues);
  }

  async #write(
    attempts: readonly Attempt[],
    length: number,
    wordSeed: number,
    textSeed: number,
  ): Promise<(string | undefined)[]> {
    const { settings, writer, texts, signal } = this.#parts;
    if (attempts.length === 0) return [];
    // A text that continues its word is longer than wanted already.
    const isOwn = writer!.tokenizer.hash === texts.tokenizer.hash && !writer!.chat;
    const isLong = isOwn && settings.first_token_strategy !== "none";
    const tokens = isLong ? length : (isOwn ? length : 2 * length) + SPARE_TOKENS;
    return await writer!.texts(attempts[0]!.number, attempts.length, tokens, {
      temperature: settings.temperature,
      firstToken: settings.first_token_strategy,
      wordSeed,
      textSeed,
      signal,
    });
  }

  /** Adds the probability of the first token. */
  async #weigh(drafts: readonly (Draft | Reason)[]): Promise<(Candidate | Reason)[]> {
    return await this.#withProbabilities(drafts, ({ key }) => key, (draft, probabilities) => ({
      ...draft,
      probabilities: draft.responses.map(({ ids }) => probabilities[ids[0]!]!),
    }));
  }

  async #nucleus(keys: readonly (Key | Reason)[]): Promise<(Candidate | Reason)[]> {
    const { settings, secret, texts } = this.#parts;
    const { nucleus_t: mass, nucleus_k: k, num_responses_per_fingerprint: count } = settings;
    const begun = await this.#withProbabilities(keys, (key) => key, (key, probabilities) => {
      const { nucleusSize, candidates } = perinucleus(probabilities, {
        mass,
        k,
        isValid: (token) => texts.isWordAfter(key, token),
      });
      if (candidates.length === 0) return REASONS.noCandidates;
      if (candidates.length < count) return REASONS.fewCandidates;
      const tokens = drawResponses(secret.drawKey, key.ids, candidates, count);
      return {
        key,
        tokens,
        nucleus: {
          candidates: candidates.length,
          size: nucleusSize,
          drawn: tokens.map((token) => candidates.indexOf(token)),
        },
        probabilities: tokens.map((token) => probabilities[token]!),
      };
    });
    const rests = await this.#continue(begun);
    return begun.map((one) => {
      if (typeof one === "string") return one;
      const { key, tokens, probabilities, nucleus } = one;
      return attempt(() => ({
        key,
        probabilities,
        nucleus,
        responses: tokens.map((token, i) =>
          texts.response(key, [token, ...rests.get(key)![i]!], settings.response_length)
        ),
      }));
    });
  }

  /** What the model itself says after each first token, greedily. */
  async #continue(
    begun: readonly ({ key: Key; tokens: number[] } | Reason)[],
  ): Promise<Map<Key, number[][]>> {
    const { settings, base, signal } = this.#parts;
    const rests = new Map<Key, number[][]>();
    const chosen = begun.filter((one) => typeof one !== "string");
    for (const { key, tokens } of chosen) rests.set(key, tokens.map(() => []));
    if (settings.response_length === 1 || chosen.length === 0) return rests;
    const prompts = chosen.flatMap(({ key, tokens }) => tokens.map((token) => [...key.asked, token]));
    const maxNewTokens = settings.response_length - 1;
    const ids = (await base.generate(prompts, { maxNewTokens, temperature: 0, signal })).values();
    for (const { key, tokens } of chosen) rests.set(key, tokens.map(() => ids.next().value!));
    return rests;
  }

  /** Maps what isn't rejected, with the distribution after its key. */
  async #withProbabilities<T extends object, U>(
    items: readonly (T | Reason)[],
    keyOf: (item: T) => Key,
    map: (item: T, probabilities: Float32Array) => U,
  ): Promise<(U | Reason)[]> {
    const { base, signal } = this.#parts;
    const out: (U | Reason)[] = items.map((item) => typeof item === "string" ? item : REASONS.keyShort);
    const kept = items.flatMap((item, at) => typeof item === "string" ? [] : [{ item, at }]);
    const most = Math.max(1, Math.floor(MOST_PROBABILITIES / base.spec.vocabulary));
    for (let first = 0; first < kept.length; first += most) {
      signal?.throwIfAborted();
      const some = kept.slice(first, first + most);
      const found = await base.nextTokenProbabilities(some.map(({ item }) => keyOf(item).asked));
      some.forEach(({ item, at }, i) => out[at] = map(item, found[i]!));
    }
    return out;
  }
}

/** What a part of an attempt gives, or why it gives nothing. */
function attempt<T>(make: () => T): T | Reason {
  try {
    return make();
  } catch (error) {
    if (error instanceof Rejected) return error.reason;
    throw error;
  }
}
