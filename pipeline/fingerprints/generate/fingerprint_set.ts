/**
 * What a set of fingerprints must be as a whole: keys that can't be taken for each other, responses that are
 * spread.
 * @module
 */

import type { WrittenFingerprint } from "../file.ts";
import type { PromptEncoder } from "../../prompts/prompts.ts";
import { type Reason, REASONS } from "./candidate.ts";

/** A fingerprint as far as the set looks at it. */
export interface Member {
  keyIds: readonly number[];
  /** Ids of the question. */
  asked: readonly number[];
  /** What each response counts as, see {@link responsesAs}. */
  responses: readonly string[];
}

/** Members that go together. */
export class FingerprintSet {
  /** For each length of a key so far: the members' keys cut to that length, of those that are as long. */
  readonly #cuts = new Map<number, Set<string>>();
  /** Keys, whole. */
  readonly #keys = new Set<string>();
  readonly #all: (readonly number[])[] = [];
  readonly #asked = new Set<string>();
  readonly #responses = new Map<string, number>();

  /** `limit`: how many responses may count as one. */
  constructor(readonly limit: number) {}

  /** Why a fingerprint doesn't go with the others; undefined if it does. */
  refuses({ keyIds, asked, responses }: Member): Reason | undefined {
    if (this.#keys.has(keyIds.join()) || this.#asked.has(asked.join())) return REASONS.keyRepeated;
    if (this.#cutTo(keyIds.length).has(keyIds.join())) return REASONS.keyPrefix;
    for (const length of this.#cuts.keys()) {
      if (length < keyIds.length && this.#keys.has(keyIds.slice(0, length).join())) return REASONS.keyPrefix;
    }
    const isFrequent = responses.some((one) => (this.#responses.get(one) ?? 0) >= this.limit);
    return isFrequent ? REASONS.responseFrequent : undefined;
  }

  add({ keyIds, asked, responses }: Member): void {
    this.#keys.add(keyIds.join());
    this.#asked.add(asked.join());
    this.#all.push(keyIds);
    this.#cutTo(keyIds.length);
    for (const [length, cut] of this.#cuts) {
      if (length <= keyIds.length) cut.add(keyIds.slice(0, length).join());
    }
    for (const one of responses) this.#responses.set(one, (this.#responses.get(one) ?? 0) + 1);
  }

  #cutTo(length: number): Set<string> {
    let cut = this.#cuts.get(length);
    if (!cut) {
      cut = new Set(
        this.#all.filter((ids) => ids.length >= length).map((ids) => ids.slice(0, length).join()),
      );
      this.#cuts.set(length, cut);
    }
    return cut;
  }
}

/**
 * What each response of a fingerprint counts as when frequent ones are looked for: a drawn one as its first
 * token, since only that is drawn, any other one as a whole.
 */
export function responsesAs({ response_ids: ids, nucleus_size }: WrittenFingerprint): string[] {
  const lists = Array.isArray(ids[0]) ? ids as number[][] : [ids as number[]];
  return lists.map((list) => nucleus_size === undefined ? list.join() : `${list[0]}`);
}

/** A written fingerprint as a member. */
export function memberOf(written: WrittenFingerprint, prompts: PromptEncoder): Member {
  const { key_ids: keyIds } = written;
  const asked = prompts.askedIds({ key: written.effective_key as string, keyIds });
  return { keyIds, asked, responses: responsesAs(written) };
}
