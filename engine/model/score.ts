import { NAN_TOKEN } from "../ops/argmax.ts";
import { countSupervised, type Example, exampleSequences } from "./examples.ts";
import type { Passes } from "./passes.ts";

/** What the model said at one supervised position. */
export interface ScoredRow {
  /** Log-probability of the label, in nats. */
  logProbability: number;
  /** The greedy token; −1 if a logit is NaN. */
  greedy: number;
}

/** See {@link Head.stats}. */
type RowStats = [top: number, listed: number, others: number, label: number];

/** Told of work that takes time: how much of it is done. */
export type WorkProgress = (done: number, total: number) => void;

/** What the model says at each supervised position of examples, in order, one list an example. */
export async function score(
  passes: Passes,
  examples: readonly Example[],
  onProgress?: WorkProgress,
): Promise<ScoredRow[][]> {
  if (!countSupervised(examples)) return examples.map(() => []);
  const sequences = examples.flatMap((example, index) => {
    const [sequence] = exampleSequences([example], 1);
    return sequence ? [{ ...sequence, index }] : [];
  });
  const out: ScoredRow[][] = examples.map(() => []);
  const { pass, batches } = passes.schedule("score", sequences);
  let done = 0;
  for (const batch of batches) {
    const packed = pass.pack(batch);
    const [stats, best] = await pass.run(packed, [
      { slot: pass.plan.stats, bytes: packed.sizes.rows * 16 },
      { slot: pass.plan.best, bytes: packed.sizes.rows * 8 },
    ]);
    const [stat, token] = [new Float32Array(stats.buffer), new Uint32Array(best.buffer)];
    let row = 0;
    for (const { index, rows } of batch) {
      for (let i = 0; i < rows.length; i++, row++) {
        const [top, listed, others, label] = stat.subarray(row * 4, row * 4 + 4) as unknown as RowStats;
        out[index]!.push({
          logProbability: label - top - Math.log(listed + others),
          greedy: token[row * 2 + 1] === NAN_TOKEN ? -1 : token[row * 2 + 1]!,
        });
      }
    }
    done += batch.length;
    onProgress?.(done, sequences.length);
  }
  return out;
}
