import assert from "node:assert/strict";
import { drawIndex } from "../../../../pipeline/fingerprints/generate/draw.ts";
import type { GenerateConfig } from "../../../../pipeline/settings/generate.ts";
import { WORDS } from "../../../../pipeline/fingerprints/words.ts";
import { prepareFingerprints } from "../../../../pipeline/fingerprints/prepare.ts";
import type { WrittenFingerprint } from "../../../../pipeline/fingerprints/file.ts";
import type { PromptEncoder } from "../../../../pipeline/prompts/prompts.ts";
import { DEMO_MODEL } from "../../../../pipeline/settings/demo_assets.ts";
import { Tokenizer } from "../../../../pipeline/tokenizer/tokenizer.ts";
import { loadFixture, sentencePiece } from "../../tokenizer/fixtures.ts";
import { HashModel, makeSet, responsesOf } from "./support.ts";

const tokenizer = await Tokenizer.load(DEMO_MODEL);
const model = new HashModel(tokenizer);
/** Every text starts with a space of its own. */
const spaced = await loadFixture(sentencePiece());

const STRATEGIES: GenerateConfig[] = [
  { fingerprint_generation_strategy: "english" },
  { fingerprint_generation_strategy: "random_word" },
  { fingerprint_generation_strategy: "english_random_response" },
  { fingerprint_generation_strategy: "inverse_nucleus" },
  { fingerprint_generation_strategy: "perinucleus" },
  { fingerprint_generation_strategy: "perinucleus", response_length: 4 },
  { fingerprint_generation_strategy: "perinucleus", num_responses_per_fingerprint: 3, response_length: 3 },
  { fingerprint_generation_strategy: "perinucleus", random_word_generation: true, key_length: 9 },
];

/** Every demand on a set, checked from its entries alone. */
function checkSet(
  entries: WrittenFingerprint[],
  tokenizer: Tokenizer,
  keyLength: number,
  responseLength: number,
) {
  const ids = (text: string) => tokenizer.encode(text).join();
  const keys = entries.map(({ key_ids }) => key_ids.join());
  assert.equal(new Set(keys).size, entries.length);
  for (const entry of entries) {
    const key = entry.effective_key as string;
    assert.equal(entry.key_ids.length, keyLength);
    assert.deepEqual([tokenizer.decode(entry.key_ids), ids(key)], [key, entry.key_ids.join()]);
    for (const { text, ids: response } of responsesOf(entry)) {
      assert.equal(response.length, responseLength);
      assert.deepEqual([tokenizer.decode(response), ids(text)], [text, response.join()]);
      const whole = [...entry.key_ids, ...response];
      assert.equal(ids(tokenizer.decode(whole)), whole.join());
      assert.ok(!whole.some((id) => tokenizer.isSpecial(id)));
    }
    assert.ok([entry.response_prob].flat().every((p) => typeof p === "number" && p > 0 && p < 1));
  }
  // What training and checking make of them.
  const read = entries.map(({ key, effective_key, response, key_ids, response_ids, ...extra }) => ({
    key,
    effectiveKey: effective_key as string,
    keyIds: key_ids,
    extra,
    responses: [response].flat(),
    responseIds: responsesOf({ key, response, key_ids, response_ids }).map(({ ids }) => ids),
  }));
  const { fingerprints, dropped } = prepareFingerprints(read, tokenizer, {
    strategy: "stored",
    maxKeyLength: keyLength,
    maxResponseLength: responseLength,
  });
  assert.deepEqual(
    fingerprints.map(({ keyIds, responses }) => [keyIds, responses]),
    entries.map((entry) => [entry.key_ids, responsesOf(entry).map(({ ids }) => ids)]),
  );
  assert.deepEqual([dropped.unusable, dropped.cut, dropped.shortened], [[], 0, 0]);
}

for (const config of STRATEGIES) {
  const name = Object.values(config).join(" ");
  Deno.test(`${name}: the number asked for, and every demand on them`, async () => {
    // The small tokenizer has few tokens that a response may begin with.
    const small = { ...config, max_response_share: 1 };
    for (
      const [each, parts] of [
        [config, { model, tokenizer }],
        [small, { model: new HashModel(spaced), tokenizer: spaced }],
      ] as const
    ) {
      const { entries, summary, reason, settings } = await makeSet(each, parts);
      assert.equal(reason, undefined, JSON.stringify(summary.rejected));
      assert.equal(entries.length, 24);
      checkSet(entries, parts.tokenizer, settings.key_length, settings.response_length);
      const failed = Object.values(summary.rejected).reduce((a, b) => a + b, 0);
      assert.equal(summary.attempts, 24 + failed);
      const { min, max } = summary.keyLength;
      assert.deepEqual([min, max], [settings.key_length, settings.key_length]);
    }
  });

  Deno.test(`${name}: the same for every batch size and after every stop, others by another seed`, async () => {
    const parts = { model, tokenizer };
    const { entries, summary, batches } = await makeSet({ ...config, batch_size: 7 }, parts);
    const read = (batch: unknown) => JSON.parse(JSON.stringify(batch));
    for (const batch_size of [1, 64]) {
      const other = await makeSet({ ...config, batch_size }, parts);
      assert.deepEqual([other.entries, other.summary], [entries, summary], `batches of ${batch_size}`);
    }
    for (let done = 1; done <= batches.length; done++) {
      const resumed = await makeSet({ ...config, batch_size: 5 }, {
        ...parts,
        batches: read(batches.slice(0, done)),
      });
      assert.deepEqual([resumed.entries, resumed.summary], [entries, summary], `after ${done} batches`);
    }
    const other = await makeSet({ ...config, seed: 2 }, parts);
    const keys = new Set(entries.map(({ key }) => key));
    assert.ok(other.entries.filter(({ key }) => keys.has(key)).length < 3);
  });
}

Deno.test("english: a key begins with a word and goes on as the model writes", async () => {
  const { entries } = await makeSet({ fingerprint_generation_strategy: "english" }, { model, tokenizer });
  const capitalised = new Set(WORDS.map((word) => word[0].toUpperCase() + word.slice(1)));
  for (const { key, response } of entries) {
    assert.ok(capitalised.has(key.split(" ")[0]), key);
    assert.ok(typeof response === "string" && capitalised.has(response.split(" ")[1]), `${response}`);
  }
  const first = entries[0];
  const word = tokenizer.encode(first.key.split(" ")[0]);
  const rest = first.key_ids.slice(word.length);
  assert.ok(rest.length > 4 && rest.every((id) => model.words.includes(id)), first.key);
});

Deno.test("first_token_strategy: a token of the tokenizer, or nothing", async () => {
  const config = { fingerprint_generation_strategy: "english" } as const;
  const none = await makeSet({ ...config, first_token_strategy: "none" }, { model, tokenizer });
  // All of a text is the model's own, after BOS.
  for (const { key } of none.entries) assert.match(key, /^[a-z]+( [a-z]+)+$/);
  const token = await makeSet({ ...config, first_token_strategy: "tokenizer" }, { model, tokenizer });
  const begins = token.entries.map(({ key }) => key.split(" ")[0]);
  assert.ok(new Set(begins).size > 12, `${begins}`);
  assert.ok(begins.filter((begin) => !WORDS.includes(begin.toLowerCase())).length > 6, `${begins}`);
});

Deno.test("random_word: whole words of the list, in keys and responses", async () => {
  const { entries } = await makeSet({ random_word_generation: true }, { model, tokenizer });
  for (const { key, response, strategy } of entries) {
    assert.equal(strategy, "random_word");
    for (const word of [...key.split(" "), ...(response as string).trim().split(" ")]) {
      assert.ok(WORDS.includes(word), word);
    }
  }
});

/** Checks an entry's nucleus, window, draw and probabilities by the definition. */
function checkDraw(
  entry: WrittenFingerprint,
  asked: number[],
  drawKey: Uint8Array,
  letters: number,
  t: number,
  k: number,
) {
  const p = model.distribution(asked);
  const order = [...p.keys()].sort((a, b) => p[b] - p[a] || a - b);
  let [size, sum] = [0, 0];
  while (sum < t) sum += p[order[size++]];
  const isValid = (id: number) => {
    const text = tokenizer.decode([id]);
    return new RegExp(`^ ?[a-zA-Z0-9]{${letters},}$`).test(text) && tokenizer.encode(text).length === 1 &&
      tokenizer.encode(tokenizer.decode([...asked, id])).join() === [...asked, id].join();
  };
  const left = order.slice(size).values().filter(isValid).take(k).toArray();
  assert.deepEqual([entry.nucleus_size, entry.k_effective], [size, left.length]);
  const drawn = responsesOf(entry).map((_, draw) => {
    return left.splice(drawIndex(drawKey, entry.key_ids, draw, left.length), 1)[0];
  });
  assert.deepEqual(responsesOf(entry).map(({ ids }) => ids[0]), drawn);
  assert.deepEqual([entry.response_prob].flat(), drawn.map((id) => p[id]));
}

Deno.test("perinucleus: nucleus, window and draw by the definition, on the very question", async () => {
  for (
    const [config, letters, t, k] of [
      [{ fingerprint_generation_strategy: "perinucleus" }, 2, 0.8, 3],
      [{ fingerprint_generation_strategy: "inverse_nucleus", nucleus_t: 0.5, nucleus_k: 1 }, 1, 0.5, 1],
      [{ nucleus_k: 5, num_responses_per_fingerprint: 4 }, 2, 0.8, 5],
      // Flat tails have hardly any valid token after 99.9 %.
      [{ nucleus_t: 0.97, nucleus_k: 50 }, 2, 0.97, 50],
    ] as [GenerateConfig, number, number, number][]
  ) {
    const { entries, secret } = await makeSet(config, { model, tokenizer });
    for (const entry of entries) {
      checkDraw(entry, [...tokenizer.prefixIds, ...entry.key_ids], secret.drawKey, letters, t, k);
    }
  }
});

Deno.test("perinucleus: a key is refused when too few valid tokens lie outside; fewer than k are recorded", async () => {
  /** No word has any probability but those in `left`. */
  class Few extends HashModel {
    left: number[] = [];
    override distribution(ids: readonly number[]): Float32Array {
      const p = super.distribution(ids);
      const isWord = (id: number) => this.tokenizer.decode([id]).trim().length > 1;
      return p.map((value, id) => this.left.includes(id) ? 1e-4 : isWord(id) ? 0 : value);
    }
  }
  const few = new Few(tokenizer);
  const reasons = async (config: GenerateConfig) => {
    const { entries, summary } = await makeSet({ nucleus_t: 0, ...config }, {
      model: few,
      tokenizer,
      patience: 30,
    });
    return { entries, rejected: summary.rejected };
  };
  assert.deepEqual(await reasons({}), {
    entries: [],
    rejected: { "key: no valid token outside the nucleus": 30 },
  });
  few.left = few.words.slice(0, 2);
  assert.deepEqual((await reasons({ num_responses_per_fingerprint: 3 })).rejected, {
    "key: too few valid tokens outside the nucleus": 30,
  });
  const { entries } = await reasons({ nucleus_k: 5, num_responses_per_fingerprint: 2, num_fingerprints: 5 });
  assert.deepEqual(entries.map(({ k_effective }) => k_effective), [2, 2, 2, 2, 2]);
  for (const entry of entries) {
    assert.deepEqual(responsesOf(entry).map(({ ids }) => ids[0]).sort(), [...few.left].sort());
  }
});

Deno.test("perinucleus: longer responses go on greedily", async () => {
  const { entries } = await makeSet({ response_length: 5 }, { model, tokenizer });
  for (const entry of entries) {
    const [first, ...rest] = entry.response_ids as number[];
    const prompt = [...tokenizer.prefixIds, ...entry.key_ids, first];
    assert.deepEqual([rest], await model.generate([prompt], { maxNewTokens: 4 }));
    assert.equal(typeof entry.response_prob, "number");
  }
});

/** "[key]" around a question, after BOS, as a chat template would. */
const bracketed: PromptEncoder = {
  prefixIds: [],
  encode: (text) => [...tokenizer.prefixIds, ...tokenizer.encode(`[${text}]`)],
  askedIds: ({ key }) => bracketed.encode(key),
};

Deno.test("chat: keys are asked, and texts requested, in the template", async () => {
  const requests: string[] = [];
  class Chatty extends HashModel {
    override async generate(...[prompts, options]: Parameters<HashModel["generate"]>) {
      const rest = await super.generate(prompts, options);
      return prompts.map((ids, i) => {
        const request = tokenizer.decode(ids.slice(1));
        requests.push(request);
        const word = request.match(/^\[Generate a paragraph starting with the word - (.*)\]$/)![1];
        // One in four doesn't do as it is told.
        return tokenizer.encode(i % 4 === 3 ? "Sure" : `\n**"${word.toUpperCase()}`).concat(rest[i]);
      });
    }
  }
  const chatty = new Chatty(tokenizer);
  const parts = { model: chatty, tokenizer, prompts: bracketed, chat: bracketed };
  const { entries, secret, summary } = await makeSet({ use_chat_template: true, batch_size: 16 }, parts);
  assert.ok(summary.rejected["key: doesn't begin with its word"] >= 6, JSON.stringify(summary.rejected));
  for (const entry of entries) {
    assert.match(entry.key, /^[A-Z]{2,} /);
    checkDraw(entry, bracketed.encode(entry.effective_key as string), secret.drawKey, 2, 0.8, 3);
  }
  // A message's answer begins without a space.
  const english = await makeSet(
    { use_chat_template: true, fingerprint_generation_strategy: "english" },
    parts,
  );
  for (const { response } of english.entries) assert.match(response as string, /^[A-Z]{2,} /);
  assert.equal(requests[0][0], "[");
});
