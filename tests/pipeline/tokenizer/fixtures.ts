/** Small tokenizers of the kinds that real models have, built in code. */

import { join } from "node:path";
import { Tokenizer } from "../../../pipeline/tokenizer/tokenizer.ts";

export const BOS = "<|begin_of_text|>";
export const EOS = "<|end_of_text|>";

const TEXT =
  "The sun was setting over the rolling hills when the young girl answered with a nod and walked along the path. " +
  "Please continue this: the book says that companies are always looking for ways to improve their operations. " +
  "She said that the old man was looking for the sun, and the girl said that the man was always there. " +
  "talks of the town and the other part of the story that they can do this is by using the business process ";

const GPT2_WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;
/** The pattern of Llama 3's tokenizer.json. */
export const LLAMA3_WORDS =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** GPT-2's printable stand-ins for bytes. */
export const BYTE_CHARS: string[] = (() => {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : next++));
})();

/** Plain BPE: the most frequent pair first, ties by text. */
export function trainBpe(words: string[][], count: number): { vocab: string[]; merges: [string, string][] } {
  const merges: [string, string][] = [];
  const vocab = new Set<string>();
  for (let m = 0; m < count; m++) {
    const pairs = new Map<string, number>();
    for (const word of words) {
      for (let i = 0; i + 1 < word.length; i++) {
        const pair = `${word[i]} ${word[i + 1]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
      }
    }
    let best = "";
    for (const [pair, n] of pairs) {
      const lead = n - (pairs.get(best) ?? 1);
      if (lead > 0 || (lead === 0 && best !== "" && pair < best)) best = pair;
    }
    if (best === "") break;
    const [a, b] = best.split(" ");
    merges.push([a, b]);
    vocab.add(a + b);
    for (const word of words) {
      for (let i = 0; i + 1 < word.length; i++) {
        if (word[i] === a && word[i + 1] === b) word.splice(i, 2, a + b);
      }
    }
  }
  return { vocab: [...vocab], merges };
}

/** An entry of `added_tokens`: special and taken as written, unless `flags` say otherwise. */
export const added = (id: number, content: string, flags: Record<string, boolean> = {}) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
  ...flags,
});

/** A TemplateProcessing that puts tokens around a text. */
export const template = (before: string[], after: string[], ids: Record<string, number>) => {
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const single = [
    ...before.map(special),
    { Sequence: { id: "A", type_id: 0 } },
    ...after.map(special),
  ];
  return {
    type: "TemplateProcessing",
    single,
    pair: [...single, { Sequence: { id: "B", type_id: 1 } }],
    special_tokens: Object.fromEntries(
      [...before, ...after].map((id) => [id, { id, ids: [ids[id]], tokens: [id] }]),
    ),
  };
};

interface FixtureOptions {
  /** Tokens the post-processor puts around a text. Default Llama 3's: BOS before. */
  before?: string[];
  after?: string[];
  /** How many merges; 0 gives a tokenizer of bytes. Default 200. */
  merges?: number;
  text?: string;
}

export interface TokenizerFiles {
  // deno-lint-ignore no-explicit-any
  json: any;
  config: Record<string, unknown>;
}

/** A byte-level BPE as Llama 3 has it; without `before` it is like Qwen's. */
export function byteLevel(options: FixtureOptions = {}): TokenizerFiles {
  const { before = [BOS], after = [], merges = 200, text = TEXT } = options;
  const bytes = (word: string) => Array.from(new TextEncoder().encode(word), (b) => BYTE_CHARS[b]);
  const trained = trainBpe((text.match(GPT2_WORDS) ?? []).map(bytes), merges);
  const vocab = Object.fromEntries([...BYTE_CHARS, ...trained.vocab].map((token, id) => [token, id]));
  const size = Object.keys(vocab).length;
  const ids = { [BOS]: size, [EOS]: size + 1 };
  const byteLevelProcessor = {
    type: "ByteLevel",
    add_prefix_space: true,
    trim_offsets: false,
    use_regex: true,
  };
  return {
    json: {
      version: "1.0",
      added_tokens: [added(size, BOS), added(size + 1, EOS)],
      normalizer: null,
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          { type: "Split", pattern: { Regex: LLAMA3_WORDS }, behavior: "Isolated", invert: false },
          { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
        ],
      },
      post_processor: before.length + after.length === 0 ? byteLevelProcessor : {
        type: "Sequence",
        processors: [byteLevelProcessor, template(before, after, ids)],
      },
      decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: { type: "BPE", unk_token: null, byte_fallback: false, vocab, merges: trained.merges },
    },
    config: {
      bos_token: BOS,
      eos_token: { content: EOS, special: true },
      clean_up_tokenization_spaces: true,
    },
  };
}

/** A SentencePiece-style BPE with byte fallback as Llama 2 has it: every text starts with a space. */
export function sentencePiece(options: { merges?: number } = {}): TokenizerFiles {
  const words = (TEXT.match(GPT2_WORDS) ?? []).map((word) => [...word.replaceAll(" ", "▁")]);
  const letters = [...new Set(words.flat())];
  const trained = trainBpe(words, options.merges ?? 200);
  const tokens = ["<unk>", "<s>", "</s>", ...BYTE_TOKENS, ...letters, ...trained.vocab];
  return {
    json: {
      version: "1.0",
      added_tokens: ["<unk>", "<s>", "</s>"].map((token, id) => added(id, token)),
      normalizer: {
        type: "Sequence",
        normalizers: [{ type: "Prepend", prepend: "▁" }, {
          type: "Replace",
          pattern: { String: " " },
          content: "▁",
        }],
      },
      pre_tokenizer: null,
      post_processor: template(["<s>"], [], { "<s>": 1 }),
      decoder: SENTENCE_PIECE_DECODER,
      model: {
        type: "BPE",
        unk_token: "<unk>",
        byte_fallback: true,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges: trained.merges,
      },
    },
    config: { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" },
  };
}

/** What a tiny tokenizer has besides its model. */
export interface TinyParts {
  normalizer?: unknown;
  pre_tokenizer?: unknown;
  post_processor?: unknown;
  decoder?: unknown;
  added_tokens?: unknown[];
  config?: Record<string, unknown>;
}

const whole = (model: unknown, { config = {}, ...parts }: TinyParts): TokenizerFiles => ({
  json: {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...parts,
    model,
  },
  config,
});

/** The 256 tokens of byte fallback. */
const BYTE_TOKENS = Array.from(
  { length: 256 },
  (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`,
);

/**
 * A byte-level BPE in which a byte's id is the byte; tokens from 256 on are the merges' and then `tokens`.
 */
export function tinyByteLevel(
  merges: [string, string][],
  tokens: string[],
  parts: TinyParts,
  model: Record<string, unknown> = {},
): TokenizerFiles {
  const all = [...BYTE_CHARS, ...merges.map((pair) => pair.join("")), ...tokens];
  const vocab = Object.fromEntries(all.map((token, id) => [token, id]));
  return whole({
    type: "BPE",
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: "",
    end_of_word_suffix: "",
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    vocab,
    merges,
    ...model,
  }, {
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    ...parts,
  });
}

/**
 * `<unk>`, `<s>`, `</s>` as 0, 1, 2, byte b as 3 + b, and from 259 on `tokens`: the layout of SentencePiece's
 * BPE.
 */
export function tinySentencePiece(
  merges: [string, string][],
  tokens: string[],
  parts: TinyParts,
  model: Record<string, unknown> = {},
): TokenizerFiles {
  const all = ["<unk>", "<s>", "</s>", ...BYTE_TOKENS, ...tokens];
  const vocab = Object.fromEntries(all.map((token, id) => [token, id]));
  return whole({
    type: "BPE",
    dropout: null,
    unk_token: "<unk>",
    fuse_unk: true,
    byte_fallback: true,
    vocab,
    merges,
    ...model,
  }, {
    added_tokens: ["<unk>", "<s>", "</s>"].map((token, id) => added(id, token)),
    decoder: SENTENCE_PIECE_DECODER,
    config: { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" },
    ...parts,
  });
}

/** A Unigram of these pieces after `<unk>`, `<s>` and `</s>`. */
export function tinyUnigram(
  pieces: [string, number][],
  parts: TinyParts,
  model: Record<string, unknown> = {},
): TokenizerFiles {
  const vocab = [["<unk>", 0], ["<s>", 0], ["</s>", 0], ...pieces];
  return whole({ type: "Unigram", unk_id: 0, vocab, ...model }, {
    added_tokens: ["<unk>", "<s>", "</s>"].map((token, id) => added(id, token)),
    pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
    decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
    config: { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" },
    ...parts,
  });
}

/** Llama 2's: the space that every text starts with is taken off. */
export const SENTENCE_PIECE_DECODER = {
  type: "Sequence",
  decoders: [
    { type: "Replace", pattern: { String: "▁" }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
    { type: "Strip", content: " ", start: 1, stop: 0 },
  ],
};

/** Writes the files to a folder of its own that `using` removes. */
export function tokenizerFolder(files: TokenizerFiles): { dir: string; [Symbol.dispose](): void } {
  const dir = Deno.makeTempDirSync({ prefix: "whorl-tokenizer-" });
  Deno.writeTextFileSync(join(dir, "tokenizer.json"), JSON.stringify(files.json));
  Deno.writeTextFileSync(join(dir, "tokenizer_config.json"), JSON.stringify(files.config));
  return { dir, [Symbol.dispose]: () => Deno.removeSync(dir, { recursive: true }) };
}

export async function loadFixture(files: TokenizerFiles): Promise<Tokenizer> {
  using folder = tokenizerFolder(files);
  return await Tokenizer.load(folder.dir);
}
