import assert from "node:assert/strict";
import { isSlow } from "../../../pipeline/tokenizer/slow_pattern.ts";
import { TokenizerError } from "../../../pipeline/tokenizer/tokenizer.ts";
import { byteLevel, LLAMA3_WORDS, loadFixture } from "./fixtures.ts";

/** Patterns of GPT-2, GPT-4o, DeepSeek, Bloom and the like. */
const REAL = [
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu,
  /[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'s|'t)?|\p{N}{1,3}|\s*[\r\n]+|\s+(?!\S)|\s+/gu,
  /[!"#$%&'()*+,\-.\/:;<=>?@[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s+/gu,
  / ?[^(\s|[.,!?)]+/gu,
  / {2,}/gu,
  /(?=(?:\d{3})+(?!\d))/gu,
  /(?: ?\p{L}+)+/gu,
];

const SLOW = [
  "(a+)+$",
  "(a|a)*b",
  "(?:ab|abab)*c",
  "(\\s*\\w*)*!",
  "(\\p{L}+\\p{M}*)+\\p{N}",
  "a*a*a*a*b",
  "(漢*)*国",
];

Deno.test("slow patterns: those of real tokenizers are none, and those that backtrack without end are", () => {
  for (const pattern of REAL) assert.equal(isSlow(pattern), false, pattern.source);
  for (const source of SLOW) assert.equal(isSlow(new RegExp(source, "gu")), true, source);
});

Deno.test("slow patterns: a tokenizer with one is refused, wherever it is", async () => {
  const split = (Regex: string) => ({
    type: "Split",
    pattern: { Regex },
    behavior: "Isolated",
    invert: false,
  });
  const replace = (Regex: string) => ({ type: "Replace", pattern: { Regex }, content: " " });
  const files = byteLevel({ merges: 3 });
  const load = (parts: Record<string, unknown>) =>
    loadFixture({ ...files, json: { ...files.json, ...parts } });
  await load({
    pre_tokenizer: { type: "Sequence", pretokenizers: [split(LLAMA3_WORDS), { type: "ByteLevel" }] },
  });
  const places = { pre_tokenizer: split, normalizer: replace, decoder: replace };
  for (const [stage, step] of Object.entries(places)) {
    await assert.rejects(load({ [stage]: step("(a+)+$") }), (error: Error) => {
      assert.ok(error instanceof TokenizerError, String(error));
      assert.match(
        error.message,
        new RegExp(`tokenizer\\.json: ${stage}: .* takes too long .*"\\(a\\+\\)\\+\\$"`),
      );
      return true;
    });
    await assert.rejects(
      load({ [stage]: step("a".repeat(20_000)) }),
      /expected a pattern of at most 10000 characters/,
    );
  }
});
