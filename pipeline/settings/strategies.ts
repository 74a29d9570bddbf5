import { z } from "zod";

/** How fingerprints are made, and how a response is taken from a file that has no ids. */
export const STRATEGIES = [
  "english",
  "random_word",
  "english_random_response",
  "inverse_nucleus",
  "perinucleus",
] as const;

/**
 * See {@linkcode STRATEGIES}. Of a file, `english` and `random_word` take a window of the response, as OML
 * 1.0 and its successor do; `english_random_response` puts random words in its place; the nucleus strategies,
 * two names of one, take it as it is.
 */
export type Strategy = typeof STRATEGIES[number];

/** Other names, as the successor of OML 1.0 has them. */
export const STRATEGY_ALIASES = { english_random_responses: "english_random_response" } as const;

/** Every name of a strategy. */
export const STRATEGY_NAMES = [
  ...STRATEGIES,
  ...(Object.keys(STRATEGY_ALIASES) as (keyof typeof STRATEGY_ALIASES)[]),
] as const;

/** See {@linkcode STRATEGY_NAMES}. */
export type StrategyName = typeof STRATEGY_NAMES[number];

/** Any name, giving the strategy. */
export const strategySchema = z.enum(STRATEGY_NAMES).transform((name): Strategy =>
  name in STRATEGY_ALIASES ? STRATEGY_ALIASES[name as keyof typeof STRATEGY_ALIASES] : name as Strategy
);
