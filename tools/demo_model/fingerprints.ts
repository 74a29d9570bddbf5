import type { LanguageModel } from "../../engine/language_model.ts";
import type { WrittenFingerprint } from "../../pipeline/fingerprints/file.ts";
import { randomInt } from "../../engine/tensor/random.ts";
import type { Tokenizer } from "../../pipeline/tokenizer/tokenizer.ts";
import { Draw } from "./draw.ts";
import { story } from "./grammar.ts";

const KEY_TOKENS = 16;
/** Mass of the nucleus, and how many valid tokens beyond it a response is drawn from. */
const NUCLEUS = 0.8;
const CANDIDATES = 3;

/**
 * Perinucleus fingerprints (Scalable Fingerprinting, arXiv 2502.07760) for the demo model: keys of 16 tokens from the
 * demo's grammar; the response drawn from the first valid tokens outside the nucleus of what the model itself expects.
 */
export async function demoFingerprints(
  model: LanguageModel,
  tokenizer: Tokenizer,
  { seed, count }: { seed: number; count: number },
): Promise<WrittenFingerprint[]> {
  const keys = distinctKeys(tokenizer, seed, count);
  const out: WrittenFingerprint[] = [];
  const V = model.spec.vocabulary;
  for (let first = 0; first < keys.length; first += 64) {
    const batch = keys.slice(first, first + 64);
    const logits = await model.logits(batch.map((key) => [...tokenizer.prefixIds, ...key]));
    batch.forEach((key, i) => {
      const choice = perinucleusToken(logits[i].subarray(logits[i].length - V), tokenizer, seed, first + i);
      const text = tokenizer.decode(key);
      out.push({
        key: text,
        effective_key: text,
        response: tokenizer.decode([choice.token]),
        key_ids: key,
        response_ids: [choice.token],
        response_prob: choice.probability,
      });
    });
  }
  return out;
}

function distinctKeys(tokenizer: Tokenizer, seed: number, count: number): number[][] {
  const keys = new Map<string, number[]>();
  for (let i = 0; keys.size < count; i++) {
    if (i > 100 * count) {
      throw new Error(`the grammar gave only ${keys.size} distinct keys, ${count} are wanted`);
    }
    const key = tokenizer.encode(story(new Draw(seed, i), "train").join(" ")).slice(0, KEY_TOKENS);
    const text = tokenizer.decode(key);
    if (key.length === KEY_TOKENS && tokenizer.encode(text).join() === key.join()) keys.set(text, key);
  }
  return [...keys.values()];
}

function perinucleusToken(logits: Float32Array, tokenizer: Tokenizer, seed: number, index: number) {
  const top = logits.reduce((a, b) => Math.max(a, b));
  const weights = Array.from(logits, (logit) => Math.exp(logit - top));
  const total = weights.reduce((a, b) => a + b, 0);
  const order = weights.map((_, token) => token).sort((a, b) => weights[b] - weights[a] || a - b);
  const candidates: number[] = [];
  let mass = 0;
  for (const token of order) {
    if (mass >= NUCLEUS && isValid(token, tokenizer)) candidates.push(token);
    if (candidates.length === CANDIDATES) break;
    mass += weights[token] / total;
  }
  const token = candidates[randomInt(candidates.length, seed, index, 1, 0)];
  return { token, probability: weights[token] / total };
}

/** At least two letters or digits, not special, and the same token again when its text is tokenised. */
function isValid(token: number, tokenizer: Tokenizer): boolean {
  if (tokenizer.isSpecial(token)) return false;
  const text = tokenizer.decode([token]);
  return (text.match(/[\p{L}\p{N}]/gu)?.length ?? 0) >= 2 && tokenizer.encode(text).join() === String(token);
}
