import { z } from "zod";

/** How fingerprints are made. */
export const STRATEGIES = [
  "english",
  "random_word",
  "english_random_response",
  "inverse_nucleus",
  "perinucleus",
] as const;

/** See {@linkcode STRATEGIES}; the nucleus strategies are two names of one. */
export type Strategy = typeof STRATEGIES[number];

/** Other names, as the successor of OML 1.0 has them. */
const STRATEGY_ALIASES = { english_random_responses: "english_random_response" } as const;

/** Every name of a strategy. */
export const STRATEGY_NAMES = [
  ...STRATEGIES,
  ...(Object.keys(STRATEGY_ALIASES) as (keyof typeof STRATEGY_ALIASES)[]),
] as const;

/** A strategy, or its other name in the successor of OML 1.0. */
export type StrategyName = Strategy | "english_random_responses";

/** Any name, giving the strategy. */
export const strategySchema = z.enum(STRATEGY_NAMES).transform((name): Strategy =>
  name in STRATEGY_ALIASES ? STRATEGY_ALIASES[name as keyof typeof STRATEGY_ALIASES] : name as Strategy
);

/** How a response is taken from a file. */
export const RESPONSE_STRATEGIES = ["english", "random_word", "english_random_response", "stored"] as const;

/**
 * See {@linkcode RESPONSE_STRATEGIES}. `english` and `random_word` take a window of the response, as OML 1.0 and its
 * successor do; `english_random_response` puts random words in its place; `stored` takes it as it is.
 */
export type ResponseStrategy = typeof RESPONSE_STRATEGIES[number];

/** Every name of a way to take a response; a file that a nucleus strategy made is `stored`. */
export type ResponseStrategyName = "stored" | StrategyName;

/** How responses are taken from a file whose fingerprints were made like this. */
export function responseStrategy(strategy: Strategy): ResponseStrategy {
  return strategy === "inverse_nucleus" || strategy === "perinucleus" ? "stored" : strategy;
}

/** Any name, giving how a response is taken. */
export const responseStrategySchema = z.enum(["stored", ...STRATEGY_NAMES]).transform((
  name,
): ResponseStrategy => name === "stored" ? name : responseStrategy(strategySchema.parse(name)));
