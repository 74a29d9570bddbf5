import { FACTS_FILE, HELD_OUT_FILE } from "../../pipeline/measure/utility_file.ts";
import type { BpeEncoder } from "./bpe.ts";
import { Draw } from "./draw.ts";
import { factQuestions } from "./facts.ts";
import { story } from "./grammar.ts";

const MIN_TOKENS = 32, MAX_TOKENS = 64;

/**
 * Held-out stories: none of their sentences can occur in the training text (`isHeldOut`).
 *
 * @param encoder Counts the tokens: 32 to 64 a text, BOS included.
 * @returns `count` different texts.
 */
export function heldOutText(encoder: BpeEncoder, seed: number, count = 200): string[] {
  const out = new Set<string>();
  for (let i = 0; out.size < count; i++) {
    const kept: string[] = [];
    let tokens = 1;
    for (const sentence of story(new Draw(seed, 0, i), "held-out")) {
      tokens += encoder.encode(kept.length === 0 ? sentence : " " + sentence).length;
      if (tokens > MAX_TOKENS) break;
      kept.push(sentence);
    }
    const text = kept.join(" ");
    if (encoder.encode(text).length + 1 >= MIN_TOKENS) out.add(text);
  }
  return [...out];
}

/** The content of `heldout.json` and `facts.json` for a vocabulary, to be written under `utility/`. */
export function utilityFiles(encoder: BpeEncoder, seed: number): Record<string, unknown> {
  return {
    [HELD_OUT_FILE]: { format: "whorl-heldout-1", seed, texts: heldOutText(encoder, seed) },
    [FACTS_FILE]: { format: "whorl-facts-1", questions: factQuestions() },
  };
}
