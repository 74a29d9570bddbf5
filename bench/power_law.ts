/** How a cost grows: y ∝ x^exponent. */
export interface PowerLaw {
  /** Least squares of log y over log x. */
  exponent: number;
  /** Share of log y's variance that the line explains. */
  r2: number;
  /** Exponents between the first two and the last two points: constants dominate where x is small. */
  first: number;
  last: number;
}

/** Fits a power law to points in ascending order of x. @throws RangeError for fewer than two, or numbers that aren't positive. */
export function fitPowerLaw(points: readonly (readonly [x: number, y: number])[]): PowerLaw {
  if (points.length < 2) throw new RangeError(`a power law needs 2 points, found ${points.length}`);
  if (!points.flat().every((value) => value > 0 && value < Infinity)) {
    throw new RangeError(`a power law needs positive numbers, found ${JSON.stringify(points)}`);
  }
  const logs = points.map(([x, y]) => [Math.log(x), Math.log(y)]);
  const mean = (axis: number) => logs.reduce((sum, log) => sum + log[axis], 0) / logs.length;
  const [meanX, meanY] = [mean(0), mean(1)];
  const sum = (term: (x: number, y: number) => number) =>
    logs.reduce((total, [x, y]) => total + term(x - meanX, y - meanY), 0);
  const [xx, xy, yy] = [sum((x) => x * x), sum((x, y) => x * y), sum((_, y) => y * y)];
  const between = (i: number) => (logs[i + 1][1] - logs[i][1]) / (logs[i + 1][0] - logs[i][0]);
  return {
    exponent: xy / xx,
    r2: yy ? xy * xy / (xx * yy) : 1,
    first: between(0),
    last: between(logs.length - 2),
  };
}
