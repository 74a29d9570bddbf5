/**
 * The steps before and after a tokenizer's model, against what Hugging Face's Rust tokenizers document and
 * do.
 */
import assert from "node:assert/strict";
import { AddedTokens } from "../../../pipeline/tokenizer/added.ts";
import { readDecoder } from "../../../pipeline/tokenizer/decoder.ts";
import { TokenizerError } from "../../../pipeline/tokenizer/tokenizer.ts";
import { readNormalizer } from "../../../pipeline/tokenizer/normalizer.ts";
import { readPreTokenizer } from "../../../pipeline/tokenizer/pre_tokenizer.ts";
import { added, BYTE_CHARS } from "./fixtures.ts";

const pieces = (json: unknown, text: string, isFirst = true) =>
  readPreTokenizer(json, "file")({ text, isFirst }).map((piece) => piece.text);

Deno.test("split: the five behaviours, each way round", () => {
  const split = (behavior: string, invert = false, pattern: unknown = { String: "-" }) =>
    pieces({ type: "Split", pattern, behavior, invert }, "the-final--countdown");
  assert.deepEqual(split("Removed"), ["the", "final", "countdown"]);
  assert.deepEqual(split("Isolated"), ["the", "-", "final", "-", "-", "countdown"]);
  assert.deepEqual(split("MergedWithPrevious"), ["the-", "final-", "-", "countdown"]);
  assert.deepEqual(split("MergedWithNext"), ["the", "-final", "-", "-countdown"]);
  assert.deepEqual(split("Contiguous"), ["the", "-", "final", "--", "countdown"]);
  const words = { Regex: "(the|final|countdown)" };
  assert.deepEqual(split("Removed", true, words), ["the", "final", "countdown"]);
  assert.deepEqual(split("Removed", false, words), ["-", "--"]);
  assert.deepEqual(split("MergedWithNext", true, words), ["the", "-final", "--countdown"]);
});

Deno.test("digits and punctuation of all scripts, white space as Unicode has it", () => {
  assert.deepEqual(pieces({ type: "Digits", individual_digits: true }, "a12½٣"), ["a", "1", "2", "½", "٣"]);
  assert.deepEqual(pieces({ type: "Digits", individual_digits: false }, "a12½b"), ["a", "12½", "b"]);
  assert.deepEqual(pieces({ type: "Punctuation" }, "a,。b$"), ["a", ",", "。", "b", "$"]);
  assert.deepEqual(pieces({ type: "Punctuation", behavior: "Contiguous" }, "a,。b"), ["a", ",。", "b"]);
  assert.deepEqual(pieces({ type: "WhitespaceSplit" }, " a\u0085b\uFEFFc\u3000"), ["a", "b\uFEFFc"]);
});

Deno.test("metaspace: words start at marks, the first of a text or every one gets its own", () => {
  const metaspace = (prepend_scheme: string, split: boolean) => ({
    type: "Metaspace",
    replacement: "▁",
    prepend_scheme,
    split,
  });
  assert.deepEqual(pieces(metaspace("always", true), "a  b c"), ["▁a", "▁", "▁b", "▁c"]);
  assert.deepEqual(pieces(metaspace("always", false), "a  b c"), ["▁a▁▁b▁c"]);
  assert.deepEqual(pieces(metaspace("always", true), " a"), ["▁a"]);
  assert.deepEqual(pieces(metaspace("first", false), "a b"), ["▁a▁b"]);
  assert.deepEqual(pieces(metaspace("first", false), "a b", false), ["a▁b"]);
  assert.deepEqual(pieces(metaspace("never", true), "a b"), ["a", "▁b"]);
  const sequence = {
    type: "Sequence",
    pretokenizers: [{ type: "WhitespaceSplit" }, metaspace("first", true)],
  };
  assert.deepEqual(pieces(sequence, "a b"), ["▁a", "b"]);
  assert.deepEqual(pieces(sequence, " a b"), ["a", "b"]);
  const old = { type: "Metaspace", replacement: "▁", add_prefix_space: false };
  assert.throws(() => pieces(old, "a"), /Metaspace: expected .* that add_prefix_space agrees with/);
});

Deno.test("byte level: a space is put before each piece that has none, once", () => {
  const step = (add_prefix_space: boolean, use_regex: boolean) => ({
    type: "ByteLevel",
    add_prefix_space,
    use_regex,
  });
  assert.deepEqual(pieces(step(true, true), "a b's"), ["Ġa", "Ġb", "'s"]);
  assert.deepEqual(pieces(step(true, true), " a"), ["Ġa"]);
  assert.deepEqual(pieces(step(false, false), "a é"), [`aĠ${BYTE_CHARS[0xc3]}${BYTE_CHARS[0xa9]}`]);
});

Deno.test("normalizers: forms, marks, patterns, letters one by one", () => {
  const normalize = (step: unknown, text: string) => readNormalizer(step, "file")(text);
  assert.equal(normalize({ type: "NFKC" }, "①e\u0301"), "1é");
  assert.equal(normalize({ type: "NFD" }, "é"), "e\u0301");
  assert.equal(normalize({ type: "Prepend", prepend: "▁" }, ""), "");
  const dollars = { type: "Replace", pattern: { Regex: " {2,}" }, content: "$&" };
  assert.equal(normalize(dollars, "a  b c"), "a$&b c");
  assert.equal(normalize({ type: "Replace", pattern: { String: "." }, content: "-" }, "a.b"), "a-b");
  assert.equal(normalize({ type: "Strip", strip_left: true, strip_right: false }, "\u0085 a "), "a ");
  assert.equal(normalize({ type: "Lowercase" }, "ΑΣ"), "ασ");
  const sequence = [{ type: "Lowercase" }, { type: "Prepend", prepend: "▁" }];
  assert.equal(normalize({ type: "Sequence", normalizers: sequence }, "A"), "▁a");
});

/** A charsmap whose trie gives every node a block of 256 units of its own. */
function charsmap(entries: Record<string, string>): string {
  const units: number[] = new Array(256).fill(0);
  const texts: number[] = [];
  const encoder = new TextEncoder();
  const block = (at: number): number => {
    const base = units.length;
    units.push(...new Array(256).fill(0));
    units[at] = (units[at] | ((at ^ base) << 10)) >>> 0;
    return base;
  };
  const bases = new Map([["", block(0)]]);
  for (const [from, text] of Object.entries(entries)) {
    const bytes = encoder.encode(from);
    bytes.forEach((byte, i) => {
      const at = bases.get(bytes.subarray(0, i).join())! ^ byte;
      const path = bytes.subarray(0, i + 1).join();
      units[at] |= byte;
      if (!bases.has(path)) bases.set(path, block(at));
      if (i < bytes.length - 1) return;
      units[at] |= 1 << 8;
      units[bases.get(path)!] = texts.length | (1 << 31);
    });
    texts.push(...encoder.encode(text), 0);
  }
  const blob = new Uint8Array(4 + 4 * units.length + texts.length);
  const view = new DataView(blob.buffer);
  view.setUint32(0, 4 * units.length, true);
  units.forEach((unit, i) => view.setUint32(4 + 4 * i, unit >>> 0, true));
  blob.set(texts, 4 + 4 * units.length);
  return blob.toBase64();
}

Deno.test("precompiled: SentencePiece's replacements, by grapheme and then by character", () => {
  const map = charsmap({ "ﬁ": "fi", "e\u0301": "é", "\u00AD": "", "Ａ": "A", "e": "E" });
  const normalize = readNormalizer({ type: "Precompiled", precompiled_charsmap: map }, "file");
  assert.equal(normalize("oﬁ\u00AD Ａb"), "ofi Ab");
  // The shortest beginning that has a replacement wins, as in spm_precompiled: e before e and its accent.
  assert.equal(normalize("e\u0301"), "E");
  const accents = charsmap({ "e\u0301": "é", "\u0301": "'" });
  const second = readNormalizer({ type: "Precompiled", precompiled_charsmap: accents }, "file");
  assert.equal(second("ae\u0301"), "aé");
  // A grapheme of six bytes or more is looked up by character.
  assert.equal(second("e\u0301\u0301\u0301"), "e'''");
  for (const broken of ["%%", "AAAA", btoa("\xff\xff\x00\x00ab")]) {
    const step = { type: "Precompiled", precompiled_charsmap: broken };
    assert.throws(() => readNormalizer(step, "file"), /file: normalizer: Precompiled: the charsmap/);
  }
});

Deno.test("decoders: marks, bytes, ends", () => {
  const decode = (step: unknown, tokens: string[]) => readDecoder(step, "file")(tokens);
  const metaspace = (prepend_scheme: string) => ({ type: "Metaspace", replacement: "▁", prepend_scheme });
  assert.equal(decode(metaspace("first"), ["▁a", "▁b"]), "a b");
  assert.equal(decode(metaspace("never"), ["▁a", "▁b"]), " a b");
  assert.equal(decode(metaspace("always"), ["▁▁", "a"]), "a");
  assert.equal(decode(null, ["a", "b"]), "a b");
  const byteLevel = { type: "ByteLevel" };
  assert.equal(decode(byteLevel, ["Ã", "©", "<日>", "Ġx"]), "é<日> x");
  assert.equal(decode(byteLevel, ["Ã", "x"]), "\uFFFDx");
  assert.equal(decode({ type: "ByteFallback" }, ["<0xEF>", "<0xBB>", "<0xBF>", "a"]), "\uFEFFa");
  assert.equal(decode({ type: "ByteFallback" }, ["<0xE6>", "<0x97>", "a", "<0x41>"]), "\uFFFD\uFFFDaA");
  const strip = { type: "Strip", content: " ", start: 1, stop: 2 };
  assert.equal(decode(strip, ["  a   "]), " a ");
  assert.equal(decode(strip, [" "]), "");
});

Deno.test("added tokens: the longest first, white space taken, whole words only, normalised ones", () => {
  const list = [
    added(1, "<a>"),
    added(2, "<a>b"),
    added(3, "<l>", { lstrip: true }),
    added(4, "<r>", { rstrip: true }),
    added(5, "word", { single_word: true, special: false }),
    added(6, "Norm", { normalized: true, special: false }),
  ];
  const tokens = new AddedTokens(list, (text) => text.toLowerCase());
  const split = (text: string) => tokens.split(text).map((part) => "id" in part ? part.id : part.text);
  assert.deepEqual(split("x<a>bc<a>"), ["x", 2, "c", 1]);
  assert.deepEqual(split("x \n<l> y"), ["x", 3, " y"]);
  assert.deepEqual(split("x <r> \u0085y"), ["x ", 4, "y"]);
  assert.deepEqual(split("<r>  <l>"), [4, 3]);
  assert.deepEqual(split("a word,"), ["a ", 5, ","]);
  for (const text of ["aword", "word_", "5word", "𘁊word"]) assert.deepEqual(split(text), [text]);
  // Looked for in the lowered text; the others in the text as it is.
  assert.deepEqual(split("A norm NORM"), ["a ", 6, " ", 6]);
  assert.deepEqual(split("<A>"), ["<a>"]);
  assert.deepEqual(split(""), []);
  assert.equal(tokens.texts.get(6), "norm");
  const first = (text: string) => tokens.split(text).map((part) => "isFirst" in part && part.isFirst);
  assert.deepEqual(first("x<a>y"), [true, false, false]);
});

Deno.test("steps that decoder models don't have are refused by name", () => {
  const cases: [() => unknown, RegExp][] = [
    [() => readNormalizer({ type: "StripAccents" }, "f"), /f: normalizer: .*not supported: StripAccents/],
    [() => readPreTokenizer({ type: "UnicodeScripts" }, "f"), /f: pre_tokenizer: .*: UnicodeScripts/],
    [() => readDecoder({ type: "WordPiece" }, "f"), /f: decoder: .*not supported: WordPiece/],
    [() => readNormalizer([], "f"), /f: normalizer: expected a JSON object, found a list/],
    [() => readNormalizer({ type: "Sequence" }, "f"), /expected a Sequence with a list of normalizers/],
    [() => readNormalizer({ type: "Prepend" }, "f"), /Prepend: expected a text as prepend/],
    [() => readPreTokenizer({ type: "Split", pattern: {} }, "f"), /expected a pattern, found none/],
    [
      () => readPreTokenizer({ type: "Split", pattern: { Regex: "(?<=a" }, behavior: "Isolated" }, "f"),
      /f: pre_tokenizer: the pattern is not supported/,
    ],
    [
      () => readPreTokenizer({ type: "Split", pattern: { String: " " }, behavior: "Merged" }, "f"),
      /behavior: expected one of Removed, .*found "Merged"/,
    ],
  ];
  for (const [read, message] of cases) {
    assert.throws(read, (error: Error) => {
      assert.ok(error instanceof TokenizerError, String(error));
      assert.match(error.message, message);
      return true;
    });
  }
});
