import type { Slot } from "../gpu/pool.ts";
import type { Dim } from "../gpu/recorder.ts";
import { gatherRows, scatterAddRows } from "../ops/embedding.ts";
import { AttentionLayer, type AttentionTrace } from "./attention.ts";
import type { PassSizes } from "./batch.ts";
import type { BlockContext } from "./context.ts";
import { NormLayer } from "./layers.ts";
import { Mlp, type MlpTrace } from "./mlp.ts";

/** A block's values that its backward needs. n counts tokens, or in a rows-only block the target rows. */
interface BlockTrace {
  /** Normed input of all tokens [N, C], and the target rows of it where they are fewer. */
  h: Slot;
  hRows: Slot;
  stats: Slot;
  /** The target rows of the input; the input itself unless rows-only. */
  xRows: Slot;
  attention: AttentionTrace;
  /** Input of the norm before the MLP, unless that is xRows (parallel blocks). */
  middle?: Slot;
  /** Input of the MLP; hRows in parallel blocks with one norm. */
  h2: Slot;
  stats2?: Slot | undefined;
  mlp: MlpTrace;
}

/** Slots of a trace, each once, without those in `except`. */
function traceSlots(trace: object, except: readonly Slot[]): Slot[] {
  const found = new Set<Slot>();
  const visit = (value: object) => {
    if ("realize" in value) found.add(value as Slot);
    else Object.values(value).forEach((inner) => typeof inner === "object" && visit(inner));
  };
  visit(trace);
  return [...found].filter((slot) => !except.includes(slot));
}

const tokens = (sizes: PassSizes) => sizes.tokens;

/**
 * One decoder block, forward and backward. A rows-only block (the last one) computes keys and values for all tokens and
 * everything after them for the target rows only. `keepActivations: false` recomputes its activations in backward.
 */
export class Block {
  readonly #rows: number;
  readonly #count: Dim<PassSizes>;
  readonly #inputNorm: NormLayer;
  readonly #mlpNorm: NormLayer | undefined;
  readonly #attention: AttentionLayer;
  readonly #mlp: Mlp;
  #trace: BlockTrace | undefined;

  constructor(
    readonly context: BlockContext,
    readonly layer: number,
    readonly options: { rowsOnly: boolean; keepActivations: boolean },
  ) {
    const { capacity, parameters: { spec: { tensors } } } = context;
    const { rowsOnly } = options;
    this.#rows = rowsOnly ? capacity.rows : capacity.tokens;
    this.#count = rowsOnly ? (sizes) => sizes.rows : tokens;
    this.#inputNorm = new NormLayer(context, tensors.inputNorm, layer);
    this.#mlpNorm = tensors.mlpNorm && new NormLayer(context, tensors.mlpNorm, layer);
    this.#attention = new AttentionLayer(context, layer, rowsOnly);
    this.#mlp = new Mlp(context, layer, this.#rows, this.#count);
  }

  get #width(): number {
    return this.context.parameters.spec.width;
  }

  get #parallel(): boolean {
    return this.context.parameters.spec.parallel;
  }

  #acquire(elements: number, label: string): Slot {
    return this.context.recorder.pool.acquire(elements * 4, label);
  }

  #release(slots: Iterable<Slot>): void {
    for (const slot of slots) this.context.recorder.pool.release(slot);
  }

  /** x [N, C] → [n, C]. The caller keeps x until backward. */
  forward(x: Slot): Slot {
    const { out, trace } = this.#forward(x);
    if (this.options.keepActivations) this.#trace = trace;
    else this.#release(traceSlots(trace, [x]));
    return out;
  }

  #forward(x: Slot): { out: Slot; trace: BlockTrace } {
    const { recorder, capacity, batch } = this.context;
    const C = this.#width;
    const h = this.#acquire(capacity.tokens * C, "h");
    const stats = this.#acquire(capacity.tokens * 2, "norm statistics");
    this.#inputNorm.forward(tokens, { x, y: h, stats });
    let [hRows, xRows] = [h, x];
    if (this.options.rowsOnly) {
      [hRows, xRows] = [
        this.#acquire(this.#rows * C, "h of rows"),
        this.#acquire(this.#rows * C, "x of rows"),
      ];
      gatherRows(recorder, this.#count, C, { index: batch.rowTokens, x: h, y: hRows });
      gatherRows(recorder, this.#count, C, { index: batch.rowTokens, x, y: xRows });
    }
    const { middle, trace: attention } = this.#attention.forward(h, hRows, xRows);
    let [h2, stats2]: [Slot, Slot | undefined] = [hRows, undefined];
    if (this.#mlpNorm) {
      h2 = this.#acquire(this.#rows * C, "h2");
      stats2 = this.#acquire(this.#rows * 2, "norm statistics");
      this.#mlpNorm.forward(this.#count, { x: this.#parallel ? xRows : middle, y: h2, stats: stats2 });
    }
    const { out, trace: mlp } = this.#mlp.forward(h2, middle);
    const trace = { h, hRows, stats, xRows, attention, h2, stats2, mlp };
    if (!this.#parallel) return { out, trace: { ...trace, middle } };
    this.context.recorder.pool.release(middle);
    return { out, trace };
  }

  /** Turns `dout` [n, C] (overwritten) into the gradient of x [N, C]: in the same slot, or a new one if rows-only. */
  backward(x: Slot, dout: Slot): Slot {
    const { recorder, capacity, batch } = this.context;
    const C = this.#width;
    const { rowsOnly } = this.options;
    const trace = this.#trace ?? this.#recompute(x);
    this.#trace = undefined;

    const dh2 = this.#mlp.backward(trace.mlp, trace.h2, dout);
    const throughNorm = (input: Slot) => {
      this.#mlpNorm!.backward(this.#count, { x: input, stats: trace.stats2!, dy: dh2, dx: dout }, true);
      recorder.pool.release(dh2);
    };
    if (!this.#parallel) throughNorm(trace.middle!);
    const shared = this.#mlpNorm ? undefined : dh2;
    const dh = this.#attention.backward(trace.attention, trace.h, trace.hRows, dout, shared);
    if (this.#parallel && this.#mlpNorm) throughNorm(trace.xRows);

    let dx = dout;
    if (rowsOnly) dx = this.#acquire(capacity.tokens * C, "d x");
    this.#inputNorm.backward(tokens, { x, stats: trace.stats, dy: dh, dx }, !rowsOnly);
    recorder.pool.release(dh);
    if (rowsOnly) {
      scatterAddRows(recorder, this.#count, C, { index: batch.rowTokens, x: dout, y: dx });
      recorder.pool.release(dout);
    }
    this.#release(traceSlots(trace, [x]));
    return dx;
  }

  #recompute(x: Slot): BlockTrace {
    const { out, trace } = this.#forward(x);
    this.context.recorder.pool.release(out);
    return trace;
  }
}
