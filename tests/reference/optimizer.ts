/** AdamW, global-norm clipping and weight averaging (FORMAT.md sections 6 and 8). */

/** Moments of one parameter. */
export interface Moments {
  m: Float64Array<ArrayBuffer>;
  v: Float64Array<ArrayBuffer>;
}

/** What one AdamW update needs. */
export interface AdamWOptions {
  learningRate: number;
  weightDecay: number;
  /** 1 in the first update. */
  step: number;
  betas?: readonly [number, number];
  epsilon?: number;
}

/** Moments of zero. */
export function zeroMoments(elements: number): Moments {
  return { m: new Float64Array(elements), v: new Float64Array(elements) };
}

/** L2 norm over all gradients together. */
export function globalNorm(gradients: Iterable<Float64Array>): number {
  let sum = 0;
  for (const gradient of gradients) for (const g of gradient) sum += g * g;
  return Math.sqrt(sum);
}

/** The factor on every gradient: min(1, maxGradNorm / (norm + 1e-6)); 1 for maxGradNorm 0 or null (no clipping). */
export function clipFactor(norm: number, maxGradNorm: number | null): number {
  return maxGradNorm ? Math.min(1, maxGradNorm / (norm + 1e-6)) : 1;
}

/** One AdamW update of p and its moments, in place; g is already clipped. */
export function adamw(p: Float64Array, g: Float64Array, moments: Moments, options: AdamWOptions): void {
  const { learningRate, weightDecay, step, betas: [beta1, beta2] = [0.9, 0.999], epsilon = 1e-8 } = options;
  const { m, v } = moments;
  const correction1 = 1 - beta1 ** step;
  const correction2 = 1 - beta2 ** step;
  for (let i = 0; i < p.length; i++) {
    p[i] *= 1 - learningRate * weightDecay;
    m[i] = beta1 * m[i] + (1 - beta1) * g[i];
    v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
    p[i] -= learningRate * (m[i] / correction1) / (Math.sqrt(v[i] / correction2) + epsilon);
  }
}

/** p ← (1 − lambda)·p + lambda·p0, in place. */
export function average(p: Float64Array, p0: Float64Array, lambda: number): void {
  for (let i = 0; i < p.length; i++) p[i] = (1 - lambda) * p[i] + lambda * p0[i];
}
