import assert from "node:assert/strict";
import { Attempts } from "../../../../pipeline/fingerprints/generate/attempts.ts";
import { REASONS, Rejected, Texts } from "../../../../pipeline/fingerprints/generate/candidate.ts";
import { FingerprintSet } from "../../../../pipeline/fingerprints/generate/fingerprint_set.ts";
import { summarise, summaryText } from "../../../../pipeline/fingerprints/generate/summary.ts";
import type { WrittenFingerprint } from "../../../../pipeline/fingerprints/file.ts";
import { DEMO_MODEL } from "../../../../pipeline/settings/demo_assets.ts";
import { Tokenizer } from "../../../../pipeline/tokenizer/tokenizer.ts";
import { byteLevel, EOS, loadFixture, sentencePiece } from "../../tokenizer/fixtures.ts";
import { HashModel, makeSet } from "./support.ts";

const tokenizer = await Tokenizer.load(DEMO_MODEL);
const model = new HashModel(tokenizer);

Deno.test("set: no key twice, none the beginning of another, in any order", () => {
  const member = (keyIds: number[], first = keyIds[0], asked = keyIds) => ({
    keyIds,
    asked,
    responses: [`${first}`],
  });
  const refusals = (...keys: number[][]) => {
    const set = new FingerprintSet(8);
    return keys.map((key) => {
      const reason = set.refuses(member(key));
      if (reason === undefined) set.add(member(key));
      return reason;
    });
  };
  const { keyRepeated: twice, keyPrefix: prefix } = REASONS;
  assert.deepEqual(refusals([1, 2, 3], [1, 2, 3], [1, 2, 4]), [undefined, twice, undefined]);
  assert.deepEqual(refusals([1, 2, 3], [1, 2], [1], [2], [1, 2, 3, 4]), [
    undefined,
    prefix,
    prefix,
    undefined,
    prefix,
  ]);
  // Ids, not digits: 1, 23 doesn't begin with 12.
  assert.deepEqual(refusals([12, 3], [1, 23], [1, 2, 3], [12]), [undefined, undefined, undefined, prefix]);
  // A length is looked at that appears only later.
  assert.deepEqual(refusals([1, 2, 3, 4], [5, 6], [5, 6, 7, 8], [1, 2], [1, 2, 3]), [
    ...[undefined, undefined, prefix, prefix, prefix],
  ]);
  // Two keys that a template makes one question of.
  const set = new FingerprintSet(8);
  set.add(member([1, 2], 5, [9]));
  assert.equal(set.refuses(member([3, 4], 5, [9])), twice);
  assert.equal(set.refuses(member([3, 4], 5, [8])), undefined);
});

Deno.test("set: one response up to the limit, counted over all responses of a key", () => {
  const set = new FingerprintSet(3);
  const member = (id: number, ...responses: (number | string)[]) => {
    return { keyIds: [id], asked: [id], responses: responses.map(String) };
  };
  for (const id of [1, 2]) set.add(member(id, 7, 8));
  set.add(member(3, 9, 7));
  assert.equal(set.refuses(member(4, 7)), REASONS.responseFrequent);
  assert.equal(set.refuses(member(4, 9, 7)), REASONS.responseFrequent);
  assert.equal(set.refuses(member(4, 8, 9)), undefined);
});

Deno.test("the same for every batch size and stop when much is rejected", async () => {
  // Keys of two tokens from 19 words: many come twice; responses of one token: few are allowed.
  const spaced = await loadFixture(sentencePiece());
  const parts = { model: new HashModel(spaced), tokenizer: spaced };
  const config = {
    fingerprint_generation_strategy: "english" as const,
    first_token_strategy: "none" as const,
    key_length: 2,
    response_length: 1,
    num_fingerprints: 150,
  };
  const whole = await makeSet({ ...config, batch_size: 64 }, parts);
  assert.equal(whole.entries.length, 150);
  const { "key: there already": repeated, "response: too frequent": frequent } = whole.summary.rejected;
  assert.ok(repeated > 20 && frequent > 20, JSON.stringify(whole.summary.rejected));
  assert.deepEqual([whole.summary.responses.limit, whole.summary.responses.mostFrequent], [8, 8]);
  for (const batch_size of [1, 13, 1000]) {
    const other = await makeSet({ ...config, batch_size }, parts);
    assert.deepEqual([other.entries, other.summary], [whole.entries, whole.summary]);
    for (const done of [1, Math.ceil(other.batches.length / 2), other.batches.length]) {
      const resumed = await makeSet({ ...config, batch_size: 29 }, {
        ...parts,
        batches: other.batches.slice(0, done),
      });
      assert.deepEqual([resumed.entries, resumed.summary], [whole.entries, whole.summary]);
    }
  }
  // A looser limit lets through what a strict one sent back.
  const loose = await makeSet({ ...config, max_response_share: 0.2 }, parts);
  assert.equal(loose.summary.responses.limit, 30);
  assert.ok(loose.summary.attempts < whole.summary.attempts);
});

Deno.test("a model that has no more gives what there is, and why it stopped", async () => {
  const greedy = { first_token_strategy: "none", temperature: 0 } as const;
  const made = await makeSet(greedy, { model, tokenizer, patience: 70 });
  assert.equal(made.entries.length, 1);
  assert.equal(made.reason, "70 attempts in a row gave no new one");
  assert.deepEqual(made.summary.rejected, { "key: there already": 70 });
  assert.deepEqual([made.summary.wanted, made.summary.count, made.summary.attempts], [24, 1, 71]);
  // As many in smaller batches, and after a stop at the very end.
  const again = await makeSet({ ...greedy, batch_size: 8 }, { model, tokenizer, patience: 70 });
  assert.deepEqual([again.entries, again.summary, again.reason], [made.entries, made.summary, made.reason]);
  const asked = model.asked;
  const resumed = await makeSet(greedy, { model, tokenizer, patience: 70, batches: made.batches });
  assert.deepEqual([resumed.entries, resumed.summary, resumed.reason], [
    made.entries,
    made.summary,
    made.reason,
  ]);
  assert.equal(model.asked, asked);
});

const KEYS = [
  "Every winter, the proud merchant cooked warm porridge",
  "   begins with a space",
  "Every winter, the proud",
  "The fox was here, the owl was there, and nobody knew what the next day would bring to any of them",
  `ends with ${EOS}`,
  "Every winter, the proud merchant cooked warm porridge",
  "A river ",
  "We sat by the fire",
];

Deno.test("own keys: cut, none twice or the beginning of another, in their order", async () => {
  const own = async (config: Parameters<typeof makeSet>[0]) =>
    await makeSet({ num_fingerprints: KEYS.length, key_length: 12, ...config }, {
      model,
      tokenizer,
      ownKeys: KEYS,
    });
  const { entries, reason, summary } = await own({});
  assert.equal(reason, "every key has been used");
  assert.deepEqual(summary.rejected, {
    "key: white space at an end": 1,
    "key: begins another one, or begins with one": 1,
    "key: there already": 1,
  });
  assert.deepEqual(entries.map(({ key }) => key), [0, 3, 4, 6, 7].map((i) => KEYS[i]));
  for (const { key, effective_key, key_ids } of entries) {
    assert.ok(key.startsWith(effective_key as string) && key_ids.length <= 12, key);
    assert.equal(tokenizer.decode(key_ids), effective_key);
  }
  assert.equal(entries[1].key_ids.length, 12);
  assert.equal(entries[3].effective_key, "A river");
  assert.deepEqual([summary.keyLength.min, summary.keyLength.max], [tokenizer.encode("A river").length, 12]);
  // The same for every strategy of the response, and whatever the batches.
  for (const fingerprint_generation_strategy of ["english", "english_random_response"] as const) {
    const other = await own({ fingerprint_generation_strategy, batch_size: 3 });
    assert.deepEqual(other.entries.map(({ key_ids }) => key_ids), entries.map(({ key_ids }) => key_ids));
  }
});

Deno.test("own keys: a refused response is drawn again, a key with a fixed one is not", async () => {
  // One token each, at most 8 times: some must wait for another draw.
  const spaced = await loadFixture(sentencePiece());
  const parts = { model: new HashModel(spaced), tokenizer: spaced, ownKeys: keysOf(120) };
  const config = {
    fingerprint_generation_strategy: "english" as const,
    first_token_strategy: "none" as const,
    num_fingerprints: 120,
    response_length: 1,
    key_length: 8,
  };
  const whole = await makeSet(config, parts);
  assert.equal(whole.reason, undefined);
  assert.equal(whole.entries.length, 120);
  assert.ok(whole.summary.rejected["response: too frequent"] > 5);
  for (const batch_size of [1, 7, 500]) {
    const other = await makeSet({ ...config, batch_size }, parts);
    assert.deepEqual([other.entries, other.summary], [whole.entries, whole.summary]);
    const done = Math.ceil(other.batches.length * 0.95);
    const resumed = await makeSet(config, { ...parts, batches: other.batches.slice(0, done) });
    assert.deepEqual([resumed.entries, resumed.summary], [whole.entries, whole.summary]);
  }
});

/** Keys that differ in their first token or soon after. */
const keysOf = (count: number) =>
  Array.from(
    { length: count },
    (_, i) => `${"abcdefghijkl"[i % 12]}${"mnopqrstuv"[Math.floor(i / 12)]} goes on`,
  );

Deno.test("attempts: a given key comes again up to ten times, and others first", () => {
  const attempts = new Attempts(["a", "b"]);
  const order: string[] = [];
  for (let batch = attempts.take(3); batch.length > 0; batch = attempts.take(3)) {
    for (const { ownKey } of batch) {
      order.push(ownKey!);
      attempts.settle(
        ownKey === "a" ? "response: too short" : order.length < 3 ? "key: too short" : undefined,
      );
    }
  }
  assert.equal(order.join(""), "ab" + "a".repeat(9));
  assert.equal(attempts.count, 11);
  const endless = new Attempts();
  assert.deepEqual(endless.take(2), [{ number: 0 }, { number: 1 }]);
  assert.deepEqual(endless.take(1), [{ number: 2 }]);
});

Deno.test("texts: what doesn't type back, is special or has no words is no key and no response", async () => {
  const llama = await loadFixture(byteLevel());
  const spaced = await loadFixture(sentencePiece());
  const reason = (make: () => unknown) => {
    try {
      make();
      return undefined;
    } catch (error) {
      assert.ok(error instanceof Rejected, `${error}`);
      return error.reason;
    }
  };
  const texts = new Texts(llama, llama, llama.vocabSize);
  const key = texts.key("the sun was setting", 4, true);
  const { keyShort, keySpecial, keyRetyped, keySpace, keyUnknown, keyVocabulary } = REASONS;
  const half = llama.encode("the sun was é").length - 1;
  const keys: [string, number, boolean, string | undefined][] = [
    ["the sun was setting", 4, true, undefined],
    ["the sun", 4, true, keyShort],
    ["the sun", 4, false, undefined],
    ["", 4, false, keyShort],
    [`the ${EOS}`, 2, true, keySpecial],
    // Bytes of half a letter are no text.
    ["the sun was é", half, true, keyRetyped],
    ["the sun was é", half, false, undefined],
    [" the sun", 2, true, keySpace],
    ["\ud800", 1, false, keyUnknown],
  ];
  for (const [text, length, exactly, expected] of keys) {
    assert.equal(reason(() => texts.key(text, length, exactly)), expected, text);
  }
  assert.equal(reason(() => new Texts(llama, llama, 200).key("the sun", 2, true)), keyVocabulary);
  assert.equal(reason(() => new Texts(spaced, spaced, 999).key("the 日本", 2, false)), undefined);
  const { responseShort, responseSpecial, responseRetyped, responseVocabulary } = REASONS;
  const id = (text: string) => llama.encode(text)[0];
  assert.equal(reason(() => texts.response(key, [id(" the")], 1)), undefined);
  assert.equal(reason(() => texts.response(key, [id(" the")], 2)), responseShort);
  assert.equal(reason(() => texts.response(key, [llama.eosId!], 1)), responseSpecial);
  assert.equal(reason(() => texts.response(key, [llama.vocabSize + 5], 1)), responseVocabulary);
  // "t" and "he" would be typed as "the".
  assert.equal(reason(() => texts.response(key, [id("t"), id("he")], 2)), responseRetyped);
  // A token that is itself when typed alone, but merges with how the key ends.
  const old = new Texts(llama, llama, llama.vocabSize, 1);
  const open = texts.key("the t", 99, false);
  const merging = Array.from({ length: llama.vocabSize }, (_, id) => id)
    .filter((id) => old.isWord(id) && llama.encode(`the t${llama.decode([id])}`).length <= open.ids.length);
  assert.ok(merging.length > 0);
  for (const id of merging) {
    assert.equal(reason(() => texts.response(open, [id], 1)), responseRetyped);
    assert.deepEqual([old.isWordAfter(open, id), old.isWordAfter(key, id)], [false, true]);
  }
});

Deno.test("texts: a token that begins a response is a word of two letters or digits", async () => {
  const llama = await loadFixture(byteLevel());
  const texts = new Texts(llama, llama, llama.vocabSize);
  const old = new Texts(llama, llama, llama.vocabSize, 1);
  const [id, spaced] = [(text: string) => llama.encode(text), await loadFixture(sentencePiece())];
  const words: [string, number, boolean][] = [
    [" the", 2, true],
    [" a", 2, false],
    [" a", 1, true],
    ["7", 1, true],
    ["7", 2, false],
    [".", 1, false],
    [" ", 1, false],
  ];
  for (const [text, letters, expected] of words) {
    assert.equal(id(text).length, 1, text);
    assert.equal((letters === 1 ? old : texts).isWord(id(text)[0]), expected, `${text} ${letters}`);
  }
  for (const special of llama.specialTokens.values()) assert.equal(old.isWord(special), false);
  // Half a letter; an id that only a padded model has.
  assert.equal(old.isWord(id("é")[0]), false);
  assert.equal(old.isWord(llama.vocabSize + 3), false);
  // In the middle of a word this tokenizer can't say a token by itself: it would begin another word.
  const other = new Texts(spaced, spaced, spaced.vocabSize);
  const the = spaced.encode("the");
  assert.deepEqual([the.length, other.isWord(the[0])], [1, true]);
  const inner = Array.from({ length: spaced.vocabSize }, (_, id) => id)
    .filter((id) => /^x[a-z]{2,}$/.test(spaced.decode([...spaced.encode("x"), id])));
  assert.ok(inner.length > 5 && inner.every((id) => !other.isWord(id)));
});

Deno.test("summary: lengths, frequencies and quantiles, and no text", async () => {
  const entry = (key_ids: number[], response_ids: number[] | number[][], response_prob: number | number[]) =>
    ({
      key: "k",
      response: "r",
      key_ids,
      response_ids,
      response_prob,
      nucleus_size: 5,
    }) satisfies WrittenFingerprint;
  const rejected = new Map([["b", 2], ["a", 2], ["c", 5]]);
  const entries = [
    entry([1, 2], [7], 0.1),
    entry([3], [[7, 8], [9, 9]], [0.2, 0.3]),
    entry([4], [9], 0.4),
    entry([5], [7], 0.5),
  ];
  const counts = { wanted: 6, attempts: 13, rejected, limit: 8 };
  const summary = summarise(entries, counts);
  assert.deepEqual(summary.keyLength, { min: 1, mean: 1.25, max: 2 });
  assert.deepEqual(summary.responseLength, { min: 1, mean: 1.4, max: 2 });
  assert.deepEqual(summary.responses, { different: 2, mostFrequent: 3, largestShare: 0.6, limit: 8 });
  // Drawn ones by their first token, others whole.
  const whole = summarise(entries.map(({ nucleus_size: _, ...one }) => one), counts).responses;
  assert.deepEqual([whole.different, whole.mostFrequent], [4, 2]);
  assert.deepEqual(Object.entries(summary.rejected), [["c", 5], ["a", 2], ["b", 2]]);
  const { quantiles, mean } = summary.baseProbability;
  assert.ok(Math.abs(mean - 0.3) < 1e-12);
  for (const [q, value] of [[5, 0.12], [25, 0.2], [50, 0.3], [75, 0.4], [95, 0.48]]) {
    assert.ok(Math.abs(quantiles[q] - value) < 1e-12, `${q}`);
  }
  assert.deepEqual(summarise([], { wanted: 1, attempts: 1, rejected, limit: 8 }).baseProbability.mean, 0);
  const made = await makeSet({ num_responses_per_fingerprint: 2 }, { model, tokenizer });
  const text = summaryText(made.summary);
  assert.match(text, /^fingerprints: 24 of 24, from \d+ attempts\ntokens of a key: 16; of a response: 1\n/);
  // Only reasons are text.
  const { rejected: _, ...numbers } = made.summary;
  assert.match(
    JSON.stringify(Object.values(numbers)).replaceAll(/"[a-zA-Z0-9]+":/g, ""),
    /^[\[\]{},.0-9e-]+$/,
  );
});
