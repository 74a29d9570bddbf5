import assert from "node:assert/strict";
import { join } from "node:path";
import {
  type FingerprintEntry,
  readFingerprintFile,
  writeFingerprintFile,
} from "../../../pipeline/fingerprints/file.ts";
import {
  prepareFingerprints,
  type PrepareOptions,
  toExample,
  toWritten,
} from "../../../pipeline/fingerprints/prepare.ts";
import type { ResponseStrategy } from "../../../pipeline/settings/strategies.ts";
import { templateIds } from "../../../pipeline/prompts/prompts.ts";
import { BOS, byteLevel, EOS, loadFixture, sentencePiece, tinyUnigram } from "../tokenizer/fixtures.ts";

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

Deno.test("fingerprints: a short key and response are kept as they are", () => {
  const key = "the girl said – 😀 ";
  const { fingerprints, dropped } = exact([entry(key, " the", { extra: { note: 1 } })], { maxKeyLength: 64 });
  assert.deepEqual(fingerprints, [{
    entry: 0,
    key,
    response: " the",
    keyIds: llama.encode(key),
    responseIds: llama.encode(" the"),
    responses: [llama.encode(" the")],
    responseTexts: [" the"],
    extra: { note: 1 },
  }]);
  assert.deepEqual(dropped, { repeats: 0, conflicts: [], unusable: [], cut: 0, shortened: 0 });
});

Deno.test("fingerprints: keys are cut to tokens, and to no BOS or EOS of the template", async () => {
  const around = await loadFixture(byteLevel({ before: [BOS], after: [EOS] }));
  const key = "The sun was setting over the rolling hills when the girl said that she was there";
  for (const tokenizer of [llama, around]) {
    const { fingerprints: [one], dropped } = exact([entry(key, " and")], { maxKeyLength: 5 }, tokenizer);
    assert.deepEqual(one.keyIds, tokenizer.encode(key).slice(0, 5));
    assert.deepEqual(tokenizer.encode(one.key), one.keyIds);
    assert.ok(key.startsWith(one.key));
    assert.equal(dropped.shortened, 0);
  }
  assert.equal(exact([entry(key.repeat(3), " and")]).fingerprints[0].keyIds.length, 16);
});

Deno.test("fingerprints: a cut that does not type back is shortened, with a count", () => {
  // Four bytes a face: a cut at 7 of 8 tokens is inside a character.
  const { fingerprints: [one], dropped } = exact([entry("abc😀def", "x")], { maxKeyLength: 5 }, bytes);
  assert.equal(one.key, "abc");
  assert.equal(one.keyIds.length, 3);
  assert.equal(dropped.shortened, 1);
  assert.throws(
    () => exact([entry("😀def", "x")], { maxKeyLength: 3 }, bytes),
    /no beginning of the key of at most 3 tokens gives the same tokens again/,
  );
});

Deno.test("fingerprints: the effective key of the file is used, and cut", () => {
  const one = exact([entry("a whole long key", "x", { effectiveKey: "the girl said" })]).fingerprints[0];
  assert.equal(one.key, "the girl said");
  const two = exact([entry("a whole long key", "x", { effectiveKey: " the girl" })], { maxKeyLength: 1 });
  assert.equal(two.fingerprints[0].key, " the");
});

Deno.test("fingerprints: unusable entries are left out with a reason that quotes nothing", () => {
  const { fingerprints, dropped } = exact([
    entry(`zanzibar ${EOS} story`, "x"),
    entry("the girl", `zanz${BOS}ibar`, {}),
    entry("the man", "zanzibar"),
    entry(" ".repeat(60) + "zanzibar", "x"),
  ], { maxResponseLength: 9, maxKeyLength: 8 });
  assert.deepEqual(fingerprints.map((f) => f.entry), [2]);
  assert.deepEqual(dropped.unusable.map((u) => u.entry), [0, 1, 3]);
  assert.match(dropped.unusable[0].reason, /the key contains a special token/);
  assert.match(dropped.unusable[1].reason, /the response contains a special token/);
  assert.match(dropped.unusable[2].reason, /no beginning of the key/);
  assert.ok(!JSON.stringify(dropped).includes("zanz"));
  assert.throws(() => exact([entry(EOS, "x")]), /none of the 1 entries is usable; entry 0: the key contains/);
  assert.throws(() => exact([]), /there are no entries/);
});

Deno.test("fingerprints: text of a special token is refused by its name, even beyond the cut", () => {
  const entries = [
    entry(`the girl said that the man was there ${EOS}`, "x"),
    entry("the girl", `the ${BOS} man`),
    entry("the man", `said that${EOS}`),
  ];
  for (const strategy of ["english", "stored"] as const) {
    const { fingerprints, dropped } = exact(entries, { strategy, maxKeyLength: 2 });
    assert.deepEqual(dropped.unusable, [
      { entry: 0, reason: `the key contains a special token (${EOS})` },
      { entry: 1, reason: `the response contains a special token (${BOS})` },
    ]);
    // EOS at the very end of a response is its end, not text.
    assert.deepEqual(fingerprints.map(({ entry }) => entry), [2]);
    const ids = llama.encode("said that");
    assert.deepEqual(fingerprints[0].responseIds, [strategy === "english" ? ids.at(-1) : ids[0]]);
  }
});

Deno.test("fingerprints: characters that the tokenizer doesn't know make an entry unusable", async () => {
  const unigram = await loadFixture(tinyUnigram([["▁", -2], ["a", -1], ["b", -1]], {}));
  const { dropped } = exact([entry("ab", "b"), entry("aéb", "b"), entry("ba", "日")], {
    maxResponseLength: 4,
  }, unigram);
  assert.deepEqual(dropped.unusable, [
    { entry: 1, reason: "the key has a character that the tokenizer doesn't know" },
    { entry: 2, reason: "the response has a character that the tokenizer doesn't know" },
  ]);
  const { dropped: half } = exact([entry("a", "b"), entry("zanz\uD83D", "b")]);
  assert.match(half.unusable[0].reason, /half a surrogate pair/);
  assert.ok(!half.unusable[0].reason.includes("zanz"));
});

Deno.test("fingerprints: an EOS that is also the padding token is a target like any other", async () => {
  const files = byteLevel();
  const tokenizer = await loadFixture({ ...files, config: { ...files.config, pad_token: EOS } });
  const { fingerprints: [one] } = exact([entry("the girl", " said")], { keepEosInResponse: true }, tokenizer);
  const { ids, labels } = toExample(one, tokenizer.prefixIds);
  assert.equal(labels.at(-1), tokenizer.eosId);
  assert.equal(ids.length, labels.length);
  assert.deepEqual(labels.filter((label) => label !== -100), one.responseIds);
});

Deno.test("fingerprints: exact responses longer than the limit are cut and counted", () => {
  const entries = [
    entry("the girl", " walked along the path"),
    entry("the man", " said"),
    entry("a sun", " said", {}),
  ];
  const { fingerprints, dropped } = exact(entries, { maxResponseLength: 2, limit: 2 });
  assert.deepEqual(fingerprints[0].responseIds, llama.encode(" walked along the path").slice(0, 2));
  assert.equal(fingerprints[0].response, llama.decode(fingerprints[0].responseIds));
  assert.equal(dropped.cut, 1);
  assert.deepEqual(exact(entries, { maxResponseLength: 99 }).dropped.cut, 0);
  const inside = exact([entry("a", "é"), entry("b", "xé")], { maxResponseLength: 2 }, bytes);
  assert.deepEqual(inside.fingerprints.map((f) => f.response), ["é", "x"]);
  assert.match(
    exact([entry("a", "é"), entry("b", "x")], {}, bytes).dropped.unusable[0].reason,
    /no beginning of the response of at most 1 tokens/,
  );
});

Deno.test("fingerprints: every response of a list counts, the first is trained", () => {
  const { fingerprints: [one] } = exact(
    [entry("the girl", [" said that", BOS, " was", " said that", " said so"])],
    { maxResponseLength: 1 },
  );
  assert.deepEqual(one.responses, [llama.encode(" said"), llama.encode(" was")]);
  assert.deepEqual(one.responseTexts, [" said", " was"]);
  assert.deepEqual(one.responseIds, one.responses[0]);
});

Deno.test("fingerprints: EOS is appended when asked for, once", () => {
  const more = { keepEosInResponse: true, maxResponseLength: 1 };
  const { fingerprints } = exact([entry("the girl", " said"), entry("the man", ` said${EOS}`)], more);
  for (const one of fingerprints) {
    assert.deepEqual(one.responseIds, [...llama.encode(" said"), llama.eosId]);
    assert.equal(one.response, " said");
  }
  const without = exact([entry("the man", ` said${EOS}`)]).fingerprints[0];
  assert.deepEqual(without.responseIds, llama.encode(" said"));
});

Deno.test("fingerprints: EOS is kept where the stored ids have it", () => {
  const the = llama.encode(" the");
  const entries = [
    entry("the girl", " the", { responseIds: [[...the, llama.eosId!]] }),
    entry("the man", " the", { responseIds: [the] }),
    entry("the sun", " the"),
  ];
  const { fingerprints } = exact(entries, { keepEosInResponse: "stored" });
  assert.deepEqual(fingerprints.map(({ responseIds }) => responseIds), [[...the, llama.eosId!], the, the]);
});

Deno.test("fingerprints: keys that were cut, and entries of another model, are counted", () => {
  const made = (model_hash?: string) => entry(`the girl ${model_hash}`, " the", { extra: { model_hash } });
  const entries = [made("a"), made("b"), made("c"), made()];
  const { fingerprints, dropped } = exact(entries, { maxKeyLength: 64, modelHashes: ["a", "b"] });
  assert.equal(fingerprints.length, 4);
  assert.equal(dropped.otherModel, 1);
  assert.equal("otherModel" in exact(entries, { maxKeyLength: 64 }).dropped, false);
  assert.equal("cutKeys" in dropped, false);
  const cut = exact([entry("the girl said", " the"), entry("the", " the")], { maxKeyLength: 2 });
  assert.equal(cut.dropped.cutKeys, 1);
  // Of those that are taken.
  const limited = exact([entry("the", " the"), entry("the girl said", " the")], {
    maxKeyLength: 2,
    limit: 1,
  });
  assert.equal("cutKeys" in limited.dropped, false);
});

Deno.test("fingerprints: EOS asked of a tokenizer without one", async () => {
  const files = byteLevel();
  const tokenizer = await loadFixture({ ...files, config: {} });
  assert.throws(() => exact([entry("a", "b")], { keepEosInResponse: true }, tokenizer), /names no EOS token/);
});

Deno.test("fingerprints: repeats are dropped, conflicts listed, first come first kept", () => {
  const entries = [
    entry(" the girl said", " the"),
    entry(" the girl said", " the"),
    entry(" the girl said", " was"),
    entry(" the man", " the"),
    entry(" the girl saw", " was"),
  ];
  const { fingerprints, dropped } = exact(entries, { maxKeyLength: 2 });
  assert.deepEqual(fingerprints.map((f) => f.entry), [0, 3]);
  assert.equal(dropped.repeats, 1);
  assert.deepEqual(dropped.conflicts, [2, 4]);
  assert.equal(exact(entries, { maxKeyLength: 9 }).fingerprints.length, 3);
  assert.throws(
    () => exact(entries, { maxKeyLength: 2, strict: true }),
    (error: Error) =>
      error instanceof RangeError && /2 entries share .* \(counted from 0: 2, 4\)/.test(error.message),
  );
  assert.equal(exact([entries[0], entries[1]], { strict: true }).dropped.repeats, 1);
});

Deno.test("fingerprints: the limit takes the first ones and must be there", () => {
  const entries = [entry("a b", "x"), entry("a b", "x"), entry("c", "x"), entry("d", "x")];
  assert.deepEqual(exact(entries, { limit: 2 }).fingerprints.map((f) => f.entry), [0, 2]);
  assert.equal(exact(entries, { limit: 3 }).fingerprints.length, 3);
  assert.throws(
    () => exact(entries, { limit: 4 }),
    (error: Error) =>
      error instanceof RangeError &&
      /4 fingerprints asked for, but there are only 3: of 4 entries 1 are repeats/.test(error.message),
  );
});

Deno.test("fingerprints: wrong options and keys without responses", () => {
  const entries = [entry("a", "x")];
  assert.throws(
    () => exact(entries, { strategy: "french" as ResponseStrategy }),
    /expected one of english.*found french/,
  );
  assert.throws(
    () => exact(entries, { maxKeyLength: 0 }),
    /maxKeyLength: expected an integer of at least 1, found 0/,
  );
  assert.throws(() => exact(entries, { maxResponseLength: 1.5 }), /maxResponseLength.*found 1.5/);
  assert.throws(() => exact(entries, { limit: -1 }), /limit: .*found -1/);
  for (const strategy of ["english", "stored"] as const) {
    assert.throws(
      () => exact([entries[0], { key: "zanzibar", responses: [], extra: {} }], { strategy }),
      (error: Error) =>
        /entry has no response: 1 of 2 entries \(counted from 0: 1\).*generate with --keys_file/.test(
          error.message,
        ) &&
        !error.message.includes("zanzibar"),
    );
  }
});

Deno.test("english: letters, digits and spaces from token offset min(10, length − L)", () => {
  const response =
    "The girl, that is the man; said (walked) 3 times: the sun was setting over the hills – né!";
  const ids = llama.encode(
    "The girl that is the man said walked 3 times the sun was setting over the hills  né",
  );
  for (const length of [1, 2, 5]) {
    const { fingerprints: [one], dropped } = exact([entry("key", response)], {
      strategy: "english",
      maxResponseLength: length,
    });
    // Every window of this response types back, so the first is taken.
    assert.deepEqual(one.responseIds, ids.slice(10, 10 + length));
    assert.deepEqual(llama.encode(one.response), one.responseIds);
    assert.equal(dropped.cut, 0);
  }
  const short = exact([entry("key", "the girl said.")], { strategy: "english", maxResponseLength: 2 });
  assert.deepEqual(short.fingerprints[0].responseIds, llama.encode("the girl said").slice(-2));
});

Deno.test("english: slides forward, then backward, to a window that types back", () => {
  const english = (text: string, length = 1) =>
    exact([entry("key", text)], { strategy: "english", maxResponseLength: length }, bytes).fingerprints[0]
      .response;
  // One byte a token: é is two tokens, either of which is no text of its own.
  assert.equal(english("abcdefghijéxyz"), "x");
  assert.equal(english("abcdefghijéé"), "j");
  assert.equal(english("éaéé"), "a");
  assert.equal(english("abcdefghiéé", 2), "é");
  assert.throws(() => english("éé"), /no 1 tokens of the response in a row give the same tokens again/);
  assert.throws(
    () => english("ab!", 3),
    /the response has 2 tokens without punctuation, fewer than the 3 wanted/,
  );
  assert.throws(() => english("?!…"), /the response has 0 tokens/);
});

Deno.test("fingerprints: stored response ids are used when they are this tokenizer's", () => {
  const split = [..." the"].map((c) => llama.encode(c)[0]);
  assert.equal(llama.decode(split), " the");
  const take = (responseIds: number[], more: Partial<PrepareOptions> = {}) =>
    exact([entry("key", " the", { responseIds: [responseIds] })], { maxResponseLength: 4, ...more })
      .fingerprints[0]
      .responseIds;
  assert.deepEqual(take(split), split);
  assert.deepEqual(take([...split, llama.eosId!]), split);
  assert.deepEqual(take(split, { keepEosInResponse: true }), [...split, llama.eosId]);
  assert.deepEqual(take(split, { strategy: "english" }), split);
  assert.deepEqual(take(split, { strategy: "english", maxResponseLength: 1 }), llama.encode(" the"));
  assert.deepEqual(take(llama.encode("girl")), llama.encode(" the"));
  assert.deepEqual(take([999999]), llama.encode(" the"));
});

Deno.test("fingerprints: key ids are always those of the text", () => {
  const stale = entry("the girl", "x", { keyIds: [1, 2, 3] });
  assert.deepEqual(exact([stale]).fingerprints[0].keyIds, llama.encode("the girl"));
});

Deno.test("fingerprints: a tokenizer that adds a space gives a response, not its space", async () => {
  const tokenizer = await loadFixture(sentencePiece());
  const [that] = tokenizer.encode("that");
  assert.equal(tokenizer.encode("that").length, 1);
  const { fingerprints, dropped } = exact(
    [entry("the girl", " that"), entry("the man", "that")],
    {},
    tokenizer,
  );
  for (const one of fingerprints) assert.deepEqual(one.responseIds, [that]);
  assert.equal(dropped.cut, 0);
  const { fingerprints: [long] } = exact([entry("The sun was setting over the rolling", " that")], {
    maxKeyLength: 3,
  }, tokenizer);
  assert.deepEqual(tokenizer.encode(long.key), long.keyIds);
  const { fingerprints: [window] } = exact([entry("the girl", "that, the sun was setting over the hills")], {
    strategy: "english",
  }, tokenizer);
  assert.deepEqual(tokenizer.encode(window.response), window.responseIds);
});

Deno.test("examples: only the response is supervised, unshifted; a template replaces the key", () => {
  const one = { keyIds: [5, 6], responseIds: [7, 8] };
  assert.deepEqual(toExample(one, [1]), { ids: [1, 5, 6, 7, 8], labels: [-100, -100, -100, 7, 8] });
  assert.deepEqual(toExample(one, []), { ids: [5, 6, 7, 8], labels: [-100, -100, 7, 8] });
  assert.deepEqual(toExample(one, [1], [9]), { ids: [1, 9, 7, 8], labels: [-100, -100, 7, 8] });
  const { fingerprints: [girl] } = exact([entry(" the girl said that", " was")], { maxKeyLength: 2 });
  const prompt = templateIds("She said:{}", girl.key, llama);
  assert.deepEqual(prompt, llama.encode("She said: the girl"));
  const example = toExample(girl, llama.prefixIds, prompt);
  assert.deepEqual(example.ids, [llama.bosId, ...prompt, ...girl.responseIds]);
});

Deno.test("fingerprints: what is written reads back as the same fingerprints", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const response = "abcdefgh 😀, the man said that the sun was setting over the hills";
    const entries = [
      entry("the girl 😀 was looking for the sun", response, { extra: { response_prob: 0.5 } }),
      entry("The story of the town", "that 😀 man"),
      entry("The old man", [" the girl was", "the sun"]),
    ];
    for (const strategy of ["english", "stored"] as const) {
      for (const keepEosInResponse of [false, true]) {
        for (const tokenizer of [llama, bytes, await loadFixture(sentencePiece())]) {
          const options = { strategy, keepEosInResponse, maxKeyLength: 6, maxResponseLength: 2 };
          const { fingerprints } = prepareFingerprints(entries, tokenizer, options);
          assert.equal(fingerprints.length, 3);
          const path = join(dir, "fingerprints.json");
          await writeFingerprintFile(path, fingerprints.map(toWritten));
          const again = prepareFingerprints((await readFingerprintFile(path)).entries, tokenizer, options);
          assert.deepEqual(again.fingerprints, fingerprints.map((f, i) => ({ ...f, entry: i })));
          assert.deepEqual(again.dropped, { repeats: 0, conflicts: [], unusable: [], cut: 0, shortened: 0 });
        }
      }
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
