/** A tokenizer for tests of everything but tokenizing: a text is its ids in decimal. */
import type { Fingerprint } from "../../../pipeline/fingerprints/prepare.ts";
import type { Tokenizer } from "../../../pipeline/tokenizer/tokenizer.ts";

/** "3 5" is [3, 5]; 1 comes before every text, 2 is EOS. */
export const NUMBERS = {
  prefixIds: [1],
  suffixIds: [],
  bosId: 1,
  eosId: 2,
  encode: (text: string) => text.split(" ").filter((word) => word !== "").map(Number),
  askedIds: ({ keyIds }: { keyIds: readonly number[] }) => keyIds,
  decode: (ids: readonly number[]) => ids.join(" "),
} as unknown as Tokenizer;

/** A fingerprint of these ids; the first response is the trained one. */
export function fingerprint(keyIds: number[], ...responses: number[][]): Fingerprint {
  return {
    entry: 0,
    key: keyIds.join(" "),
    response: responses[0].join(" "),
    keyIds,
    extra: {},
    responseIds: responses[0],
    responses,
    responseTexts: responses.map((ids) => ids.join(" ")),
  };
}
