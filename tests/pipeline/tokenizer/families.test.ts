/**
 * Tokenizers of the structures that the families have, with vocabularies small enough to work their ids out
 * by hand.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Tokenizer, UntokenizableError } from "../../../pipeline/tokenizer/tokenizer.ts";
import {
  added,
  LLAMA3_WORDS,
  loadFixture,
  SENTENCE_PIECE_DECODER,
  template,
  tinyByteLevel,
  tinySentencePiece,
  tinyUnigram,
  tokenizerFolder,
} from "./fixtures.ts";

const split = (Regex: string) => ({
  type: "Sequence",
  pretokenizers: [
    { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false },
    { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
  ],
});

function gives(tokenizer: Tokenizer, text: string, ids: number[], decoded = text): void {
  assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
  assert.equal(tokenizer.decode(ids), decoded);
}

Deno.test("llama 3: whole words beat merges, three digits at most, contractions, BOS", async () => {
  const tokenizer = await loadFixture(tinyByteLevel(
    [["h", "e"], ["l", "l"], ["he", "ll"], ["1", "2"], ["'", "S"], ["Ġ", "he"]],
    ["word", "345", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
    {
      pre_tokenizer: split(LLAMA3_WORDS),
      added_tokens: ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"].map((t, i) => added(264 + i, t)),
      post_processor: {
        type: "Sequence",
        processors: [
          { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true },
          template(["<|begin_of_text|>"], [], { "<|begin_of_text|>": 264 }),
        ],
      },
      config: { bos_token: "<|begin_of_text|>", eos_token: "<|eot_id|>", add_bos_token: false },
    },
    { ignore_merges: true },
  ));
  assert.deepEqual(tokenizer.prefixIds, [264]);
  assert.equal(tokenizer.bosId, 264);
  assert.equal(tokenizer.eosId, 266);
  assert.equal(tokenizer.vocabSize, 267);
  gives(tokenizer, "hello", [258, 0x6f]);
  // "word" has no merges, only a token; " word" has none.
  gives(tokenizer, "word", [262]);
  gives(tokenizer, " word", [0x20, 0x77, 0x6f, 0x72, 0x64]);
  // 12|345 would be likelier; the pattern takes 123 first.
  gives(tokenizer, "12345", [259, 0x33, 0x34, 0x35]);
  gives(tokenizer, "x345", [0x78, 263]);
  gives(tokenizer, "HE'S", [0x48, 0x45, 260]);
  // "'ſ" is a contraction like "'s" to Oniguruma: the three letters after it stay a word of their own.
  gives(tokenizer, "it'ſhe", [0x69, 0x74, 0x27, 0xc5, 0xbf, 256]);
  gives(tokenizer, " he\n\n he", [261, 0x0a, 0x0a, 261]);
});

Deno.test("pythia and phi-2: NFC, words of GPT-2, runs of spaces as tokens, no BOS", async () => {
  const tokenizer = await loadFixture(tinyByteLevel(
    [["Ġ", "t"], ["!", "ï"], ["Ã", "©"], ["x", "Ġ"]],
    ["<|endoftext|>"],
    {
      normalizer: { type: "NFC" },
      added_tokens: [
        added(260, "<|endoftext|>"),
        added(261, "    ", { special: false, normalized: true }),
        added(262, "  ", { special: false, normalized: true }),
      ],
      post_processor: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
      config: {
        bos_token: "<|endoftext|>",
        eos_token: "<|endoftext|>",
        unk_token: "<|endoftext|>",
        tokenizer_class: "GPTNeoXTokenizer",
      },
    },
  ));
  assert.deepEqual(tokenizer.prefixIds, []);
  assert.equal(tokenizer.eosId, 260);
  assert.equal(tokenizer.unkId, undefined);
  gives(tokenizer, "e\u0301", [258], "é");
  gives(tokenizer, "a t", [0x61, 256]);
  // Four spaces, then two, then one with its word.
  gives(tokenizer, "a       t", [0x61, 261, 262, 256]);
  // A word takes the space before it, so "x" and " " never merge.
  gives(tokenizer, "x t", [0x78, 256]);
  // U+FEFF is white space in JavaScript but not here, U+0085 the other way round.
  gives(tokenizer, "!\uFEFF", [257, 0xbb, 0xbf]);
  gives(tokenizer, "!\u0085", [0x21, 0xc2, 0x85]);
});

Deno.test("qwen: NFC, digits one by one, no BOS although a token of that use exists", async () => {
  const tokenizer = await loadFixture(tinyByteLevel(
    [["1", "2"], ["a", "1"]],
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    {
      normalizer: { type: "NFC" },
      pre_tokenizer: split(LLAMA3_WORDS.replace("{1,3}", "")),
      added_tokens: ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map((t, i) => added(258 + i, t)),
      post_processor: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
      config: { bos_token: null, eos_token: "<|im_end|>", pad_token: "<|endoftext|>", add_bos_token: false },
    },
  ));
  assert.deepEqual([tokenizer.prefixIds, tokenizer.bosId, tokenizer.eosId], [[], undefined, 260]);
  gives(tokenizer, "a12", [0x61, 0x31, 0x32]);
  assert.deepEqual(tokenizer.encode("<|im_start|>a"), [259, 0x61]);
});

const SPACES = { type: "Replace", pattern: { String: " " }, content: "▁" };
const LETTERS = ["▁", "a", "b", "▁a", "ab", "▁▁"];
const MERGES: [string, string][] = [["▁", "a"], ["a", "b"], ["▁", "▁"]];

Deno.test("llama 2: every part of a text starts with a space, unknown characters are bytes", async () => {
  const tokenizer = await loadFixture(tinySentencePiece(MERGES, LETTERS, {
    normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, SPACES] },
    post_processor: template(["<s>"], [], { "<s>": 1 }),
  }));
  assert.deepEqual([tokenizer.prefixIds, tokenizer.suffixIds, tokenizer.addsPrefixSpace], [[1], [], true]);
  gives(tokenizer, "ab", [262, 261]);
  gives(tokenizer, "b ab", [259, 261, 262, 261]);
  // The text's own space and the one put before it are one token.
  gives(tokenizer, " b", [264, 261]);
  gives(tokenizer, "é\n", [259, 3 + 0xc3, 3 + 0xa9, 3 + 0x0a]);
  gives(tokenizer, "\uFEFFb", [259, 3 + 0xef, 3 + 0xbb, 3 + 0xbf, 261]);
  assert.deepEqual(tokenizer.encode("b</s>b"), [259, 261, 2, 259, 261]);
  // Half a character decodes to one replacement a byte.
  assert.equal(tokenizer.decode([259, 3 + 0xf0, 3 + 0x9f, 261]), "��b");
});

Deno.test("mistral: only the beginning of a text gets a space", async () => {
  const metaspace = { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: false };
  const tokenizer = await loadFixture(tinySentencePiece(MERGES, [...LETTERS, "[INST]"], {
    pre_tokenizer: metaspace,
    post_processor: template(["<s>"], [], { "<s>": 1 }),
    added_tokens: [
      ...["<unk>", "<s>", "</s>"].map((token, id) => added(id, token)),
      added(265, "[INST]"),
      added(266, "<tool>", { special: false, normalized: true }),
    ],
  }));
  assert.deepEqual(tokenizer.prefixIds, [1]);
  gives(tokenizer, "ab", [262, 261]);
  gives(tokenizer, " ab", [262, 261], "ab");
  // `split: false`, so spaces may merge with each other.
  gives(tokenizer, "b  b", [259, 261, 264, 261]);
  assert.deepEqual(tokenizer.encode("b[INST]ab<tool>ab"), [259, 261, 265, 263, 266, 263]);
  assert.deepEqual(tokenizer.encode("[INST] ab"), [265, 262, 261]);
});

Deno.test("gemma: spaces are marks, none is added, BOS and bytes", async () => {
  const tokenizer = await loadFixture(tinySentencePiece(MERGES, [...LETTERS, "<start_of_turn>"], {
    normalizer: SPACES,
    pre_tokenizer: {
      type: "Split",
      pattern: { String: " " },
      behavior: "MergedWithPrevious",
      invert: false,
    },
    post_processor: template(["<s>"], [], { "<s>": 1 }),
    decoder: { type: "Sequence", decoders: SENTENCE_PIECE_DECODER.decoders.slice(0, 3) },
    added_tokens: [
      ...["<unk>", "<s>", "</s>"].map((token, id) => added(id, token)),
      added(265, "<start_of_turn>"),
    ],
  }));
  assert.deepEqual([tokenizer.prefixIds, tokenizer.addsPrefixSpace], [[1], false]);
  gives(tokenizer, "ab ab", [263, 262, 261]);
  gives(tokenizer, "  b", [264, 261]);
  gives(tokenizer, "日", [3 + 0xe6, 3 + 0x97, 3 + 0xa5]);
  assert.deepEqual(tokenizer.encode("<start_of_turn>ab"), [265, 263]);
});

Deno.test("phi-3: chat marks take the white space after them", async () => {
  const tokenizer = await loadFixture(tinySentencePiece(MERGES, [...LETTERS, "<|user|>", "<|end|>"], {
    normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, SPACES] },
    post_processor: template(["<s>"], [], { "<s>": 1 }),
    added_tokens: [
      ...["<unk>", "<s>", "</s>"].map((token, id) => added(id, token)),
      added(265, "<|user|>", { rstrip: true }),
      added(266, "<|end|>", { rstrip: true }),
    ],
  }));
  assert.deepEqual(tokenizer.encode("<|user|>\nab<|end|> \n b"), [265, 262, 261, 266, 259, 261]);
});

const PIECES: [string, number][] = [["▁", -2], ["a", -1], ["b", -1], ["▁a", -1.5], ["ab", -1.25]];
const BYTES: [string, number][] = Array.from(
  { length: 256 },
  (_, b) => [`<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`, -20],
);

Deno.test("unigram: the likeliest pieces, and the bytes of what has none", async () => {
  const tokenizer = await loadFixture(tinyUnigram([...PIECES, ...BYTES], {}, { byte_fallback: true }));
  // ▁a b: −2.5, against −3.25 of ▁ ab.
  gives(tokenizer, "ab", [6, 5]);
  gives(tokenizer, "bab", [3, 5, 7]);
  const ids = [6, 8 + 0xc3, 8 + 0xa9, 8 + 0xe6, 8 + 0x97, 8 + 0xa5, 5];
  assert.deepEqual(tokenizer.encode("aé日b"), ids);
  assert.deepEqual(tokenizer.encode("日 a"), [3, ...ids.slice(3, 6), 6]);
});

Deno.test("unigram: a byte without a token makes the whole unknown stretch one unknown token", async () => {
  const without = BYTES.filter(([token]) => token !== "<0xA5>");
  const lacking = await loadFixture(tinyUnigram([...PIECES, ...without], {}, { byte_fallback: true }));
  assert.deepEqual(lacking.encode("aéb"), [6, 7 + 0xc3, 7 + 0xa9, 5]);
  assert.deepEqual(lacking.encode("aé日b"), [6, 0, 5]);
  assert.equal(lacking.unkId, 0);
  const none = await loadFixture(tinyUnigram(PIECES, {}));
  assert.deepEqual(none.encode("aé日bé"), [6, 0, 5, 0]);
  // The bytes are in the vocabulary, but the model doesn't fall back to them.
  const off = await loadFixture(tinyUnigram([...PIECES, ...BYTES], {}));
  assert.deepEqual(off.encode("aé"), [6, 0]);
  const noUnknown = await loadFixture(tinyUnigram(PIECES, {}, { unk_id: null }));
  assert.throws(() => noUnknown.encode("aé"), UntokenizableError);
});

Deno.test("unigram: a score that isn't finite is named, in JSON as Python writes it", async () => {
  using folder = tokenizerFolder(tinyUnigram([...PIECES, ["aa", -0.8125]], {}));
  const path = join(folder.dir, "tokenizer.json");
  const text = await Deno.readTextFile(path);
  for (const score of ["NaN", "-Infinity"]) {
    await Deno.writeTextFile(path, text.replace("-0.8125", score));
    await assert.rejects(Tokenizer.load(folder.dir), {
      name: "TokenizerError",
      message: new RegExp(`vocab\\[${PIECES.length + 3}\\]: expected a finite score, found ${score}$`),
    });
  }
  // Beside what is needed it may stand.
  await Deno.writeTextFile(path, text.replace(/^\{/, '{"note":NaN,'));
  assert.deepEqual((await Tokenizer.load(folder.dir)).encode("aa").length, 2);
});

Deno.test("unigram: pieces don't cross words, and equal splits keep the longer last piece", async () => {
  const tokenizer = await loadFixture(tinyUnigram([...PIECES, ["a▁b", -0.1], ["aa", -2]], {}));
  assert.deepEqual(tokenizer.encode("a b"), [6, 3, 5]);
  // b|aa and ba|a: as likely; the rule of Rust's tokenizers keeps the first found.
  assert.deepEqual(tokenizer.encode("baa"), [3, 5, 9]);
});

Deno.test("bpe byte fallback: all bytes of a character, or unknown tokens fused as asked", async () => {
  const files = (fuse: boolean) => {
    const made = tinySentencePiece([], ["▁", "a"], {}, { fuse_unk: fuse });
    // 日 loses its last byte; the id stays taken.
    made.json.model.vocab = { ...made.json.model.vocab, "<0xA5>": undefined, "<gone>": 3 + 0xa5 };
    return made;
  };
  const fused = await loadFixture(files(true));
  assert.deepEqual(fused.encode("a日日a"), [260, 0, 260]);
  assert.deepEqual(fused.encode("é日a"), [3 + 0xc3, 3 + 0xa9, 0, 260]);
  assert.deepEqual((await loadFixture(files(false))).encode("a日日a"), [260, 0, 0, 260]);
});
