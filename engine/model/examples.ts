import type { Sequence, SequenceRow } from "./batch.ts";

/** Label of a token that is not supervised. */
const IGNORE = -100;

/** Token ids with labels as Hugging Face has them: not shifted, −100 where nothing is supervised. */
export interface Example {
  ids: readonly number[];
  labels: readonly number[];
}

/** Supervised tokens of examples: labels other than −100 from the second token on, since the first is never predicted. */
export function countSupervised(examples: readonly Example[]): number {
  return examples.reduce(
    (sum, { labels }) => sum + labels.slice(1).filter((label) => label !== IGNORE).length,
    0,
  );
}

/**
 * Sequences whose rows each weigh `weight`. Position t − 1 predicts labels[t]; tokens after the last row that matters
 * are left out, since no earlier token sees them, and so are examples without any.
 * @throws RangeError when ids and labels differ in length.
 */
export function exampleSequences(examples: readonly Example[], weight: number): Sequence[] {
  const out: Sequence[] = [];
  examples.forEach(({ ids, labels }, index) => {
    if (ids.length !== labels.length) {
      throw new RangeError(`example ${index} has ${ids.length} ids and ${labels.length} labels`);
    }
    const rows: SequenceRow[] = [];
    for (let t = 1; t < ids.length; t++) {
      if (labels[t] === IGNORE) continue;
      rows.push({ position: t - 1, weight, target: { kind: "label", token: labels[t] } });
    }
    if (rows.length) out.push({ ids: ids.slice(0, rows.at(-1)!.position + 1), rows });
  });
  return out;
}
