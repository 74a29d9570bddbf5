import type { WrittenFingerprint } from "../file.ts";
import { responsesAs } from "./fingerprint_set.ts";

/** Least, mean and most. */
export interface Range {
  /** The least; 0 of none. */
  min: number;
  /** The arithmetic mean; 0 of none. */
  mean: number;
  /** The most; 0 of none. */
  max: number;
}

/** What a set of fingerprints is like; it names no key and no response. */
export interface GenerateSummary {
  /** Fingerprints asked for. */
  wanted: number;
  /** Fingerprints made. */
  count: number;
  /** Attempts it took. */
  attempts: number;
  /** Attempts that gave none, by reason, the most frequent first. */
  rejected: Record<string, number>;
  /** Tokens of a key. */
  keyLength: Range;
  /** Tokens of a response. */
  responseLength: Range;
  /** Counted as {@link responsesAs} says. */
  responses: {
    different: number;
    /** How often the most frequent one comes. */
    mostFrequent: number;
    /** That, as a share of all. */
    largestShare: number;
    /** How often one may come. */
    limit: number;
  };
  /** Probabilities of the responses' first tokens in the model before it is fingerprinted. */
  baseProbability: Range & {
    /** By per cent: 5, 25, 50, 75, 95. */
    quantiles: Record<string, number>;
  };
  /** Root of the commitment to the set, 32 bytes in hex; undefined for an empty one. */
  commitment?: string | undefined;
}

/** What a run did beside making the fingerprints. */
export interface RunCounts {
  wanted: number;
  attempts: number;
  rejected: ReadonlyMap<string, number>;
  limit: number;
  commitment?: string | undefined;
}

/** Sums up a set of fingerprints; its numbers are 0 when there are none. */
export function summarise(fingerprints: readonly WrittenFingerprint[], counts: RunCounts): GenerateSummary {
  const responses = fingerprints.flatMap(responsesAs);
  const frequency = new Map<string, number>();
  for (const one of responses) frequency.set(one, (frequency.get(one) ?? 0) + 1);
  const mostFrequent = frequency.values().reduce((a, b) => Math.max(a, b), 0);
  const probabilities = fingerprints.flatMap(({ response_prob }) => response_prob as number | number[])
    .sort((a, b) => a - b);
  const { wanted, attempts, rejected, limit, commitment } = counts;
  return {
    wanted,
    count: fingerprints.length,
    attempts,
    rejected: Object.fromEntries([...rejected].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))),
    keyLength: range(fingerprints.map(({ key_ids }) => key_ids.length)),
    responseLength: range(fingerprints.flatMap(({ response_ids: ids }) => lengths(ids))),
    responses: {
      different: frequency.size,
      mostFrequent,
      limit,
      largestShare: responses.length === 0 ? 0 : mostFrequent / responses.length,
    },
    baseProbability: {
      ...range(probabilities),
      quantiles: Object.fromEntries([5, 25, 50, 75, 95].map((q) => [q, quantile(probabilities, q / 100)])),
    },
    ...(commitment === undefined ? {} : { commitment }),
  };
}

function lengths(ids: number[] | number[][]): number[] {
  return Array.isArray(ids[0]) ? (ids as number[][]).map(({ length }) => length) : [ids.length];
}

function range(values: readonly number[]): Range {
  if (values.length === 0) return { min: 0, mean: 0, max: 0 };
  let [min, max, sum] = [Infinity, -Infinity, 0];
  for (const value of values) [min, max, sum] = [Math.min(min, value), Math.max(max, value), sum + value];
  return { min, mean: sum / values.length, max };
}

/** Of ascending values, linear between neighbours, as NumPy's default. */
function quantile(sorted: readonly number[], q: number): number {
  if (sorted.length === 0) return 0;
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low]! + (at - low) * (sorted[Math.ceil(at)]! - sorted[low]!);
}

/** The summary for people. */
export function summaryText(summary: GenerateSummary): string {
  const { keyLength, responseLength, responses, baseProbability: p } = summary;
  const span = ({ min, mean, max }: Range) =>
    min === max ? `${min}` : `${min} to ${max}, mean ${mean.toFixed(1)}`;
  const small = (value: number) => value < 1e-3 ? value.toExponential(1) : value.toPrecision(2);
  const quantiles = Object.entries(p.quantiles).map(([q, value]) => `${q} % ${small(value)}`).join(", ");
  const rejected = Object.entries(summary.rejected).map(([reason, count]) => `${count} ${reason}`).join(", ");
  return [
    `fingerprints: ${summary.count} of ${summary.wanted}, from ${summary.attempts} attempts`,
    `tokens of a key: ${span(keyLength)}; of a response: ${span(responseLength)}`,
    `responses: ${responses.different} different, the most frequent ${responses.mostFrequent} times ` +
    `(${(100 * responses.largestShare).toFixed(1)} %, at most ${responses.limit} times)`,
    `probability of their first tokens: mean ${small(p.mean)}, quantiles ${quantiles}`,
    `rejected: ${rejected || "none"}`,
    ...(summary.commitment === undefined ? [] : [`commitment to the set: ${summary.commitment}`]),
  ].join("\n");
}
