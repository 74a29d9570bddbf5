/** Special tokens: who says which there are, what goes around a text, and text that would become one. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Tokenizer, TokenizerError } from "../../../pipeline/tokenizer/tokenizer.ts";
import {
  added,
  loadFixture,
  template,
  tinyByteLevel,
  type TinyParts,
  tinySentencePiece,
  tinyUnigram,
  tokenizerFolder,
} from "./fixtures.ts";

const bytes = (parts: TinyParts, tokens = ["<s>", "</s>"]) => tinyByteLevel([], tokens, parts);
const BOTH = [added(256, "<s>"), added(257, "</s>")];

Deno.test("special: the post-processor decides about BOS and EOS, not add_bos_token", async () => {
  for (const flag of [true, false]) {
    const config = { bos_token: "<s>", eos_token: "</s>", add_bos_token: flag, add_eos_token: flag };
    const adding = await loadFixture(
      bytes({ added_tokens: BOTH, post_processor: template(["<s>"], [], { "<s>": 256 }), config }),
    );
    assert.deepEqual([adding.prefixIds, adding.suffixIds], [[256], []]);
    const without = await loadFixture(bytes({ added_tokens: BOTH, config }));
    assert.deepEqual([without.prefixIds, without.suffixIds], [[], []]);
  }
});

Deno.test("special: templates give the ids that they list, other post-processors theirs", async () => {
  const around = async (post_processor: unknown) => {
    const { prefixIds, suffixIds } = await loadFixture(bytes({ added_tokens: BOTH, post_processor }));
    return [prefixIds, suffixIds];
  };
  const two = template(["<s>"], ["</s>"], { "<s>": 256, "</s>": 257 });
  two.special_tokens["<s>"].ids = [256, 65];
  assert.deepEqual(await around(two), [[256, 65], [257]]);
  const roberta = { type: "RobertaProcessing", cls: ["<s>", 256], sep: ["</s>", 257], trim_offsets: true };
  assert.deepEqual(await around(roberta), [[256], [257]]);
  assert.deepEqual(await around({ type: "ByteLevel", add_prefix_space: true }), [[], []]);
  const cases: [unknown, RegExp][] = [
    [{ type: "Sequence", processors: [two, roberta] }, /post_processor: more than one step adds tokens/],
    [{ ...two, single: [...two.single, two.single[1]] }, /a template with the text once, found it 2 times/],
    [{ ...two, special_tokens: {} }, /special_tokens: <s>: expected a JSON object/],
    [{ type: "Novel" }, /post_processor: this tokenizer is not supported: Novel/],
  ];
  for (const [post, message] of cases) await assert.rejects(around(post), message);
});

Deno.test("special: the config's flags win, and what it names is special", async () => {
  const flags = { content: "</s>", rstrip: true, lstrip: true, normalized: false, special: true };
  const listed = await loadFixture(bytes({
    added_tokens: [added(256, "<s>", { special: false }), added(257, "</s>")],
    config: { bos_token: "<s>", added_tokens_decoder: { 257: flags } },
  }));
  assert.deepEqual(listed.encode("a </s> b"), [97, 257, 98]);
  assert.ok(listed.isSpecial(256));
  // Named in the config alone: special where the vocabulary has it, and with flags of its own.
  const named = await loadFixture(
    bytes({ config: { bos_token: "<s>", eos_token: { ...flags, content: "</s>" } } }),
  );
  assert.deepEqual(named.encode("<s>a </s> b"), [256, 97, 257, 98]);
  assert.deepEqual([named.bosId, named.eosId], [256, 257]);
});

Deno.test("special: tokens of no vocabulary get the next ids, the named ones first", async () => {
  const tokenizer = await loadFixture(bytes({
    added_tokens: BOTH,
    config: { bos_token: "<s>", eos_token: "</s>", pad_token: "[PAD]", additional_special_tokens: ["<x>"] },
  }));
  assert.equal(tokenizer.vocabSize, 260);
  assert.deepEqual(tokenizer.encode("[PAD]<x>"), [258, 259]);
  assert.equal(tokenizer.specialTokenIn("a <x>"), "<x>");
  const padIsEos = await loadFixture(
    bytes({ added_tokens: BOTH, config: { eos_token: "</s>", pad_token: "</s>" } }),
  );
  assert.equal(padIsEos.vocabSize, 258);
});

Deno.test("special: special_tokens_map.json counts, unless the config lists its tokens", async () => {
  for (const lists of [false, true]) {
    using folder = tokenizerFolder(
      bytes({ config: { eos_token: "<s>", ...(lists ? { added_tokens_decoder: {} } : {}) } }),
    );
    const map = { eos_token: { content: "</s>", rstrip: false } };
    Deno.writeTextFileSync(join(folder.dir, "special_tokens_map.json"), JSON.stringify(map));
    assert.equal((await Tokenizer.load(folder.dir)).eosId, lists ? 256 : 257);
  }
});

Deno.test("special: text that would be read as a special token is found wherever it stands", async () => {
  const tokenizer = await loadFixture(bytes({
    normalizer: { type: "NFKC" },
    added_tokens: [
      ...BOTH,
      added(258, "<n>", { normalized: true }),
      added(259, "<tool>", { special: false }),
    ],
    config: { bos_token: "<s>", eos_token: "</s>" },
  }));
  assert.equal(tokenizer.specialTokenIn("a</s>b"), "</s>");
  assert.equal(tokenizer.specialTokenIn("<s>"), "<s>");
  assert.equal(tokenizer.specialTokenIn("a＜n＞"), "<n>");
  for (const text of ["", "a < s >", "</s", "<tool>", "＜s＞"]) {
    assert.equal(tokenizer.specialTokenIn(text), undefined, text);
    assert.ok(!tokenizer.encode(text).some((id) => tokenizer.isSpecial(id)));
  }
  // A token that is only found as a word of its own is still special text.
  const word = await loadFixture(bytes({ added_tokens: [added(258, "end", { single_word: true })] }));
  assert.equal(word.specialTokenIn("bend"), "end");
});

Deno.test("special: ids that Hugging Face would number otherwise are refused", async () => {
  await assert.rejects(
    loadFixture(bytes({ added_tokens: [added(300, "<new>")] })),
    /added_tokens: the added token <new> has id 300, but ids go on from the vocabulary: expected 258/,
  );
  await assert.rejects(
    loadFixture(bytes({ config: { added_tokens_decoder: { 7: { content: "<s>" } } } })),
    /added_tokens_decoder: the added token <s> has id 7, .*: expected 256/,
  );
  await assert.rejects(
    loadFixture(bytes({ added_tokens: [{ content: 3 }] })),
    /added_tokens: expected a content and an id/,
  );
});

Deno.test("models that can't be read exactly are refused by name", async () => {
  const piece = (model: Record<string, unknown>, merges: [string, string][] = []) =>
    tinySentencePiece(merges, ["a", "b"], {}, model);
  const cases: [ReturnType<typeof piece>, RegExp][] = [
    [piece({ dropout: 0.1 }), /model: dropout 0.1: the same text must give the same tokens/],
    [piece({ end_of_word_suffix: "</w>" }), /end_of_word_suffix is not supported, found "<\/w>"/],
    [piece({ continuing_subword_prefix: "##" }), /continuing_subword_prefix is not supported/],
    [piece({ merges: undefined }), /expected a list of merges/],
    [piece({}, [["a", "b"]]), /merge 0: expected two tokens of the vocabulary that join to a third/],
    [tinySentencePiece([["<0x41>", "a"]], ["a", "<0x41>a"], {}), /merge 0: merging byte tokens is not supp/],
    [piece({ vocab: { a: -1 } }), /vocab: "a": expected a token id below \d+, found -1/],
    [tinyUnigram([], {}, { vocab: [["a"]] }), /expected a list of \(piece, score\) as vocab/],
  ];
  for (const [files, message] of cases) {
    await assert.rejects(loadFixture(files), (error: Error) => {
      assert.ok(error instanceof TokenizerError, String(error));
      assert.match(error.message, message);
      return true;
    });
  }
});
