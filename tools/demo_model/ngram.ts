/** Count models of the training text: what a transformer has to beat. */
interface NgramCrossEntropy {
  /** Nats a token. */
  readonly unigram: number;
  readonly bigram: number;
  readonly trigram: number;
}

/**
 * Cross-entropy of held-out sequences under count models of the training sequences, in nats a token.
 *
 * Unigram counts have one added for every token of the vocabulary. The bigram and trigram interpolate with the
 * next lower order by Witten-Bell: weight c / (c + t) for a context seen c times with t different followers.
 * Every token after a sequence's first is predicted.
 */
export function ngramCrossEntropy(
  training: Iterable<readonly number[]>,
  heldOut: Iterable<readonly number[]>,
  vocabSize: number,
): NgramCrossEntropy {
  const unigrams = new Float64Array(vocabSize).fill(1);
  const bigrams = new Map<number, Map<number, number>>();
  const trigrams = new Map<number, Map<number, number>>();
  const contextOf = (ids: readonly number[], i: number) =>
    (i > 1 ? ids[i - 2] + 1 : 0) * vocabSize + ids[i - 1];
  for (const ids of training) {
    for (let i = 1; i < ids.length; i++) {
      unigrams[ids[i]]++;
      add(bigrams, ids[i - 1], ids[i]);
      add(trigrams, contextOf(ids, i), ids[i]);
    }
  }
  const total = unigrams.reduce((sum, count) => sum + count, 0);
  const loss = [0, 0, 0];
  let predicted = 0;
  for (const ids of heldOut) {
    for (let i = 1; i < ids.length; i++) {
      const p1 = unigrams[ids[i]] / total;
      const p2 = interpolate(bigrams.get(ids[i - 1]), ids[i], p1);
      const p3 = interpolate(trigrams.get(contextOf(ids, i)), ids[i], p2);
      [p1, p2, p3].forEach((p, order) => loss[order] -= Math.log(p));
      predicted++;
    }
  }
  if (predicted === 0) {
    throw new RangeError("ngramCrossEntropy: expected held-out tokens to predict, found none");
  }
  const [unigram, bigram, trigram] = loss.map((sum) => sum / predicted);
  return { unigram, bigram, trigram };
}

function add(table: Map<number, Map<number, number>>, context: number, next: number): void {
  let followers = table.get(context);
  if (followers === undefined) table.set(context, followers = new Map());
  followers.set(next, (followers.get(next) ?? 0) + 1);
}

function interpolate(followers: Map<number, number> | undefined, next: number, lower: number): number {
  if (followers === undefined) return lower;
  const count = followers.values().reduce((sum, n) => sum + n, 0);
  return ((followers.get(next) ?? 0) + followers.size * lower) / (count + followers.size);
}
