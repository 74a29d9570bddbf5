/** Ids and settings that a file has already, and responses by strategy. */
import assert from "node:assert/strict";
import type { FingerprintEntry } from "../../../pipeline/fingerprints/file.ts";
import {
  prepareFingerprints,
  type PrepareOptions,
  storedSettings,
  toWritten,
} from "../../../pipeline/fingerprints/prepare.ts";
import { WORDS } from "../../../pipeline/fingerprints/words.ts";
import type { ResponseStrategy } from "../../../pipeline/settings/strategies.ts";
import { byteLevel, loadFixture } from "../tokenizer/fixtures.ts";

const llama = await loadFixture(byteLevel());
const bytes = await loadFixture(byteLevel({ merges: 0 }));

const entry = (key: string, response: string | string[], more: Partial<FingerprintEntry> = {}) => ({
  key,
  responses: [response].flat(),
  extra: {},
  ...more,
});
const exact = (entries: FingerprintEntry[], more: Partial<PrepareOptions> = {}, tokenizer = llama) =>
  prepareFingerprints(entries, tokenizer, { strategy: "stored", ...more });

Deno.test("stored ids of this tokenizer must be those of the text; another tokenizer's text is tokenised anew", async () => {
  const ours = { extra: { tokenizer_hash: llama.hash, response_prob: 0.1 } };
  const split = [..." the"].map((c) => llama.encode(c)[0]);
  const good = entry("the girl", " the", { keyIds: llama.encode("the girl"), responseIds: [split], ...ours });
  const taken = exact([good], { maxResponseLength: 4 });
  assert.deepEqual(taken.fingerprints[0].responseIds, split);
  assert.deepEqual(taken.fingerprints[0].extra, ours.extra);
  assert.deepEqual(taken.dropped, { repeats: 0, conflicts: [], unusable: [], cut: 0, shortened: 0 });
  const said = llama.encode(" said");
  const { dropped } = exact([
    { ...good, keyIds: llama.encode("zanz") },
    { ...good, responseIds: [said] },
    entry("the man", [" the", " was"], { responseIds: [split, said], ...ours }),
  ], { maxResponseLength: 4, limit: 1 });
  assert.deepEqual(dropped.unusable, [
    { entry: 0, reason: "the key_ids are not the tokens of the key with the tokenizer that they name" },
    {
      entry: 1,
      reason: "the response_ids are not the tokens of the response with the tokenizer that they name",
    },
  ]);
  // A wrong alternative is merely not accepted.
  const third = exact([entry("the man", [" the", " was"], { responseIds: [split, said], ...ours })], {
    maxResponseLength: 4,
  });
  assert.deepEqual(third.fingerprints[0].responses, [split]);

  const other = { ...good, extra: { tokenizer_hash: "0123", model: "m" } };
  const anew = exact([other, entry("the man", " said")], { maxResponseLength: 4 });
  assert.deepEqual(anew.fingerprints[0].responseIds, llama.encode(" the"));
  assert.equal(anew.dropped.retokenized, 1);
  // What is saved is this tokenizer's.
  assert.deepEqual(anew.fingerprints[0].extra, { tokenizer_hash: llama.hash, model: "m" });
  const file = await loadFixture(byteLevel({ merges: 0 }));
  assert.equal(file.hash, bytes.hash);
  assert.notEqual(bytes.hash, llama.hash);
  const elsewhere = exact([good], { maxResponseLength: 4 }, bytes);
  assert.deepEqual(elsewhere.fingerprints[0].responseIds, bytes.encode(" the"));
  assert.equal(elsewhere.dropped.retokenized, 1);
});

Deno.test("a generated file says how long its keys are and how they are asked", () => {
  const keyIds = llama.encode("the girl said that the man was there");
  const ours = entry("the girl", "x", { keyIds, extra: { tokenizer_hash: llama.hash } });
  const short = { ...ours, keyIds: keyIds.slice(0, 2) };
  assert.deepEqual(storedSettings([short, ours], llama), { keyLength: keyIds.length });
  assert.deepEqual(storedSettings([short, ours], bytes), {});
  assert.deepEqual(
    storedSettings([entry("a", "x", { keyIds, extra: { use_chat_template: true } })], llama),
    {},
  );
  const chat = { ...short, extra: { ...short.extra, use_chat_template: true } };
  assert.deepEqual(storedSettings([chat, chat], llama), { keyLength: 2, useChatTemplate: true });
});

Deno.test("random_word takes a window as english does; stored the beginning", () => {
  const response = "girl man said walked sun over hills the that was were when looking story town old";
  const take = (strategy: ResponseStrategy, more: Partial<FingerprintEntry> = {}) =>
    exact([entry("key", response, more)], { strategy, maxResponseLength: 2 }).fingerprints[0].responseIds;
  const ids = llama.encode(response);
  assert.deepEqual(take("random_word"), take("english"));
  assert.notDeepEqual(take("random_word"), ids.slice(0, 2));
  assert.deepEqual(take("stored"), ids.slice(0, 2));
});

Deno.test("english_random_response: random words in place of the responses, the same for a seed and entry", () => {
  const entries = Array.from(
    { length: 12 },
    (_, i) => entry(`the girl ${i}`, " the", { extra: { response_prob: 0.5, note: i } }),
  );
  const take = (list: FingerprintEntry[], more: Partial<PrepareOptions> = {}) =>
    exact(list, { strategy: "english_random_response", ...more }).fingerprints;
  const first = take(entries);
  assert.deepEqual(take(entries), first);
  assert.ok(new Set(first.map(({ response }) => response)).size > 6);
  for (const { responseIds, response, extra, entry } of first) {
    assert.equal(responseIds.length, 1);
    assert.deepEqual(llama.encode(response), responseIds);
    assert.match(response, /^ [a-z]+$/);
    assert.deepEqual(extra, { note: entry, strategy: "english_random_response" });
  }
  assert.notDeepEqual(take(entries, { seed: 7 }), first);
  // One letter a token: a whole word all the same.
  const options = { strategy: "english_random_response", maxResponseLength: 6 } as const;
  const letters = exact(entries, options, bytes).fingerprints;
  for (const { response, responseIds } of letters) {
    assert.equal(responseIds.length, 6);
    assert.ok(WORDS.includes(response.split(" ")[1]), response);
  }
  assert.ok(take(entries, { maxResponseLength: 3 }).every(({ responseIds }) => responseIds.length === 3));
  // Keys alone are enough, and what was random already stays: the words that a run saved, for one.
  const keys = entries.map(({ key }) => ({ key, responses: [], extra: {} }));
  assert.deepEqual(take(keys).map(({ responseIds }) => responseIds), first.map((one) => one.responseIds));
  const saved = first.map(toWritten).map(({ key, response, strategy }) =>
    entry(key, response, { extra: { strategy } })
  );
  assert.deepEqual(
    take(saved, { seed: 9 }).map(({ response }) => response),
    first.map((one) => one.response),
  );
});
