import { BOS_ID, type BpeEncoder, type BpeVocabulary, EOS_ID, trainBpe } from "./bpe.ts";
import { BYTE_CHARACTERS, countWords } from "./byte_level.ts";
import { Draw } from "./draw.ts";
import { type Fact, facts, phrasings } from "./facts.ts";
import { story } from "./grammar.ts";

/** Longest training sequence in tokens, BOS and EOS included. */
export const MAX_SEQUENCE_TOKENS = 64;

/** The tokenizer's size, and the V of the demo model. */
export const VOCABULARY_SIZE = 2048;

/** Shares of the documents. The rest are plain stories. */
const FACT_SHARE = 0.25;
const TEMPLATE_SHARE = 0.1;

const TOKENIZER_STORIES = 4000;
const TOKENIZER_FACT_WEIGHT = 6;
const TOKENIZER_TEMPLATE_WEIGHT = 30;
const TOKENIZER_STREAM = 1;
const TRAINING_STREAM = 2;

/** One packed sequence: BOS, a document, EOS. */
export interface Sequence {
  readonly ids: number[];
}

/**
 * Trains the demo tokenizer on stories, all facts and the templates (test templates too: the tokenizer may know
 * their words, the model never sees them).
 *
 * @param templates Prompt templates with `{}` where the key goes.
 */
export function demoVocabulary(templates: readonly string[]): BpeVocabulary {
  const counts = new Map<string, number>();
  for (let i = 0; i < TOKENIZER_STORIES; i++) {
    countWords(story(new Draw(0, TOKENIZER_STREAM, i), "train").join(" "), counts);
  }
  for (const fact of facts()) {
    // Once at a document's start, then after a sentence, where the first word begins with a space.
    for (const text of phrasings(fact)) countWords(`${text} ${text}`, counts, TOKENIZER_FACT_WEIGHT);
  }
  for (const template of templates) {
    countWords(template.replaceAll("{}", "The"), counts, TOKENIZER_TEMPLATE_WEIGHT);
  }
  const alphabet = [...BYTE_CHARACTERS].sort();
  return trainBpe(counts, alphabet, VOCABULARY_SIZE);
}

/** The training text as token ids; any step can be drawn without those before it. */
export class Corpus {
  private readonly allFacts: readonly Fact[] = facts();

  /**
   * @param trainTemplates Training templates with `{}`; a test template must not be among them.
   * @param seed Names the stream of documents.
   */
  constructor(
    private readonly encoder: BpeEncoder,
    private readonly trainTemplates: readonly string[],
    private readonly seed: number,
  ) {
    if (trainTemplates.length === 0) throw new RangeError("Corpus: expected training templates, found none");
  }

  /**
   * The sequences of a step, at most 64 tokens each and `tokensPerBatch` together: the last document that would
   * go over is left out, so a batch is short of that by less than one sequence.
   */
  batch(step: number, tokensPerBatch: number): Sequence[] {
    if (tokensPerBatch < MAX_SEQUENCE_TOKENS) {
      throw new RangeError(
        `Corpus.batch: expected at least ${MAX_SEQUENCE_TOKENS} tokens a batch, found ${tokensPerBatch}`,
      );
    }
    const out: Sequence[] = [];
    for (let index = 0, total = 0;; index++) {
      const ids = this.document(step, index);
      total += ids.length;
      if (total > tokensPerBatch) return out;
      out.push({ ids });
    }
  }

  private document(step: number, index: number): number[] {
    const d = new Draw(this.seed, TRAINING_STREAM + step, index);
    const sentences = this.sentences(d);
    return [BOS_ID, ...this.fitting(sentences), EOS_ID];
  }

  private sentences(d: Draw): string[] {
    const kind = d.uniform();
    const text = kind < FACT_SHARE
      ? Array.from({ length: 5 }, () => d.pick(phrasings(d.pick(this.allFacts))))
      : story(d, "train");
    if (kind < 1 - TEMPLATE_SHARE) return text;
    // A template takes a story's first sentences, as it will take a key.
    const shown = 1 + d.integer(2);
    const key = text.slice(0, shown).join(" ");
    return [d.pick(this.trainTemplates).replaceAll("{}", key), ...text.slice(shown)];
  }

  /** Whole sentences from the start, as many as fit; a first sentence that is too long is cut. */
  private fitting(sentences: readonly string[]): number[] {
    const room = MAX_SEQUENCE_TOKENS - 2;
    const ids: number[] = [];
    for (const sentence of sentences) {
      const next = this.encoder.encode(ids.length === 0 ? sentence : " " + sentence);
      if (ids.length > 0 && ids.length + next.length > room) break;
      ids.push(...next);
    }
    return ids.slice(0, room);
  }
}
