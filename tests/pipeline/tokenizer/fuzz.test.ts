/** Tokenizer files with one value of another kind are read, or refused by their names. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ChatTemplate, ChatTemplateError } from "../../../pipeline/prompts/chat_template.ts";
import { Tokenizer, TokenizerError, UntokenizableError } from "../../../pipeline/tokenizer/tokenizer.ts";
import { refuseOrRead } from "../../json_fuzz.ts";
import {
  added,
  byteLevel,
  tinySentencePiece,
  tinyUnigram,
  type TokenizerFiles,
  tokenizerFolder,
} from "./fixtures.ts";

const CONFIG = {
  chat_template: [{ name: "default", template: "{{ bos_token }}{{ messages[0].content }}" }],
  image_token: "<img>",
  pad_token: { content: "<p>", lstrip: false },
  additional_special_tokens: ["<x>"],
};
const METASPACE = { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: false };
const NORMALIZER = {
  type: "Sequence",
  normalizers: [
    { type: "Replace", pattern: { Regex: " {2,}" }, content: " " },
    { type: "Prepend", prepend: "▁" },
    { type: "Strip", strip_left: false, strip_right: true },
  ],
};

const KINDS: Record<string, TokenizerFiles> = {
  "byte-level": byteLevel({ merges: 20 }),
  SentencePiece: tinySentencePiece([["▁", "a"]], ["▁", "a", "▁a"], {
    pre_tokenizer: METASPACE,
    normalizer: NORMALIZER,
  }),
  Unigram: tinyUnigram([["▁", -1], ["a", -2]], {}),
};

/** Everything that a run does with a folder's tokenizer. A text without tokens is no fault of the files. */
async function use(dir: string): Promise<void> {
  try {
    const tokenizer = await Tokenizer.load(dir);
    tokenizer.decode(tokenizer.encode("a the 12 b"));
    tokenizer.specialTokenIn("zz");
    const chat = await ChatTemplate.loadIfThere(dir, tokenizer);
    chat?.encode("a b");
  } catch (error) {
    if (!(error instanceof UntokenizableError)) throw error;
  }
}

const CLASSES = [TokenizerError, ChatTemplateError];

for (const [kind, files] of Object.entries(KINDS)) {
  Deno.test(`fuzz: files of a ${kind} tokenizer`, async () => {
    const config = { ...files.config, ...CONFIG };
    using folder = tokenizerFolder({ ...files, config });
    await use(folder.dir);
    const fuzz = async (name: string, json: unknown, names = name, most = 4) => {
      const path = join(folder.dir, name);
      const before = await Deno.readTextFile(path).catch(() => undefined);
      const refused = await refuseOrRead(json, names, CLASSES, async (mutant) => {
        await Deno.writeTextFile(path, JSON.stringify(mutant));
        await use(folder.dir);
      }, most);
      assert.ok(refused > 0, name);
      if (before === undefined) await Deno.remove(path);
      else await Deno.writeTextFile(path, before);
    };
    await fuzz("tokenizer.json", files.json, "tokenizer", 6);
    const next = 500;
    await fuzz("special_tokens_map.json", { bos_token: "a", extra_special_tokens: ["<y>"] }, "");
    await fuzz("added_tokens.json", { "<q>": next, "<r>": next + 1 });
    const decoder = { added_tokens_decoder: { 0: added(0, "<0>") } };
    await fuzz("tokenizer_config.json", { ...config, ...decoder }, "tokenizer_config.json", 12);
  });
}
