import { ConfigError, type ConfigReader } from "./config.ts";
import type { RopeSpec } from "./spec.ts";

/** Scalings of the rotary embedding that change cos and sin as well as the frequencies. */

/**
 * The context length before it was extended: beside the rope settings (as Phi 3 has it) or among them.
 * @throws ConfigError when the two contradict each other, or neither is there and there is no `fallback`.
 */
export function originalPositions(config: ConfigReader, settings: ConfigReader, fallback?: number): number {
  const field = "original_max_position_embeddings";
  if (config.has(field)) settings.only(field, config.count(field));
  return settings.count(field, config.has(field) ? config.count(field) : fallback);
}

/**
 * LongRoPE: 1 / (f[i] · theta^(2i / rotary)), f the short factors, and the long ones for sequences of more
 * than `original` tokens; cos and sin times √(1 + ln(s) / ln(original)), s the extension's factor, or what
 * `attention_factor` says.
 */
export function longrope(
  plain: readonly number[],
  settings: ConfigReader,
  maxPositions: number,
  original: number,
): RopeSpec {
  const short = settings.positives("short_factor", plain.length);
  const long = settings.positives("long_factor", plain.length);
  return {
    frequencies: plain.map((frequency, i) => frequency / short[i]!),
    scale: longropeScale(settings, maxPositions / original, original),
    long: { frequencies: plain.map((frequency, i) => frequency / long[i]!), after: original },
  };
}

function longropeScale(settings: ConfigReader, extension: number, original: number): number {
  if (settings.has("attention_factor")) return settings.positive("attention_factor");
  const factor = settings.positive("factor", extension);
  if (factor <= 1) return 1;
  // Transformers' versions disagree on which counts. Quotient 1: both fields give the same length.
  if (extension !== 1 && Math.abs(factor - extension) > 1e-6 * factor) {
    throw new ConfigError(
      `${settings.path}factor`,
      `is ${factor}, but max_position_embeddings is ${extension} times original_max_position_embeddings`,
    );
  }
  if (original < 2) {
    throw new ConfigError("original_max_position_embeddings", `is ${original}, expected more than 1`);
  }
  return Math.sqrt(1 + Math.log(factor) / Math.log(original));
}

/**
 * YaRN (arXiv 2309.00071): pairs that turn more than `beta_fast` times in the original context keep their
 * frequency, those below `beta_slow` turns have it divided by `factor`, with a linear ramp over the pairs
 * between. cos and sin are multiplied by 0.1·ln(factor) + 1, by the quotient of two such terms where `mscale`
 * and `mscale_all_dim` are given, or by `attention_factor`.
 */
export function yarn(
  plain: readonly number[],
  settings: ConfigReader,
  theta: number,
  original: number,
): RopeSpec {
  const factor = settings.positive("factor");
  const rotary = 2 * plain.length;
  // The pair that makes so many turns in the original context, as a real number.
  const pairOf = (turns: number) =>
    rotary * Math.log(original / (turns * 2 * Math.PI)) / (2 * Math.log(theta));
  let first = pairOf(settings.positive("beta_fast", 32));
  let last = pairOf(settings.positive("beta_slow", 1));
  if (settings.boolean("truncate", true)) [first, last] = [Math.floor(first), Math.ceil(last)];
  first = Math.max(first, 0);
  last = Math.min(last, rotary - 1);
  // As Transformers does: no division by zero.
  if (first === last) last += 0.001;
  const frequencies = plain.map((frequency, i) => {
    const slow = Math.min(Math.max((i - first) / (last - first), 0), 1);
    return frequency / factor * slow + frequency * (1 - slow);
  });
  return { frequencies, scale: yarnScale(settings, factor) };
}

function yarnScale(settings: ConfigReader, factor: number): number {
  if (settings.has("attention_factor")) return settings.positive("attention_factor");
  const term = (mscale: number) => factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
  const [mscale, allDimensions] = [settings.number("mscale", 0), settings.number("mscale_all_dim", 0)];
  return mscale && allDimensions ? term(mscale) / term(allDimensions) : term(1);
}
