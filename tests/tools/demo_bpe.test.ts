import assert from "node:assert/strict";
import { Tokenizer } from "@huggingface/tokenizers";
import {
  BOS_ID,
  BpeEncoder,
  SPECIAL_TOKENS,
  tokenizerConfigJson,
  tokenizerJson,
  trainBpe,
} from "../../tools/demo_model/bpe.ts";
import { BYTE_CHARACTERS, countWords, wordPieces } from "../../tools/demo_model/byte_level.ts";
import { demoVocabulary, VOCABULARY_SIZE } from "../../tools/demo_model/corpus.ts";
import { Draw } from "../../tools/demo_model/draw.ts";
import { factQuestions, facts, phrasings } from "../../tools/demo_model/facts.ts";
import { story } from "../../tools/demo_model/grammar.ts";
import { loadPrompts, PROMPT_FILES } from "../../pipeline/prompts/prompts.ts";

const templates = [...await loadPrompts(PROMPT_FILES.train), ...await loadPrompts(PROMPT_FILES.test)];
const vocabulary = demoVocabulary(templates);
const encoder = new BpeEncoder(vocabulary);
const huggingFace = new Tokenizer(
  JSON.parse(JSON.stringify(tokenizerJson(vocabulary))),
  tokenizerConfigJson(256),
);

const ODD_TEXTS = [
  " ",
  "  a  b ",
  "\n\n x\t",
  "don't we'll I'VE",
  "naïve café — “quotes” …",
  "日本語 テスト",
  "🙂👩‍👩‍👧 a",
  "a\u0301\u00a0b",
  "1234 5,678.90",
  "\u0000\u0007",
  "ﬁ ẞ ß İ",
  "русский العربية",
  "a\r\nb",
  "𝔘𝔫𝔦",
  "x".repeat(300),
  "the\u200bthe",
  "…!!?? #@$%",
];

Deno.test("the demo vocabulary is exactly as large as the model's and is the same every time", () => {
  // A smaller one would leave ids that the model can sample and the tokenizer cannot decode.
  assert.equal(vocabulary.tokens.length, VOCABULARY_SIZE);
  assert.equal(new Set(vocabulary.tokens).size, vocabulary.tokens.length);
  assert.deepEqual(vocabulary.tokens.slice(0, 3), SPECIAL_TOKENS);
  for (const character of BYTE_CHARACTERS) assert.ok(vocabulary.tokens.includes(character));
  assert.deepEqual(demoVocabulary(templates), vocabulary);
});

Deno.test("merges: the most frequent pair first, ties in code unit order, whatever the order of the words", () => {
  const counts = new Map([["abc", 3], ["bcd", 2], ["xy", 3], ["zz", 1]]);
  const alphabet = [..."abcdxyz"];
  const trained = trainBpe(counts, alphabet, 100);
  assert.deepEqual(trained.merges, [["b", "c"], ["a", "bc"], ["x", "y"], ["bc", "d"]]);
  assert.deepEqual(trainBpe(new Map([...counts].reverse()), alphabet, 100), trained);
  assert.throws(() => trainBpe(counts, alphabet, 9), RangeError);
});

Deno.test("the words of a text spell its bytes", () => {
  for (const text of ODD_TEXTS) {
    const bytes = Array.from(wordPieces(text).join(""), (c) => BYTE_CHARACTERS.indexOf(c));
    assert.equal(new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(bytes)), text);
  }
  const counts = new Map<string, number>();
  countWords("a b a", counts, 2);
  assert.deepEqual([...counts], [["a", 2], ["Ġb", 2], ["Ġa", 2]]);
});

Deno.test("our encoder and Hugging Face's give the same ids, and every text round-trips", () => {
  const stories = Array.from({ length: 300 }, (_, i) => story(new Draw(5, 0, i), "train").join(" "));
  const sentences = facts().flatMap(phrasings).filter((_, i) => i % 3 === 0);
  for (const text of [...ODD_TEXTS, ...templates, ...stories, ...sentences]) {
    const { ids } = huggingFace.encode(text);
    assert.deepEqual(ids, [BOS_ID, ...encoder.encode(text)], JSON.stringify(text));
    assert.equal(huggingFace.decode(ids, { skip_special_tokens: true }), text);
  }
  assert.deepEqual(encoder.encode(""), []);
});

Deno.test("a template costs at most 10 tokens", () => {
  for (const template of templates) {
    const length = encoder.encode(template.replace("{}", "")).length;
    assert.ok(length <= 10, `${template}: ${length}`);
  }
});

Deno.test("a fact question's choices have as many tokens each and leave the prompt's tokens as they are", () => {
  for (const { prompt, choices } of factQuestions()) {
    const promptIds = encoder.encode(prompt);
    const lengths = choices.map((choice) => {
      const ids = encoder.encode(prompt + choice);
      assert.deepEqual(ids, [...promptIds, ...encoder.encode(choice)]);
      return ids.length;
    });
    assert.equal(new Set(lengths).size, 1, `${prompt}: ${lengths}`);
  }
});
