import type { Slot } from "../gpu/pool.ts";
import type { Dim } from "../gpu/recorder.ts";
import type { ModelSpec } from "../models/spec.ts";
import { activationBackward, activationForward } from "../ops/activation.ts";
import { matrix } from "../tensor/matrix.ts";
import type { PassSizes } from "./batch.ts";
import type { LayerContext } from "./context.ts";
import { Linear, NormLayer } from "./layers.ts";

/** What the MLP's backward needs. */
export interface MlpTrace {
  /** Gate and up side by side, or up alone: [n, inner]. */
  inner: Slot;
  activated: Slot;
  /** Output before its own norm, and that norm's statistics. */
  output?: { value: Slot; stats: Slot };
}

/** The feed-forward part of one block, on `rows` rows at most. */
export class Mlp {
  readonly #spec: ModelSpec;
  /** Layers that fill the inner buffer, and the column where each begins. */
  readonly #in: { linear: Linear; column: number }[];
  readonly #down: Linear;
  readonly #outputNorm: NormLayer | undefined;

  constructor(
    readonly context: LayerContext,
    layer: number,
    readonly rows: number,
    readonly count: Dim<PassSizes>,
  ) {
    const { spec } = context.parameters;
    this.#spec = spec;
    const { mlpIn, down, mlpOutputNorm } = spec.tensors;
    const linear = (names: ConstructorParameters<typeof Linear>[1]) => new Linear(context, names, layer);
    this.#in = mlpIn.kind === "split"
      ? [{ linear: linear(mlpIn.gate), column: 0 }, { linear: linear(mlpIn.up), column: spec.feedForward }]
      : [{ linear: linear(mlpIn.kind === "stacked" ? mlpIn.all : mlpIn.up), column: 0 }];
    this.#down = linear(down);
    this.#outputNorm = mlpOutputNorm && new NormLayer(context, mlpOutputNorm, layer);
  }

  /** Columns of the inner buffer. */
  get #inner(): number {
    return this.#spec.gated ? 2 * this.#spec.feedForward : this.#spec.feedForward;
  }

  get #activation() {
    return { kind: this.#spec.activation, gated: this.#spec.gated };
  }

  #acquire(columns: number, label: string): Slot {
    return this.context.recorder.pool.acquire(this.rows * columns * 4, label);
  }

  /** residual + mlp(h), h [n, C]. Returns a new [n, C] slot. */
  forward(h: Slot, residual: Slot): { out: Slot; trace: MlpTrace } {
    const { recorder } = this.context;
    const { width: C, feedForward: F } = this.#spec;
    const inner = this.#acquire(this.#inner, "gate and up");
    const activated = this.#acquire(F, "activated");
    for (const { linear, column } of this.#in) {
      linear.forward(matrix(h, C), matrix(inner, this.#inner, column), this.count);
    }
    activationForward(recorder, this.count, F, this.#activation, { x: inner, y: activated });
    const out = this.#acquire(C, "block output");
    if (!this.#outputNorm) {
      this.#down.forward(matrix(activated, F), matrix(out, C), this.count, residual);
      return { out, trace: { inner, activated } };
    }
    const output = { value: this.#acquire(C, "mlp output"), stats: this.#acquire(2, "norm statistics") };
    this.#down.forward(matrix(activated, F), matrix(output.value, C), this.count);
    this.#outputNorm.forward(this.count, { x: output.value, y: out, stats: output.stats, residual });
    return { out, trace: { inner, activated, output } };
  }

  /** Gradient of h (a new slot) for that of the result, dout [n, C], which stays. Overwrites the trace's `inner`. */
  backward({ inner, activated, output }: MlpTrace, h: Slot, dout: Slot): Slot {
    const { recorder } = this.context;
    const { width: C, feedForward: F } = this.#spec;
    let doutput = dout;
    if (this.#outputNorm && output) {
      doutput = this.#acquire(C, "d mlp output");
      this.#outputNorm.backward(
        this.count,
        { x: output.value, stats: output.stats, dy: dout, dx: doutput },
        false,
      );
    }
    const dactivated = this.#acquire(F, "d activated");
    this.#down.backward({
      dy: matrix(doutput, C),
      x: matrix(activated, F),
      dx: matrix(dactivated, F),
      addToInput: false,
      count: this.count,
    });
    if (doutput !== dout) recorder.pool.release(doutput);
    activationBackward(recorder, this.count, F, this.#activation, { dy: dactivated, x: inner });
    recorder.pool.release(dactivated);
    const dh = this.#acquire(C, "d h2");
    this.#in.forEach(({ linear, column }, i) => {
      linear.backward({
        dy: matrix(inner, this.#inner, column),
        x: matrix(h, C),
        dx: matrix(dh, C),
        addToInput: i > 0,
        count: this.count,
      });
    });
    return dh;
  }
}
