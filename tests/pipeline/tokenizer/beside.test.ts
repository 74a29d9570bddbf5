/** The files beside tokenizer.json: any may be missing. The ids are those of Transformers 5.24. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Tokenizer, TokenizerError } from "../../../pipeline/tokenizer/tokenizer.ts";
import {
  added,
  template,
  tinyByteLevel,
  type TinyParts,
  tinySentencePiece,
  tokenizerFolder,
} from "./fixtures.ts";

const BOTH = [added(256, "<s>"), added(257, "</s>")];
const bytes = (parts: TinyParts = {}) => tinyByteLevel([], ["<s>", "</s>"], { added_tokens: BOTH, ...parts });
/** Llama 2's: every text starts with a mark. */
const pieces = (config: Record<string, unknown> = {}) =>
  tinySentencePiece([["▁", "a"]], ["▁", "a", "▁a", "b"], {
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    config: { bos_token: "<s>", eos_token: "</s>", ...config },
  });

/** A tokenizer with further files, by name; null for one that isn't there. */
async function load(files: ReturnType<typeof bytes>, more: Record<string, unknown>): Promise<Tokenizer> {
  using folder = tokenizerFolder(files);
  for (const [name, content] of Object.entries(more)) {
    if (content === null) Deno.removeSync(join(folder.dir, name));
    else Deno.writeTextFileSync(join(folder.dir, name), JSON.stringify(content));
  }
  return await Tokenizer.load(folder.dir);
}

Deno.test("added_tokens.json: its tokens are single ones, those that are named or listed are special", async () => {
  const config = { bos_token: "<s>", eos_token: "<|end|>", additional_special_tokens: ["<|start|>"] };
  const file = { "<|start|>": 259, "<|end|>": 258, "<|plain|>": 260, "</s>": 257 };
  const tokenizer = await load(bytes({ config }), { "added_tokens.json": file });
  assert.deepEqual(tokenizer.encode("<|start|>a<|end|><|plain|></s>"), [259, 97, 258, 260, 257]);
  assert.deepEqual([258, 259, 260].map((id) => tokenizer.isSpecial(id)), [true, true, false]);
  assert.deepEqual([tokenizer.eosId, tokenizer.vocabSize], [258, 261]);
});

Deno.test("added_tokens.json: one that isn't special is looked for in the normalised text", async () => {
  const file = { "<|x|>": 263 };
  const more = { "added_tokens.json": file };
  // With the mark that every text starts with, so only there.
  const plain = await load(pieces(), more);
  assert.deepEqual(plain.encode("<|x|>"), [263]);
  assert.equal(plain.encode("b<|x|>").includes(263), false);
  const listed = await load(pieces({ additional_special_tokens: ["<|x|>"] }), more);
  assert.deepEqual(listed.encode("b<|x|>"), [259, 262, 263]);
  // Listed by the older file: special by then, but it is looked for as before.
  const map = { "special_tokens_map.json": { additional_special_tokens: ["<|x|>"] } };
  const late = await load(pieces(), { ...more, ...map });
  assert.equal(late.encode("b<|x|>").includes(263), false);
  assert.ok(late.isSpecial(263));
  const early = await load(pieces(), {
    ...more,
    "special_tokens_map.json": { extra_special_tokens: ["<|x|>"] },
  });
  assert.deepEqual(early.encode("b<|x|>"), [259, 262, 263]);
});

Deno.test("added_tokens.json: not read where tokenizer_config.json lists the added tokens", async () => {
  const config = { added_tokens_decoder: { 258: added(258, "<|y|>") } };
  const tokenizer = await load(bytes({ config }), { "added_tokens.json": { "<|z|>": 258 } });
  assert.deepEqual(tokenizer.encode("<|y|>"), [258]);
});

Deno.test("added_tokens.json: what contradicts tokenizer.json is named", async () => {
  const cases: [unknown, RegExp][] = [
    [{ "</s>": 300 }, /added_tokens\.json: "<\/s>": expected its id in tokenizer\.json, 257, found 300/],
    [{ "<|x|>": 257 }, /added_tokens\.json: "<\|x\|>": its id 257 is that of the token "<\/s>"/],
    [
      { "<|x|>": 258, "<|y|>": 258 },
      /added_tokens\.json: "<\|y\|>": its id 258 is that of the token "<\|x\|>"/,
    ],
    [{ "<|x|>": 300 }, /added_tokens\.json: the added token <\|x\|> has id 300, but .* expected 258/],
    [{ "<|x|>": "258" }, /added_tokens\.json: "<\|x\|>": expected a token id, found "258"/],
    [["<|x|>"], /added_tokens\.json: expected a JSON object, found a list/],
  ];
  for (const [file, message] of cases) {
    await assert.rejects(load(bytes(), { "added_tokens.json": file }), (error: Error) => {
      assert.ok(error instanceof TokenizerError, String(error));
      assert.match(error.message, message);
      return true;
    });
  }
});

Deno.test("a folder without tokenizer_config.json: BOS is what the post-processor puts before a text", async () => {
  const files = bytes({ post_processor: template(["<s>"], [], { "<s>": 256 }) });
  const alone = await load(files, { "tokenizer_config.json": null });
  assert.deepEqual(alone.encode("a", { addSpecialTokens: true }), [256, 97]);
  assert.deepEqual([alone.bosId, alone.eosId, alone.namedTokens.size], [256, undefined, 0]);
  const map = { eos_token: { content: "</s>", lstrip: false }, pad_token: "<pad>" };
  const older = await load(files, { "tokenizer_config.json": null, "special_tokens_map.json": map });
  assert.deepEqual([older.eosId, older.namedTokens.get("eos_token")], [257, "</s>"]);
  assert.deepEqual(older.encode("<pad>"), [258]);
});

Deno.test("named tokens: every field that ends in _token, and those that extra_special_tokens names", async () => {
  const config = {
    bos_token: "<s>",
    sep_token: { content: "</s>" },
    image_token: "<img>",
    add_bos_token: true,
    extra_special_tokens: { boi_token: "<boi>" },
  };
  const tokenizer = await load(bytes({ config }), {});
  assert.deepEqual(Object.fromEntries(tokenizer.namedTokens), {
    bos_token: "<s>",
    sep_token: "</s>",
    image_token: "<img>",
    boi_token: "<boi>",
  });
  assert.deepEqual(tokenizer.encode("<boi><img>"), [259, 258]);
  const listed = await load(bytes({ config: { extra_special_tokens: ["<a>", { content: "<b>" }] } }), {});
  assert.deepEqual(listed.furtherTokens, ["<a>", "<b>"]);
  assert.deepEqual(listed.encode("<b><a>"), [259, 258]);
});
