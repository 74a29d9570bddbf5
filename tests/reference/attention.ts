/** Causal grouped-query attention on packed sequences, with an optional sliding window and soft cap of the scores. */

/** What attention needs to know beside q, k and v. */
export interface AttentionShape {
  /** [B + 1]: sequence b holds the packed tokens offsets[b] … offsets[b + 1] − 1. */
  offsets: ArrayLike<number>;
  H: number;
  K: number;
  D: number;
  /** A query sees itself and window − 1 tokens before it; null: all before it. */
  window?: number | null;
  /** Factor on q·k; 1/√D by default. */
  scale?: number;
  /** Scaled scores s become cap·tanh(s/cap) before the mask; 0, the default, is off. */
  cap?: number;
}

/** Softmax of one query row and head over the keys it sees. */
interface AttentionRow {
  /** Packed index of the first key seen; the last is the query itself. */
  firstKey: number;
  probabilities: Float64Array<ArrayBuffer>;
  /** Scaled and capped q·k of each key. */
  scores: Float64Array<ArrayBuffer>;
  /** log Σ exp(scores). */
  lse: number;
}

/** Probabilities of query token n, head h, which belongs to the sequence starting at packed index `start`. */
export function attentionRow(
  q: Float64Array,
  k: Float64Array,
  shape: AttentionShape,
  n: number,
  h: number,
  start: number,
): AttentionRow {
  const { H, K, D, window = null, cap = 0 } = shape;
  const scale = shape.scale ?? 1 / Math.sqrt(D);
  const firstKey = window === null ? start : Math.max(start, n - window + 1);
  const queryAt = (n * H + h) * D;
  const kvHead = Math.floor(h / (H / K));
  const scores = new Float64Array(n - firstKey + 1);
  let largest = -Infinity;
  for (let j = 0; j < scores.length; j++) {
    const keyAt = ((firstKey + j) * K + kvHead) * D;
    let dot = 0;
    for (let d = 0; d < D; d++) dot += q[queryAt + d] * k[keyAt + d];
    scores[j] = cap > 0 ? cap * Math.tanh(dot * scale / cap) : dot * scale;
    largest = Math.max(largest, scores[j]);
  }
  let sum = 0;
  for (const score of scores) sum += Math.exp(score - largest);
  const lse = largest + Math.log(sum);
  return { firstKey, probabilities: scores.map((score) => Math.exp(score - lse)), scores, lse };
}

/** o [N, H·D] and lse [N, H] from q [N, H·D], k and v [N, K·D]; query head h reads kv head ⌊h / (H/K)⌋. */
export function attentionForward(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  shape: AttentionShape,
): { o: Float64Array<ArrayBuffer>; lse: Float64Array<ArrayBuffer> } {
  const { H, K, D } = shape;
  const o = new Float64Array(q.length);
  const lse = new Float64Array(q.length / D);
  forEachQuery(shape, (n, h, start) => {
    const row = attentionRow(q, k, shape, n, h, start);
    const kvHead = Math.floor(h / (H / K));
    lse[n * H + h] = row.lse;
    for (let j = 0; j < row.probabilities.length; j++) {
      const valueAt = ((row.firstKey + j) * K + kvHead) * D;
      for (let d = 0; d < D; d++) o[(n * H + h) * D + d] += row.probabilities[j] * v[valueAt + d];
    }
  });
  return { o, lse };
}

/** Gradients of `attentionForward` for the gradient dO [N, H·D]. */
export function attentionBackward(
  dO: Float64Array,
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  shape: AttentionShape,
): { dq: Float64Array<ArrayBuffer>; dk: Float64Array<ArrayBuffer>; dv: Float64Array<ArrayBuffer> } {
  const { H, K, D, cap = 0 } = shape;
  const scale = shape.scale ?? 1 / Math.sqrt(D);
  const dq = new Float64Array(q.length);
  const dk = new Float64Array(k.length);
  const dv = new Float64Array(v.length);
  forEachQuery(shape, (n, h, start) => {
    const { firstKey, probabilities: p, scores } = attentionRow(q, k, shape, n, h, start);
    const queryAt = (n * H + h) * D;
    const kvHead = Math.floor(h / (H / K));
    const keyAt = (j: number) => ((firstKey + j) * K + kvHead) * D;
    const dp = new Float64Array(p.length);
    let mean = 0;
    for (let j = 0; j < p.length; j++) {
      const at = keyAt(j);
      for (let d = 0; d < D; d++) {
        dp[j] += dO[queryAt + d] * v[at + d];
        dv[at + d] += p[j] * dO[queryAt + d];
      }
      mean += p[j] * dp[j];
    }
    for (let j = 0; j < p.length; j++) {
      const at = keyAt(j);
      const slope = cap > 0 ? 1 - (scores[j] / cap) ** 2 : 1;
      const ds = p[j] * (dp[j] - mean) * slope * scale;
      for (let d = 0; d < D; d++) {
        dq[queryAt + d] += ds * k[at + d];
        dk[at + d] += ds * q[queryAt + d];
      }
    }
  });
  return { dq, dk, dv };
}

function forEachQuery(shape: AttentionShape, visit: (n: number, h: number, start: number) => void): void {
  const { offsets, H } = shape;
  for (let b = 0; b + 1 < offsets.length; b++) {
    for (let n = offsets[b]; n < offsets[b + 1]; n++) {
      for (let h = 0; h < H; h++) visit(n, h, offsets[b]);
    }
  }
}
