/**
 * RMSNorm and LayerNorm over vectors of C = weight.length, which may be whole rows or the heads of rows:
 * y = n · (offset + weight) + bias, n = (x − mean) / √(mean((x − mean)²) + epsilon), the mean taken as 0 for "rms".
 */

/** The kind, and what is added to the stored weight. */
export interface NormSettings {
  kind: "rms" | "layer";
  epsilon: number;
  offset: number;
}

/** y [N, C], and the mean and the factor 1 / √(…) of each vector [N]. */
export function normForward(
  x: Float64Array,
  weight: Float64Array,
  bias: Float64Array | undefined,
  { kind, epsilon, offset }: NormSettings,
): {
  y: Float64Array<ArrayBuffer>;
  mean: Float64Array<ArrayBuffer>;
  rstd: Float64Array<ArrayBuffer>;
} {
  const C = weight.length;
  const N = x.length / C;
  const y = new Float64Array(N * C);
  const mean = new Float64Array(N);
  const rstd = new Float64Array(N);
  for (let n = 0; n < N; n++) {
    const row = x.subarray(n * C, (n + 1) * C);
    if (kind === "layer") mean[n] = row.reduce((sum, value) => sum + value, 0) / C;
    const squares = row.reduce((sum, value) => sum + (value - mean[n]) ** 2, 0);
    rstd[n] = 1 / Math.sqrt(squares / C + epsilon);
    for (let c = 0; c < C; c++) {
      y[n * C + c] = (row[c] - mean[n]) * rstd[n] * (offset + weight[c]) + (bias?.[c] ?? 0);
    }
  }
  return { y, mean, rstd };
}

/**
 * With g = dy·(offset + weight): dx = rstd · (g − mean(g) − n · mean(g·n)), without mean(g) for "rms";
 * dWeight = Σ dy·n and dBias = Σ dy over the vectors.
 */
export function normBackward(
  dy: Float64Array,
  x: Float64Array,
  weight: Float64Array,
  settings: NormSettings,
): {
  dx: Float64Array<ArrayBuffer>;
  dWeight: Float64Array<ArrayBuffer>;
  dBias: Float64Array<ArrayBuffer>;
} {
  const C = weight.length;
  const N = x.length / C;
  const { mean, rstd } = normForward(x, weight, undefined, settings);
  const dx = new Float64Array(N * C);
  const dWeight = new Float64Array(C);
  const dBias = new Float64Array(C);
  for (let n = 0; n < N; n++) {
    const gradient = new Float64Array(C);
    const normed = new Float64Array(C);
    let [sum, projection] = [0, 0];
    for (let c = 0; c < C; c++) {
      const i = n * C + c;
      normed[c] = (x[i] - mean[n]) * rstd[n];
      gradient[c] = dy[i] * (settings.offset + weight[c]);
      if (settings.kind === "layer") sum += gradient[c];
      projection += gradient[c] * normed[c];
      dWeight[c] += dy[i] * normed[c];
      dBias[c] += dy[i];
    }
    for (let c = 0; c < C; c++) {
      dx[n * C + c] = rstd[n] * (gradient[c] - sum / C - normed[c] * projection / C);
    }
  }
  return { dx, dWeight, dBias };
}
