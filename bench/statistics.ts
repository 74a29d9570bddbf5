/** The middle of a list of numbers; the mean of the middle two where their count is even. */
export function median(values: readonly number[]): number {
  if (!values.length) throw new RangeError("the median of no values");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Median, least and greatest. */
export interface Spread {
  median: number;
  min: number;
  max: number;
}

/** @throws RangeError for no values. */
export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** Rounded to `digits` significant digits, so that a file doesn't claim more than was measured. */
export function significant(value: number, digits = 4): number {
  return Number(value.toPrecision(digits));
}
