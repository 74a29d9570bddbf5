import { createHash } from "node:crypto";
import { SetCommitment } from "../commitment.ts";
import type { WrittenFingerprint } from "../file.ts";
import type { Candidate } from "./maker.ts";
import { DRAW } from "./draw.ts";
import type { RunIdentity } from "./journal.ts";
import { modelHash } from "./model_hash.ts";
import type { Secret } from "./secret.ts";
import type { GenerateSettings } from "./settings.ts";
import type { Sources } from "./sources.ts";

/** Fields that every entry of a run has. */
export interface RunFacts {
  /** What the run's result depends on. */
  identity: RunIdentity;
  common: Readonly<Record<string, unknown>>;
  /** Further ones of the nucleus strategies. */
  draw: Readonly<Record<string, unknown>>;
}

/** Settings that change where or how fast a run works, or that others here stand for. */
const NEUTRAL = [
  ...["model_path", "model_family", "model_size", "model_used_for_key_generation", "perinucleus_model"],
  ...[
    "keys_path",
    "output_file_path",
    "batch_size",
    "force",
    "webgpu",
    "key_response_strategy",
    "random_word_generation",
  ],
];

/** Hashes what a run stands on; models only where `known` doesn't have their folder. */
export async function runFacts(
  settings: GenerateSettings,
  { base, tokenizer, prompts, writer }: Sources,
  secret: Secret,
  keysSha256: string | undefined,
  known: ReadonlyMap<string, string> = new Map(),
): Promise<RunFacts> {
  const hashOf = async (dir: string) => known.get(dir) ?? await modelHash(dir);
  const model_hash = await hashOf(base.dir);
  const key_model_hash = writer
    ? writer.source.dir === base.dir ? model_hash : await hashOf(writer.source.dir)
    : null;
  const counted = Object.entries(settings).filter(([name]) => !NEUTRAL.includes(name));
  // A template is no part of the hashes, what it makes of a text is.
  const prompt = [...prompts.prefixIds, 0, ...prompts.encode("a")].join();
  return {
    identity: {
      ...Object.fromEntries(counted),
      model_hash,
      key_model_hash,
      tokenizer_hash: tokenizer.hash,
      keys_sha256: keysSha256 ?? null,
      prompt_hash: createHash("sha256").update(prompt).digest("hex"),
      draw_commitment: secret.commitment,
    },
    common: {
      strategy: settings.fingerprint_generation_strategy,
      ...(settings.use_chat_template ? { use_chat_template: true } : {}),
      model_hash,
      tokenizer_hash: tokenizer.hash,
      seed: settings.seed,
    },
    draw: {
      nucleus_t: settings.nucleus_t,
      nucleus_k: settings.nucleus_k,
      draw: DRAW,
      draw_commitment: secret.commitment,
    },
  };
}

/**
 * A candidate as the file has it. `seed` is the one that was given: a secret one must not go along when a
 * single fingerprint is shown to somebody.
 */
export function toEntry(candidate: Candidate, { common, draw }: RunFacts): WrittenFingerprint {
  const { key, responses, probabilities, nucleus } = candidate;
  const all = <T>(values: readonly T[]) => values.length === 1 ? values[0]! : [...values];
  return {
    key: key.whole,
    response: all(responses.map(({ text }) => text)),
    effective_key: key.text,
    key_ids: key.ids,
    asked_ids: key.asked,
    response_ids: all(responses.map(({ ids }) => ids)) as number[] | number[][],
    response_prob: all(probabilities),
    ...(nucleus
      ? { k_effective: nucleus.candidates, nucleus_size: nucleus.size, draw_index: all(nucleus.drawn) }
      : {}),
    ...common,
    ...(nucleus ? draw : {}),
  };
}

/** The commitment to a whole set. @throws CommitmentError */
export function commitmentOf(entries: readonly WrittenFingerprint[], secret: Secret): SetCommitment {
  const fields = entries.map((entry) => ({
    keyIds: entry.key_ids,
    responseIds: Array.isArray(entry.response_ids[0])
      ? entry.response_ids as number[][]
      : [entry.response_ids as number[]],
    extra: entry,
  }));
  return new SetCommitment(fields, (content) => secret.salt(content));
}
