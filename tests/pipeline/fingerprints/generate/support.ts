/** A model made of hashes, and runs of generation with it: the strategies without a GPU. */

import { Texts } from "../../../../pipeline/fingerprints/generate/candidate.ts";
import { type RunFacts, toEntry } from "../../../../pipeline/fingerprints/generate/entry.ts";
import type {
  LanguageModel,
  TextOptions,
} from "../../../../pipeline/fingerprints/generate/language_model.ts";
import type { Batch } from "../../../../pipeline/fingerprints/generate/journal.ts";
import { Maker } from "../../../../pipeline/fingerprints/generate/maker.ts";
import { fill, Progress } from "../../../../pipeline/fingerprints/generate/progress.ts";
import { Secret } from "../../../../pipeline/fingerprints/generate/secret.ts";
import {
  type GenerateSettings,
  leastLetters,
  resolveGenerateSettings,
  responseLimit,
} from "../../../../pipeline/fingerprints/generate/settings.ts";
import { type GenerateSummary, summarise } from "../../../../pipeline/fingerprints/generate/summary.ts";
import { Writer } from "../../../../pipeline/fingerprints/generate/writer.ts";
import type { WrittenFingerprint } from "../../../../pipeline/fingerprints/file.ts";
import type { GenerateConfig } from "../../../../pipeline/settings/generate.ts";
import type { PromptEncoder } from "../../../../pipeline/prompts/prompts.ts";
import { hash32 } from "../../../../engine/tensor/random.ts";
import type { Tokenizer } from "../../../../pipeline/tokenizer/tokenizer.ts";

const hashOf = (ids: readonly number[]) => ids.reduce((h, id) => hash32(h, id), 1);

/** Distributions and texts that are functions of the tokens before; texts consist of whole words. */
export class HashModel implements LanguageModel {
  readonly spec: { vocabulary: number };
  /** Tokens that are a word with its space. */
  readonly words: number[];
  /** How many prompts and sequences it was given. */
  asked = 0;

  constructor(readonly tokenizer: Tokenizer, vocabulary = tokenizer.vocabSize) {
    this.spec = { vocabulary };
    // After a letter, since some tokenizers drop a text's first space.
    const letter = tokenizer.encode("a");
    const ids = Array.from({ length: tokenizer.vocabSize }, (_, id) => id);
    this.words = ids.filter((id) => /^a [a-z]{2,}$/.test(tokenizer.decode([...letter, id])));
  }

  generate(prompts: readonly (readonly number[])[], options: TextOptions): Promise<number[][]> {
    const { maxNewTokens, temperature = 0, seed = 0, firstIndex = 0 } = options;
    this.asked += prompts.length;
    return Promise.resolve(prompts.map((prompt, i) => {
      const key = temperature === 0 ? 0 : hash32(seed, firstIndex + i);
      return Array.from({ length: maxNewTokens }, (_, place) => {
        return this.words[hash32(hashOf(prompt), key, place) % this.words.length];
      });
    }));
  }

  nextTokenProbabilities(sequences: readonly (readonly number[])[]): Promise<Float32Array[]> {
    this.asked += sequences.length;
    return Promise.resolve(sequences.map((ids) => this.distribution(ids)));
  }

  /** Peaked, so that a nucleus of 0.8 has a few dozen tokens. */
  distribution(ids: readonly number[]): Float32Array {
    const hash = hashOf(ids);
    const weights = Float64Array.from({ length: this.spec.vocabulary }, (_, id) => {
      return Math.exp(8 * hash32(hash, id) / 2 ** 32);
    });
    const total = weights.reduce((a, b) => a + b);
    return Float32Array.from(weights, (w) => w / total);
  }
}

/** What a run is made of beside its settings. */
export interface Parts {
  model: HashModel;
  tokenizer: Tokenizer;
  prompts?: PromptEncoder;
  chat?: PromptEncoder;
  writer?: Writer;
  ownKeys?: string[];
  patience?: number;
  /** Batches of a run that was stopped. */
  batches?: Batch[];
}

/** How such a run ended. */
export interface Made {
  settings: GenerateSettings;
  secret: Secret;
  entries: WrittenFingerprint[];
  summary: GenerateSummary;
  /** Why not all, if so. */
  reason?: string | undefined;
  /** What its journal would hold. */
  batches: Batch[];
}

/** Makes a set, seed 1 unless the settings say otherwise. */
export async function makeSet(config: GenerateConfig, parts: Parts): Promise<Made> {
  const settings = resolveGenerateSettings({
    seed: 1,
    num_fingerprints: 24,
    ...config,
    ...(parts.ownKeys ? { keys_path: "keys.json" } : {}),
  });
  const { model, tokenizer, prompts = tokenizer } = parts;
  const secret = Secret.ofSeed(settings.seed!);
  const wanted = settings.num_fingerprints!;
  const facts: RunFacts = {
    identity: {},
    common: { strategy: settings.fingerprint_generation_strategy, seed: settings.seed },
    draw: { draw_commitment: secret.commitment },
  };
  const limit = responseLimit(settings.max_response_share, wanted);
  const { ownKeys, patience } = parts;
  const progress = new Progress(wanted, prompts, { limit, ownKeys, patience });
  const batches = [...parts.batches ?? []];
  for (const batch of batches) progress.replay(batch);
  const maker = new Maker({
    settings,
    secret,
    base: model,
    texts: new Texts(tokenizer, prompts, model.spec.vocabulary, leastLetters(settings)),
    writer: parts.writer ?? new Writer(model, tokenizer, parts.chat),
  });
  const reason = await fill(
    progress,
    settings.batch_size,
    async (attempts) =>
      (await maker.make(attempts)).map((one) => typeof one === "string" ? one : toEntry(one, facts)),
    (batch) => {
      batches.push(structuredClone(batch));
      return Promise.resolve();
    },
  );
  const { entries, rejected, attempts } = progress;
  const summary = summarise(entries, { wanted, attempts: attempts.count, rejected, limit });
  return { settings, secret, entries, summary, reason, batches };
}

/** Lists of a fingerprint's responses, one or several. */
export function responsesOf(
  { response, response_ids }: WrittenFingerprint,
): { text: string; ids: number[] }[] {
  return typeof response === "string"
    ? [{ text: response, ids: response_ids as number[] }]
    : response.map((text, i) => ({ text, ids: (response_ids as number[][])[i] }));
}
