/**
 * Whether fingerprints fit a model: its vocabulary, and its positions.
 * @module
 */

import { type PromptEncoder, templateIds } from "../prompts/prompts.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type Fingerprint, longestResponse } from "./prepare.ts";

/**
 * Checks that a model has every token that its tokenizer gives for the fingerprints. A vocabulary of the
 * model that is larger is padded, and tokens beyond it that no fingerprint uses (a padding token) do no harm.
 * @throws RangeError when the two don't belong together.
 */
export function checkVocabulary(
  fingerprints: readonly Fingerprint[],
  tokenizer: Tokenizer,
  vocabulary: number,
  prompts: PromptEncoder = tokenizer,
): void {
  const lacks = (ids: readonly number[]) => ids.some((id) => id >= vocabulary);
  const wrong = fingerprints.filter((one) => lacks(prompts.askedIds(one)) || one.responses.some(lacks));
  if (wrong.length === 0 && !lacks(prompts.prefixIds)) return;
  throw new RangeError(
    `tokenizer and model don't belong together: the tokenizer gives token ids up to ${
      tokenizer.vocabSize - 1
    }, but ` +
      `config.json says "vocab_size": ${vocabulary} (${wrong.length} of ${fingerprints.length} fingerprints, or the ` +
      `tokens before a text, use ids from ${vocabulary} on)`,
  );
}

/**
 * Checks that every fingerprint, asked plainly and in each template, fits with its longest response into a model's positions.
 * @throws RangeError naming the entry of the first that doesn't.
 */
export function checkPositions(
  fingerprints: readonly Fingerprint[],
  maxPositions: number,
  prompts: PromptEncoder,
  templates: readonly string[] = [],
): void {
  const around = templates.reduce(
    (most, text) => Math.max(most, templateIds(text, "", prompts).length + 1),
    0,
  );
  for (const one of fingerprints) {
    const lengthOf = (asked: readonly number[]) =>
      prompts.prefixIds.length + asked.length + longestResponse(one) - 1;
    const plain = lengthOf(prompts.askedIds(one));
    // Only what comes near is tokenised.
    const others = plain + around > maxPositions ? templates : [];
    const longest = others.reduce(
      (most, text) => Math.max(most, lengthOf(templateIds(text, one.key, prompts))),
      plain,
    );
    if (longest <= maxPositions) continue;
    const where = plain > maxPositions ? "" : " in a prompt";
    throw new RangeError(
      `entry ${one.entry} (counted from 0): expected at most ${maxPositions} tokens, as config.json says by ` +
        `"max_position_embeddings", found ${longest} of its key${where} with its response`,
    );
  }
}
