import assert from "node:assert/strict";
import { join } from "node:path";
import { Tokenizer, TokenizerError, UntokenizableError } from "../../../pipeline/tokenizer/tokenizer.ts";
import { BOS, byteLevel, EOS, loadFixture, sentencePiece, tokenizerFolder } from "./fixtures.ts";

Deno.test("tokenizer: Llama 3 kind puts BOS before a text, and only when asked", async () => {
  const tokenizer = await loadFixture(byteLevel());
  assert.deepEqual(tokenizer.prefixIds, [tokenizer.bosId]);
  assert.deepEqual(tokenizer.suffixIds, []);
  const text = "The girl said: it's 12345 o'clock – naïve 😀\n\n  end";
  const ids = tokenizer.encode(text);
  assert.equal(tokenizer.decode(ids), text);
  assert.deepEqual(tokenizer.encode(text, { addSpecialTokens: true }), [tokenizer.bosId, ...ids]);
  assert.equal(tokenizer.vocabSize, tokenizer.eosId! + 1);
  assert.equal(tokenizer.addsPrefixSpace, false);
});

Deno.test("tokenizer: Qwen kind puts nothing around a text", async () => {
  const tokenizer = await loadFixture(byteLevel({ before: [] }));
  assert.deepEqual(tokenizer.prefixIds, []);
  assert.deepEqual(tokenizer.suffixIds, []);
  assert.notEqual(tokenizer.bosId, undefined);
});

Deno.test("tokenizer: tokens appended by the template are known and stay out of plain ids", async () => {
  const tokenizer = await loadFixture(byteLevel({ before: [BOS], after: [EOS] }));
  assert.deepEqual(tokenizer.prefixIds, [tokenizer.bosId]);
  assert.deepEqual(tokenizer.suffixIds, [tokenizer.eosId]);
  assert.ok(!tokenizer.encode("the girl").includes(tokenizer.eosId!));
});

Deno.test("tokenizer: Llama 2 kind starts every text with a space of its own", async () => {
  const tokenizer = await loadFixture(sentencePiece());
  assert.deepEqual(tokenizer.prefixIds, [1]);
  assert.equal(tokenizer.eosId, 2);
  assert.equal(tokenizer.addsPrefixSpace, true);
  assert.equal(tokenizer.decode(tokenizer.encode("the sun 😀")), "the sun 😀");
});

Deno.test("tokenizer: decode keeps spaces and special tokens, gives nothing for nothing", async () => {
  const tokenizer = await loadFixture(byteLevel());
  assert.equal(tokenizer.decode([]), "");
  assert.deepEqual(tokenizer.encode(""), []);
  const spaced = "the sun , she said . do n't";
  assert.equal(tokenizer.decode(tokenizer.encode(spaced)), spaced);
  assert.equal(tokenizer.decode([tokenizer.bosId!, ...tokenizer.encode("a")]), BOS + "a");
  assert.equal(tokenizer.decode([tokenizer.vocabSize + 5, ...tokenizer.encode("a")]), "a");
  assert.equal(tokenizer.decode([tokenizer.vocabSize + 5]), "");
  assert.throws(() => tokenizer.decode([1.5]), /expected token ids.*found 1.5/);
  assert.throws(() => tokenizer.decode([-1]), RangeError);
});

Deno.test("tokenizer: the text of a special token is read as that token", async () => {
  const tokenizer = await loadFixture(byteLevel());
  const ids = tokenizer.encode(`the ${EOS} girl`);
  assert.ok(ids.includes(tokenizer.eosId!));
  assert.ok(tokenizer.isSpecial(tokenizer.eosId!) && tokenizer.isSpecial(tokenizer.bosId!));
  assert.ok(!tokenizer.isSpecial(65));
  assert.deepEqual([...tokenizer.specialTokens.keys()], [BOS, EOS]);
});

Deno.test("tokenizer: a BOS the config doesn't name is the one the template puts before a text", async () => {
  const files = byteLevel();
  const tokenizer = await loadFixture({ ...files, config: {} });
  assert.equal(tokenizer.bosId, tokenizer.prefixIds[0]);
  assert.equal(tokenizer.eosId, undefined);
});

Deno.test("tokenizer: the hash is the file's SHA-256", async () => {
  using folder = tokenizerFolder(byteLevel({ merges: 3 }));
  const bytes = await Deno.readFile(join(folder.dir, "tokenizer.json"));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const want = [...digest].map((b) => b.toString(16).padStart(2, "0")).join("");
  assert.equal((await Tokenizer.load(folder.dir)).hash, want);
});

Deno.test("tokenizer: missing and broken files are named", async () => {
  const cases: [string, string | null, RegExp][] = [
    ["tokenizer.json", null, /tokenizer\.json: cannot read the tokenizer: there is no such file/],
    ["tokenizer.json", "{", /tokenizer\.json: not valid JSON at line 1 column 2/],
    ["tokenizer.json", "[]", /tokenizer\.json: expected a JSON object, found a list/],
    ["tokenizer_config.json", "null", /tokenizer_config\.json: expected a JSON object, found null/],
    ["tokenizer.json", "{}", /tokenizer\.json: expected a tokenizer with "model"/],
    [
      "tokenizer.json",
      '{"model":{"type":"Novel","vocab":null}}',
      /expected BPE or Unigram, found Novel: this kind is not supported/,
    ],
  ];
  for (const [file, content, message] of cases) {
    using folder = tokenizerFolder(byteLevel({ merges: 3 }));
    if (content === null) Deno.removeSync(join(folder.dir, file));
    else Deno.writeTextFileSync(join(folder.dir, file), content);
    await assert.rejects(Tokenizer.load(folder.dir), (error: Error) => {
      assert.ok(error instanceof TokenizerError, String(error));
      assert.match(error.message, message);
      return true;
    });
  }
});

Deno.test("tokenizer: a template with a token outside the vocabulary is refused", async () => {
  const files = byteLevel({ before: ["<missing>"] });
  await assert.rejects(loadFixture(files), /post_processor: it adds a token that is not in the vocabulary/);
});

Deno.test("tokenizer: a vocabulary without letters is refused", async () => {
  const files = byteLevel({ merges: 0, before: [] });
  files.json.model.vocab = { ...files.json.model.vocab, a: undefined, aa: 97 };
  await assert.rejects(loadFixture(files), /no token for a plain letter/);
});

Deno.test("tokenizer: a text without tokens is an error that doesn't quote it", async () => {
  const files = byteLevel({ merges: 0, before: [] });
  files.json.pre_tokenizer = null;
  const tokenizer = await loadFixture(files);
  assert.deepEqual(tokenizer.encode("zebra"), [122, 101, 98, 114, 97]);
  // Without a byte-level step a space is no token; Hugging Face would leave it out without a word.
  for (const text of ["zebra crossing", "zebra\uD83D"]) {
    assert.throws(() => tokenizer.encode(text), (error: Error) => {
      assert.ok(error instanceof UntokenizableError);
      assert.ok(!error.message.includes("zebra"));
      return true;
    });
  }
});

Deno.test("tokenizer: truncation, padding and its side in the files change no ids", async () => {
  const plain = byteLevel();
  const wanted = (await loadFixture(plain)).encode("the girl said that", { addSpecialTokens: true });
  for (const side of ["left", "right"]) {
    const files = byteLevel();
    files.json.truncation = { direction: side, max_length: 2, strategy: "LongestFirst", stride: 0 };
    files.json.padding = { strategy: { Fixed: 64 }, direction: side, pad_id: 0, pad_token: EOS };
    Object.assign(files.config, { padding_side: side, truncation_side: side, pad_token: EOS });
    const tokenizer = await loadFixture(files);
    assert.deepEqual(tokenizer.encode("the girl said that", { addSpecialTokens: true }), wanted);
    assert.equal(tokenizer.vocabSize, tokenizer.eosId! + 1);
  }
});
