import type { Sequence, SequenceRow } from "./batch.ts";

/** Label of a token that is not supervised. */
export const IGNORE: number = -100;

/** Token ids with labels as Hugging Face has them: not shifted, −100 where nothing is supervised. */
export interface Example {
  /** Token ids of the whole text, with BOS where the model wants one. */
  ids: readonly number[];
  /** As many labels: the token itself where it is to be learned, else −100. The first is never predicted. */
  labels: readonly number[];
}

/** @throws TypeError for what is no list; RangeError when ids and labels differ in length. */
function checkExample({ ids, labels }: Example, index: number): void {
  for (const [name, value] of Object.entries({ ids, labels })) {
    if (value === undefined) {
      throw new TypeError(`example ${index} has no ${name}: expected a list of token ids`);
    }
  }
  if (ids.length !== labels.length) {
    throw new RangeError(
      `example ${index} has ${ids.length} ids and ${labels.length} labels: expected a label for each id, ${IGNORE} where ` +
        "nothing is supervised",
    );
  }
}

/**
 * Supervised tokens of examples: labels other than −100 from the second token on, since the first is never predicted.
 * @throws TypeError or RangeError when an example isn't ids with as many labels.
 */
export function countSupervised(examples: readonly Example[]): number {
  examples.forEach(checkExample);
  return examples.reduce(
    (sum, { labels }) => sum + labels.slice(1).filter((label) => label !== IGNORE).length,
    0,
  );
}

/**
 * Sequences whose rows each weigh `weight`. Position t − 1 predicts labels[t]; tokens after the last row that matters
 * are left out, since no earlier token sees them, and so are examples without any.
 * @throws TypeError or RangeError when an example isn't ids with as many labels.
 */
export function exampleSequences(examples: readonly Example[], weight: number): Sequence[] {
  const out: Sequence[] = [];
  examples.forEach((example, index) => {
    checkExample(example, index);
    const { ids, labels } = example;
    const rows: SequenceRow[] = [];
    for (let t = 1; t < ids.length; t++) {
      if (labels[t] === IGNORE) continue;
      rows.push({ position: t - 1, weight, target: { kind: "label", token: labels[t]! } });
    }
    if (rows.length) out.push({ ids: ids.slice(0, rows.at(-1)!.position + 1), rows });
  });
  return out;
}
