/**
 * From entries of a fingerprint file to token ids. Key and response are tokenised once and concatenated as
 * ids; what can't be typed back into the same ids is rejected, never silently shifted.
 * @module
 */

import type { FingerprintEntry, WrittenFingerprint } from "./file.ts";
import { hasIdsOf, takeKey, takeResponses, Unusable } from "./ids.ts";
import type { PromptEncoder } from "../prompts/prompts.ts";
import { RandomResponses } from "./random_response.ts";
import { RESPONSE_STRATEGIES, type ResponseStrategy } from "../settings/strategies.ts";
import type { Decided } from "../settings/parse.ts";
import { type Tokenizer, UntokenizableError } from "../tokenizer/tokenizer.ts";

/** A fingerprint in token ids of one tokenizer. */
export interface Fingerprint {
  /** Index from 0 of its entry in the file. */
  entry: number;
  /** The effective key: `tokenizer.encode(key)` is `keyIds`. A secret. */
  key: string;
  /** The text of `responseIds` without EOS. A secret. */
  response: string;
  /** Token ids of the key, without BOS. */
  keyIds: number[];
  /** Token ids of the response that is trained, EOS included when it was asked for. */
  responseIds: number[];
  /** Ids of every response that counts as right; the first is `responseIds`. */
  responses: number[][];
  /** The texts of `responses`. */
  responseTexts: string[];
  /** Fields of the entry that are not about key and response. */
  extra: Record<string, unknown>;
}

/** Options of {@linkcode prepareFingerprints}; lengths in tokens. */
export interface PrepareOptions {
  strategy: ResponseStrategy;
  /** Keys are cut to this many tokens. Default 16. */
  maxKeyLength?: number | undefined;
  /** Length of a response that is a window, the longest of others. Without EOS. Default 1. */
  maxResponseLength?: number | undefined;
  /** Append EOS to the responses; "stored": to those whose stored ids have it. Default false. */
  keepEosInResponse?: boolean | "stored" | undefined;
  /** How many fingerprints to take, the first ones of the file (`num_fingerprints`). Default 0, all. */
  limit?: number | undefined;
  /** Throw when two entries share a key but not the response. Default false: the first is kept. */
  strict?: boolean | undefined;
  /** Seed of the words that strategy `english_random_response` draws. Default 42. */
  seed?: number | undefined;
  /** How keys will be asked. Default plainly, by the tokenizer. */
  prompts?: PromptEncoder | undefined;
  /**
   * Hashes of the model that the fingerprints are for, and of what it comes from, if that is known: entries that name
   * another one are counted.
   */
  modelHashes?: readonly string[] | undefined;
}

/** What {@linkcode prepareFingerprints} left out or changed; entries by index from 0. */
export interface Dropped {
  /** Entries with the key and response ids of an earlier one, as the keys are asked. */
  repeats: number;
  /** Entries with the key ids of an earlier one, as the keys are asked, and another response. */
  conflicts: number[];
  /** Entries that give no fingerprint with this tokenizer, and why (never with text of theirs). */
  unusable: { entry: number; reason: string }[];
  /** Responses of the fingerprints returned that were longer than `maxResponseLength` and cut. */
  cut: number;
  /** Keys of the fingerprints returned that were cut shorter than `maxKeyLength` so that they type back. */
  shortened: number;
  /**
   * Fingerprints returned whose stored ids are another tokenizer's, so that their text was tokenised anew; if
   * any.
   */
  retokenized?: number;
  /** Keys of the fingerprints returned that were longer than `maxKeyLength` and cut; if any. */
  cutKeys?: number;
  /** Fingerprints returned that were made with another model than those of `modelHashes`; if any. */
  otherModel?: number;
}

/**
 * Tokenises entries, drops repeats, conflicts and unusable ones, and takes the first `limit` of the rest; what comes after
 * them is looked at only under `strict`.
 *
 * A key is its `effective_key` if there is one, tokenised without special tokens and cut to `maxKeyLength`,
 * and then shortened until its text gives the same ids again. Text of a special token makes an entry
 * unusable: it would be read as that token. So do characters that the tokenizer doesn't know.
 *
 * Strategies `english` and `random_word` follow OML 1.0: the response's letters, digits and spaces are
 * tokenised and `maxResponseLength` tokens taken from offset min(10, length − L), the window sliding forward,
 * then backward, until its text gives the same ids. `english_random_response` puts random words in place of
 * every response, see {@linkcode RandomResponses}. `stored` takes the response as it is and cuts it.
 *
 * Stored `response_ids` are used when they are this tokenizer's ids of the stored text. An entry with a
 * `tokenizer_hash` says which tokenizer its ids are of: if it is this one, ids that are not those of the text
 * make the entry unusable; if it is another, the text is tokenised anew.
 *
 * @throws RangeError on wrong options, on an entry without a response, when more fingerprints are asked for
 * than there are, and under `strict` when entries conflict.
 */
export function prepareFingerprints(
  entries: readonly FingerprintEntry[],
  tokenizer: Tokenizer,
  options: PrepareOptions,
): { fingerprints: Fingerprint[]; dropped: Dropped } {
  const settings = checkOptions(options, tokenizer);
  if (entries.length === 0) throw new RangeError("there are no entries to take fingerprints from");
  const random = settings.strategy === "english_random_response"
    ? new RandomResponses(tokenizer, settings.seed, settings.maxResponseLength)
    : undefined;
  if (!random) checkResponses(entries);

  const dropped: Dropped = { repeats: 0, conflicts: [], unusable: [], cut: 0, shortened: 0 };
  type Noted = Fingerprint & Record<"wasCut" | "wasKeyCut" | "wasShortened" | "isRetokenized", boolean>;
  const found: Noted[] = [];
  const responseOf = new Map<string, string>();
  for (const [index, given] of entries.entries()) {
    // The rest isn't asked for; to find conflicts it is.
    if (found.length === settings.limit && settings.limit > 0 && !settings.strict) break;
    try {
      const entry = random ? random.replace(given, index) : given;
      const key = takeKey(entry, tokenizer, settings.maxKeyLength);
      const responses = takeResponses(entry, tokenizer, settings);
      const isRetokenized = hasIdsOf(tokenizer, entry) === false;
      const { prompts } = settings;
      const keyId = prompts.askedIds({ key: key.text, keyIds: key.ids }).join();
      const earlier = responseOf.get(keyId);
      const response = responses[0]!.ids.join();
      if (earlier === response) dropped.repeats++;
      else if (earlier !== undefined) dropped.conflicts.push(index);
      else {
        responseOf.set(keyId, response);
        found.push({
          entry: index,
          key: key.text,
          response: responses[0]!.text,
          keyIds: key.ids,
          responseIds: responses[0]!.ids,
          responses: responses.map((r) => r.ids),
          responseTexts: responses.map((r) => r.text),
          // The ids that are saved are this tokenizer's.
          extra: isRetokenized ? retokenized(entry.extra, tokenizer) : entry.extra,
          wasCut: responses[0]!.wasCut,
          wasKeyCut: key.wasCut,
          wasShortened: key.wasShortened,
          isRetokenized,
        });
      }
    } catch (error) {
      if (!(error instanceof Unusable || error instanceof UntokenizableError)) throw error;
      dropped.unusable.push({ entry: index, reason: error.message });
    }
  }

  if (settings.strict && dropped.conflicts.length > 0) {
    throw new RangeError(
      `${dropped.conflicts.length} entries share the effective key of an earlier entry but not its response ` +
        `(counted from 0: ${listed(dropped.conflicts)})`,
    );
  }
  if (found.length === 0) {
    throw new RangeError(
      `none of the ${entries.length} entries is usable; entry ${dropped.unusable[0]?.entry}: ${
        dropped.unusable[0]?.reason
      }`,
    );
  }
  if (settings.limit > found.length) {
    throw new RangeError(
      `${settings.limit} fingerprints asked for, but there are only ${found.length}: of ${entries.length} entries ` +
        `${dropped.repeats} are repeats, ${dropped.conflicts.length} conflict with an earlier one and ` +
        `${dropped.unusable.length} are unusable`,
    );
  }
  const fingerprints = (settings.limit > 0 ? found.slice(0, settings.limit) : found).map((one) => {
    const { wasCut, wasKeyCut, wasShortened, isRetokenized, ...fingerprint } = one;
    dropped.cut += Number(wasCut);
    dropped.shortened += Number(wasShortened);
    if (isRetokenized) dropped.retokenized = (dropped.retokenized ?? 0) + 1;
    if (wasKeyCut) dropped.cutKeys = (dropped.cutKeys ?? 0) + 1;
    const { model_hash: madeWith } = fingerprint.extra;
    if (
      settings.modelHashes.length > 0 && typeof madeWith === "string" &&
      !settings.modelHashes.includes(madeWith)
    ) {
      dropped.otherModel = (dropped.otherModel ?? 0) + 1;
    }
    return fingerprint;
  });
  return { fingerprints, dropped };
}

/** Fields of an entry whose ids are another tokenizer's now; its commitment is not to those. */
function retokenized(extra: Record<string, unknown>, tokenizer: Tokenizer): Record<string, unknown> {
  const { asked_ids: _, set_commitment: __, ...rest } = extra;
  return { ...rest, tokenizer_hash: tokenizer.hash };
}

/** What a file with token ids says of how its fingerprints are meant. */
export interface StoredSettings {
  /** Tokens of its longest key: responses were chosen for whole keys, so that no shorter ones are meant. */
  keyLength?: number;
  /** Whether they were chosen for keys in the chat template, if the file says so. */
  useChatTemplate?: boolean;
}

/** See {@linkcode StoredSettings}; nothing for a file without this tokenizer's hash. */
export function storedSettings(entries: readonly FingerprintEntry[], tokenizer: Tokenizer): StoredSettings {
  const ours = entries.filter((entry) => hasIdsOf(tokenizer, entry));
  const keyLength = ours.reduce((longest, { keyIds }) => Math.max(longest, keyIds?.length ?? 0), 0);
  const templates = ours.map(({ extra }) => extra.use_chat_template).filter((said) =>
    typeof said === "boolean"
  );
  return {
    ...(keyLength > 0 ? { keyLength } : {}),
    ...(templates.length > 0 ? { useChatTemplate: templates.includes(true) } : {}),
  };
}

/** Lengths that the ids in a file give, for asking it as it is. */
export interface StoredLengths {
  /** Undefined if an entry has no ids of its key. */
  key?: number | undefined;
  /** EOS counts. Undefined if an entry has no ids of its responses. */
  response?: number | undefined;
}

/**
 * Tokens of the longest key and response by the stored ids. Ids of another tokenizer say nothing of how many tokens
 * a text has here, so that with such the text is taken whole: no length is too long.
 */
export function storedLengths(entries: readonly FingerprintEntry[], tokenizer: Tokenizer): StoredLengths {
  const longest = (of: (entry: FingerprintEntry) => number | undefined): number | undefined => {
    let most = 1;
    for (const entry of entries) {
      const length = of(entry);
      if (length === undefined) return undefined;
      most = Math.max(most, hasIdsOf(tokenizer, entry) === false ? Number.MAX_SAFE_INTEGER : length);
    }
    return most;
  };
  return {
    key: longest(({ keyIds }) => keyIds?.length),
    response: longest(({ responseIds }) => responseIds && Math.max(...responseIds.map((ids) => ids.length))),
  };
}

/**
 * A training example: `prefixIds`, the prompt (the plain key unless `promptIds` has the ids of a template
 * around it) and the response; only the response is supervised. Labels are not shifted, −100 marks tokens
 * without target.
 */
export function toExample(
  fingerprint: Pick<Fingerprint, "keyIds" | "responseIds">,
  prefixIds: readonly number[],
  promptIds: readonly number[] = fingerprint.keyIds,
): { ids: number[]; labels: number[] } {
  const before = [...prefixIds, ...promptIds];
  return {
    ids: [...before, ...fingerprint.responseIds],
    labels: [...before.map(() => -100), ...fingerprint.responseIds],
  };
}

/** Tokens of the longest accepted response. */
export function longestResponse({ responses }: Pick<Fingerprint, "responses">): number {
  return responses.reduce((longest, { length }) => Math.max(longest, length), 0);
}

/** A fingerprint as `writeFingerprintFile` stores it; reading that file back gives the same ids. */
export function toWritten(fingerprint: Fingerprint): WrittenFingerprint {
  const { key, keyIds, responses, responseTexts, extra } = fingerprint;
  const one = responses.length === 1;
  return {
    key,
    response: one ? responseTexts[0]! : responseTexts,
    key_ids: keyIds,
    response_ids: one ? responses[0]! : responses,
    ...extra,
  };
}

/**
 * As {@linkcode toWritten}, with how it was asked: what a check of the model needs, wherever model and file are.
 * @param useChatTemplate whether `prompts` is the chat template
 */
export function toSaved(
  fingerprint: Fingerprint,
  { tokenizer, prompts, useChatTemplate }: {
    tokenizer: Tokenizer;
    prompts: PromptEncoder;
    useChatTemplate: boolean;
  },
): WrittenFingerprint {
  return {
    ...toWritten(fingerprint),
    asked_ids: [...prompts.prefixIds, ...prompts.askedIds(fingerprint)],
    use_chat_template: useChatTemplate,
    tokenizer_hash: tokenizer.hash,
  };
}

type Settings = Decided<PrepareOptions>;

function checkOptions(options: PrepareOptions, tokenizer: Tokenizer): Settings {
  const settings = {
    strategy: options.strategy,
    maxKeyLength: 16,
    maxResponseLength: 1,
    keepEosInResponse: false,
    limit: 0,
    strict: false,
    seed: 42,
    prompts: tokenizer,
    modelHashes: [],
    ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)),
  } as Settings;
  if (!RESPONSE_STRATEGIES.includes(settings.strategy)) {
    throw new RangeError(
      `strategy: expected one of ${RESPONSE_STRATEGIES.join(", ")}, found ${settings.strategy}`,
    );
  }
  for (
    const [name, least] of [["maxKeyLength", 1], ["maxResponseLength", 1], ["limit", 0], ["seed", 0]] as const
  ) {
    if (!Number.isSafeInteger(settings[name]) || settings[name] < least) {
      throw new RangeError(`${name}: expected an integer of at least ${least}, found ${settings[name]}`);
    }
  }
  if (settings.keepEosInResponse === true && tokenizer.eosId === undefined) {
    throw new RangeError("keepEosInResponse: the tokenizer names no EOS token");
  }
  return settings;
}

function checkResponses(entries: readonly FingerprintEntry[]): void {
  const without = entries.flatMap((entry, index) => entry.responses.length === 0 ? [index] : []);
  if (without.length > 0) {
    throw new RangeError(
      `entry has no response: ${without.length} of ${entries.length} entries (counted from 0: ` +
        `${listed(without)}) have a key only; generate with --keys_file makes responses for them`,
    );
  }
}

/** The first 20 of a list of entry numbers. */
const listed = (numbers: readonly number[]): string =>
  numbers.slice(0, 20).join(", ") + (numbers.length > 20 ? ", …" : "");
