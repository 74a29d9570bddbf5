/** Cross-entropy against labels and Kullback–Leibler divergence from given distributions (ANCHOR.md's loss). */

/** The wanted token. Loss −log p[label]. */
interface HardTarget {
  label: number;
}

/** A whole distribution [V]. Loss Σ q·(log q − log p). */
interface SoftTarget {
  probabilities: ArrayLike<number>;
}

/**
 * Probabilities of k tokens and the mass of all others as one further outcome.
 * Loss Σ_k q_k·(log q_k − log p_k) + rest·(log rest − log p_rest).
 */
interface BucketTarget {
  ids: ArrayLike<number>;
  probabilities: ArrayLike<number>;
  rest: number;
}

/** A soft or bucketed distribution. */
export type Distribution = SoftTarget | BucketTarget;

/** One supervised row: which row of the logits, its weight in the loss, and what it should say. */
export interface TargetRow {
  index: number;
  weight: number;
  target: HardTarget | Distribution;
}

/** Sum of weight · loss over the rows. */
interface CrossEntropy {
  loss: number;
  /** Loss of each row before weighting [R]. */
  rowLosses: Float64Array<ArrayBuffer>;
  /** Gradient of `loss` [N, V]; rows that share an index add up. */
  dLogits: Float64Array<ArrayBuffer>;
}

/** Loss and gradient of `rows` on logits [N, V]. Throws RangeError for a target that cannot be. */
export function crossEntropy(logits: Float64Array, V: number, rows: readonly TargetRow[]): CrossEntropy {
  const dLogits = new Float64Array(logits.length);
  const rowLosses = new Float64Array(rows.length);
  let loss = 0;
  rows.forEach(({ index, weight, target }, r) => {
    if (!(index >= 0 && (index + 1) * V <= logits.length)) {
      throw new RangeError(`row ${r}: expected an index below ${logits.length / V}, found ${index}`);
    }
    const logP = logSoftmax(logits.subarray(index * V, (index + 1) * V));
    const row = rowLoss(logP, target);
    rowLosses[r] = row.loss;
    loss += weight * row.loss;
    for (let j = 0; j < V; j++) dLogits[index * V + j] += weight * row.gradient[j];
  });
  return { loss, rowLosses, dLogits };
}

/** log softmax of one row. */
export function logSoftmax(logits: Float64Array): Float64Array<ArrayBuffer> {
  const lse = logSumExp(logits);
  return Float64Array.from(logits, (x) => x - lse);
}

/**
 * The k most probable tokens of a distribution [V], in falling order (ties: lower id first), and the remaining mass,
 * summed over the remaining tokens rather than as 1 − Σ.
 */
export function bucket(probabilities: ArrayLike<number>, k: number): BucketTarget {
  const order = Array.from({ length: probabilities.length }, (_, id) => id)
    .sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  const ids = order.slice(0, k);
  const rest = order.slice(k).reduce((sum, id) => sum + probabilities[id], 0);
  return { ids, probabilities: ids.map((id) => probabilities[id]), rest };
}

function rowLoss(
  logP: Float64Array,
  target: HardTarget | Distribution,
): { loss: number; gradient: Float64Array } {
  if ("label" in target) return bucketLoss(logP, { ids: [target.label], probabilities: [1], rest: 0 });
  if ("ids" in target) return bucketLoss(logP, target);
  if (target.probabilities.length !== logP.length) {
    throw new RangeError(
      `soft target: expected ${logP.length} probabilities, found ${target.probabilities.length}`,
    );
  }
  return bucketLoss(logP, { ids: logP.map((_, id) => id), probabilities: target.probabilities, rest: 0 });
}

/**
 * All three kinds are Σ_o q_o (log q_o − log p_o) over outcomes o, a label being the outcome of probability 1.
 * From ∂ log p_o / ∂z_j = p_j/p_o·[j ∈ o] − p_j follows ∂loss/∂z_j = p_j·Σq − q_o·p_j/p_o for j in outcome o.
 */
function bucketLoss(logP: Float64Array, target: BucketTarget): { loss: number; gradient: Float64Array } {
  const { ids, probabilities, rest } = target;
  const listed = new Uint8Array(logP.length);
  let loss = 0;
  let mass = rest;
  for (let i = 0; i < ids.length; i++) {
    if (!(ids[i] >= 0 && ids[i] < logP.length) || listed[ids[i]]) {
      throw new RangeError(`target: expected distinct ids below ${logP.length}, found ${ids[i]}`);
    }
    listed[ids[i]] = 1;
    loss += divergence(probabilities[i], logP[ids[i]]);
    mass += probabilities[i];
  }
  const gradient = logP.map((x) => Math.exp(x) * mass);
  for (let i = 0; i < ids.length; i++) gradient[ids[i]] -= probabilities[i];
  if (rest !== 0) {
    const others = logP.filter((_, j) => !listed[j]);
    if (others.length === 0) {
      throw new RangeError(`target: expected no rest beside all tokens, found ${rest}`);
    }
    const logRest = logSumExp(others);
    loss += divergence(rest, logRest);
    for (let j = 0; j < logP.length; j++) if (!listed[j]) gradient[j] -= rest * Math.exp(logP[j] - logRest);
  }
  return { loss, gradient };
}

/** q · (log q − log p), and 0 for q = 0. */
function divergence(q: number, logP: number): number {
  if (q === 0) return 0;
  if (q < 0) throw new RangeError(`target: expected a probability of at least 0, found ${q}`);
  return q * (Math.log(q) - logP);
}

function logSumExp(x: Float64Array): number {
  let largest = -Infinity;
  for (const value of x) largest = Math.max(largest, value);
  let sum = 0;
  for (const value of x) sum += Math.exp(value - largest);
  return largest + Math.log(sum);
}
