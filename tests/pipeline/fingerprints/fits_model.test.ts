import assert from "node:assert/strict";
import type { FingerprintEntry } from "../../../pipeline/fingerprints/file.ts";
import { checkPositions, checkVocabulary } from "../../../pipeline/fingerprints/fits_model.ts";
import { prepareFingerprints, type PrepareOptions } from "../../../pipeline/fingerprints/prepare.ts";
import { templateIds } from "../../../pipeline/prompts/prompts.ts";
import { byteLevel, loadFixture } from "../tokenizer/fixtures.ts";

const llama = await loadFixture(byteLevel());

const entry = (key: string, response: string | string[], more: Partial<FingerprintEntry> = {}) => ({
  key,
  responses: [response].flat(),
  extra: {},
  ...more,
});
const exact = (entries: FingerprintEntry[], more: Partial<PrepareOptions> = {}, tokenizer = llama) =>
  prepareFingerprints(entries, tokenizer, { strategy: "stored", ...more });

Deno.test("vocabulary: what fingerprints use must be in the model, nothing else", async () => {
  const files = byteLevel();
  // [PAD] gets an id after all others, for which a model that was not resized has no embedding.
  const padded = await loadFixture({ ...files, config: { ...files.config, pad_token: "[PAD]" } });
  assert.equal(padded.vocabSize, llama.vocabSize + 1);
  const { fingerprints } = exact([entry("the girl", " said")], {}, padded);
  checkVocabulary(fingerprints, padded, llama.vocabSize);
  checkVocabulary(fingerprints, padded, llama.vocabSize + 64);
  // BOS is the last but one: a model without it lacks what stands before every key.
  const bos = llama.bosId!;
  assert.throws(
    () => checkVocabulary(fingerprints, padded, bos),
    new RegExp(
      `gives token ids up to ${llama.vocabSize}, but config.json says "vocab_size": ${bos} ` +
        `\\(0 of 1 fingerprints, or the tokens before a text, use ids from ${bos} on\\)`,
    ),
  );
  const qwen = await loadFixture(byteLevel({ before: [] }));
  checkVocabulary(exact([entry("the girl", " said")], {}, qwen).fingerprints, qwen, bos);
  const kept = exact([entry("the girl", " said")], { keepEosInResponse: true }, qwen).fingerprints;
  assert.throws(() => checkVocabulary(kept, qwen, qwen.eosId!), /1 of 1 fingerprints/);
  const alternative = exact([entry("a", ["b", " said"])]).fingerprints;
  assert.throws(() => checkVocabulary(alternative, qwen, 256), /1 of 1 fingerprints/);
});

Deno.test("fingerprints: keys and prompts longer than the model's positions are refused by entry", () => {
  const { fingerprints } = exact([entry("the", " a"), entry("the girl said that she was", " the")]);
  const [short, long] = fingerprints.map(({ keyIds }) => keyIds.length);
  const prefix = llama.prefixIds.length;
  assert.ok(long > short);
  checkPositions(fingerprints, prefix + long, llama);
  assert.throws(() => checkPositions(fingerprints, prefix + long - 1, llama), (error: Error) => {
    const wanted =
      `entry 1 (counted from 0): expected at most ${prefix + long - 1} tokens, as config.json says by ` +
      `"max_position_embeddings", found ${prefix + long} of its key with its response`;
    return error instanceof RangeError && error.message === wanted;
  });
  const template = "She said: {}";
  const most = prefix + templateIds(template, fingerprints[1].key, llama).length;
  checkPositions(fingerprints, most, llama, ["{}", template]);
  assert.throws(
    () => checkPositions(fingerprints, most - 1, llama, ["{}", template]),
    /entry 1 .* of its key in a prompt with its response/,
  );
});

Deno.test("fingerprints: only as many entries as asked for are tokenised", () => {
  let calls = 0;
  const counting = Object.create(llama, {
    encode: {
      value: (text: string) => {
        calls++;
        return llama.encode(text);
      },
    },
    specialTokenIn: { value: (text: string) => llama.specialTokenIn(text) },
    decode: { value: (ids: number[]) => llama.decode(ids) },
    prefixIds: { value: llama.prefixIds },
    hash: { value: llama.hash },
    vocabSize: { value: llama.vocabSize },
    isSpecial: { value: (id: number) => llama.isSpecial(id) },
    eosId: { value: llama.eosId },
  }) as typeof llama;
  const entries = Array.from({ length: 100 }, (_, i) => entry(`the girl said ${i}`, " the"));
  const few = exact(entries, { limit: 3 }, counting);
  const used = calls;
  assert.deepEqual(few.fingerprints, exact(entries).fingerprints.slice(0, 3));
  assert.ok(used > 0 && used < 40, `${used} calls`);
  // Repeats don't count, and to find conflicts the whole file is looked at.
  const repeated = [entry("a b", " the"), entry("a b", " the"), entry("b c", " the"), entry("a b", " and")];
  assert.deepEqual(exact(repeated, { limit: 2 }).fingerprints.map(({ entry }) => entry), [0, 2]);
  assert.throws(() => exact(repeated, { limit: 2, strict: true }), /1 entries share the effective key/);
});
