/**
 * How far a run of generation is: what every attempt so far gave. A stopped run's journal, replayed, gives
 * the same.
 * @module
 */

import type { WrittenFingerprint } from "../file.ts";
import type { PromptEncoder } from "../../prompts/prompts.ts";
import { type Attempt, Attempts } from "./attempts.ts";
import { FingerprintSet, memberOf } from "./fingerprint_set.ts";
import type { Batch } from "./journal.ts";

/** Attempts in a row without a new fingerprint after which the model is taken to have no more. */
const PATIENCE = 2048;

/** The state of a run. */
export class Progress {
  readonly entries: WrittenFingerprint[] = [];
  /** Attempts that gave nothing, by reason. */
  readonly rejected = new Map<string, number>();
  readonly attempts: Attempts;
  readonly #set: FingerprintSet;
  readonly #patience: number;
  #fruitless = 0;

  constructor(
    readonly wanted: number,
    readonly prompts: PromptEncoder,
    options: { limit: number; ownKeys?: readonly string[] | undefined; patience?: number | undefined },
  ) {
    this.attempts = new Attempts(options.ownKeys);
    this.#set = new FingerprintSet(options.limit);
    this.#patience = options.patience ?? PATIENCE;
  }

  /** Whether all are there. */
  get isComplete(): boolean {
    return this.entries.length >= this.wanted;
  }

  /** Why there won't be more, if so. */
  get stopped(): string | undefined {
    if (this.isComplete || this.#fruitless < this.#patience) return undefined;
    return `${this.#patience} attempts in a row gave no new one`;
  }

  /**
   * Takes what the next attempts gave, until the run is at its end.
   * @returns what there is to be remembered of it
   */
  take(results: readonly (WrittenFingerprint | string)[]): Batch {
    const batch: Batch = { outcomes: [], entries: [] };
    for (const result of results) {
      if (this.isComplete || this.stopped !== undefined) break;
      const member = typeof result === "string" ? undefined : memberOf(result, this.prompts);
      const reason = member ? this.#set.refuses(member) : result as string;
      this.attempts.settle(reason);
      batch.outcomes.push(reason ?? "");
      if (reason !== undefined) {
        this.#fruitless++;
        this.rejected.set(reason, (this.rejected.get(reason) ?? 0) + 1);
        continue;
      }
      this.#fruitless = 0;
      this.#set.add(member!);
      this.entries.push(result as WrittenFingerprint);
      batch.entries.push(result as WrittenFingerprint);
    }
    return batch;
  }

  /** Goes through a batch of a stopped run again. */
  replay({ outcomes, entries }: Batch): void {
    const next = entries.values();
    this.attempts.take(outcomes.length);
    this.take(outcomes.map((outcome) => outcome === "" ? next.next().value! : outcome));
  }
}

/**
 * Makes what is missing, a batch at a time.
 * @param make fingerprints of attempts in their order, or why there is none
 * @param keep remembers a batch for good before the next begins
 * @returns why there won't be more, if so
 */
export async function fill(
  progress: Progress,
  batchSize: number,
  make: (attempts: Attempt[]) => Promise<(WrittenFingerprint | string)[]>,
  keep: (batch: Batch) => Promise<void>,
): Promise<string | undefined> {
  while (!progress.isComplete && progress.stopped === undefined) {
    const missing = progress.wanted - progress.entries.length;
    // Some more than are missing, since some give nothing.
    const attempts = progress.attempts.take(Math.min(batchSize, Math.ceil(1.25 * missing) + 4));
    if (attempts.length === 0) return "every key has been used";
    await keep(progress.take(await make(attempts)));
  }
  return progress.stopped;
}
