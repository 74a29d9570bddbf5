/** RMSNorm: y = x / sqrt(mean(x²) + epsilon) · weight, over rows of C = weight.length. */

/** y [N, C], and the factor 1 / sqrt(mean(x²) + epsilon) of each row [N]. */
export function rmsnormForward(
  x: Float64Array,
  weight: Float64Array,
  epsilon: number,
): { y: Float64Array<ArrayBuffer>; inverseRms: Float64Array<ArrayBuffer> } {
  const C = weight.length;
  const N = x.length / C;
  const y = new Float64Array(N * C);
  const inverseRms = new Float64Array(N);
  for (let n = 0; n < N; n++) {
    let squares = 0;
    for (let c = 0; c < C; c++) squares += x[n * C + c] ** 2;
    inverseRms[n] = 1 / Math.sqrt(squares / C + epsilon);
    for (let c = 0; c < C; c++) y[n * C + c] = x[n * C + c] * inverseRms[n] * weight[c];
  }
  return { y, inverseRms };
}

/** With x̂ = x·r and g = dy·weight: dx = r · (g − x̂ · mean(g·x̂)), dWeight = Σ_n dy·x̂. */
export function rmsnormBackward(
  dy: Float64Array,
  x: Float64Array,
  weight: Float64Array,
  epsilon: number,
): { dx: Float64Array<ArrayBuffer>; dWeight: Float64Array<ArrayBuffer> } {
  const C = weight.length;
  const N = x.length / C;
  const { inverseRms } = rmsnormForward(x, weight, epsilon);
  const dx = new Float64Array(N * C);
  const dWeight = new Float64Array(C);
  for (let n = 0; n < N; n++) {
    const r = inverseRms[n];
    let projection = 0;
    for (let c = 0; c < C; c++) projection += dy[n * C + c] * weight[c] * x[n * C + c] * r;
    for (let c = 0; c < C; c++) {
      const i = n * C + c;
      const normalised = x[i] * r;
      dx[i] = r * (dy[i] * weight[c] - normalised * projection / C);
      dWeight[c] += dy[i] * normalised;
    }
  }
  return { dx, dWeight };
}
