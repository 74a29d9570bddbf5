import { type Sequence, weightedLosses } from "../../engine/model/batch.ts";
import type { Losses } from "./objective.ts";

/** Mean loss of rows, each counted once whatever it weighs: made of w·l rounded to f32, as it always was logged. */
export class RowMean<Shown extends Sequence = Sequence> {
  #sum = 0;
  #rows = 0;

  /** `counts` chooses among the sequences. */
  constructor(readonly name: string, readonly counts: (shown: Shown) => boolean = () => true) {}

  /** See `LossSums`. */
  add(shown: readonly Shown[], losses: Float32Array): void {
    const weighted = weightedLosses(shown, losses);
    let row = 0;
    for (const sequence of shown) {
      const isCounted = this.counts(sequence);
      for (const { weight } of sequence.rows) {
        const loss = weighted[row++]! / weight;
        if (!isCounted) continue;
        this.#sum += loss;
        this.#rows++;
      }
    }
  }

  /** The mean by its name; nothing when no row was counted. */
  log(): Losses {
    return this.#rows ? { [this.name]: this.#sum / this.#rows } : {};
  }
}
