/**
 * Responses from just outside the nucleus (Scalable Fingerprinting, arXiv 2502.07760, section 3): unlikely
 * enough that no other model gives them, likely enough that the model stays natural.
 * @module
 */

/** What {@linkcode perinucleus} takes from one next-token distribution. */
export interface PerinucleusOptions {
  /** Probability mass t of the nucleus, 0 ≤ t < 1. */
  mass: number;
  /** How many tokens outside it a response may be drawn from. */
  k: number;
  /** Whether a token may be the beginning of a response. */
  isValid: (token: number) => boolean;
}

/** The boundary of a distribution's nucleus. */
export interface Perinucleus {
  /** How many tokens the nucleus has. */
  nucleusSize: number;
  /** The first valid tokens outside it, likeliest first: k of them, or what there is. */
  candidates: number[];
}

/**
 * The nucleus is the smallest set of likeliest tokens whose probabilities sum to at least `mass`, and never
 * empty: the likeliest token is no candidate. Tokens of equal probability are ordered by id, those of
 * probability 0 left out. Sums are float64, so that f32 probabilities decide the boundary exactly for masses
 * near 1, too.
 * @throws RangeError for a mass or a k out of range, and for a probability that is none.
 */
export function perinucleus(probabilities: Float32Array, options: PerinucleusOptions): Perinucleus {
  const { mass, k, isValid } = options;
  if (!(mass >= 0 && mass < 1)) throw new RangeError(`nucleus mass: expected 0 ≤ t < 1, found ${mass}`);
  if (!Number.isSafeInteger(k) || k < 1) {
    throw new RangeError(`candidates: expected an integer of at least 1, found ${k}`);
  }
  let sum = 0;
  let nucleusSize = 0;
  const candidates: number[] = [];
  for (const token of descending(probabilities)) {
    if (nucleusSize === 0 || sum < mass) {
      sum += probabilities[token]!;
      nucleusSize++;
    } else if (isValid(token)) {
      candidates.push(token);
      if (candidates.length === k) break;
    }
  }
  return { nucleusSize, candidates };
}

/**
 * Tokens of positive probability, likeliest first, ties by id. Sorted a slice of like probabilities at a
 * time: of 128,000 tokens a nucleus and what borders on it seldom take more than a few hundred.
 */
function* descending(probabilities: Float32Array): Generator<number> {
  const wrong = probabilities.findIndex((p) => !(p >= 0 && p <= 1.001));
  if (wrong >= 0) {
    throw new RangeError(`expected probabilities, found ${probabilities[wrong]} for token ${wrong}`);
  }
  let above = Infinity;
  for (let least = 2 ** -8; above > 0; least = least < 2 ** -40 ? 0 : least / 16) {
    const slice: number[] = [];
    for (let token = 0; token < probabilities.length; token++) {
      const p = probabilities[token]!;
      if (p >= least && p < above && p > 0) slice.push(token);
    }
    yield* slice.sort((a, b) => probabilities[b]! - probabilities[a]! || a - b);
    above = least;
  }
}
