import type { Slot } from "../gpu/pool.ts";
import type { Dim } from "../gpu/recorder.ts";
import { blockName, type LinearNames, type NormNames } from "../models/spec.ts";
import { biasBackward } from "../ops/bias.ts";
import { gemm } from "../ops/matmul.ts";
import { type Norm, normBackward, normForward } from "../ops/norm.ts";
import { type HeadMatrix, headMatrix, type Matrix, matrix } from "../tensor/matrix.ts";
import { shardParts } from "../tensor/sharded.ts";
import type { PassSizes } from "./batch.ts";
import type { LayerContext } from "./context.ts";
import type { Parameter } from "./parameters.ts";

const accumulates = (sizes: PassSizes) => sizes.accumulate;

/** The gradient of a vector, which is never split; none of a frozen one. */
function vectorGradient({ gradient }: LayerContext, parameter: Parameter | undefined): Slot | undefined {
  return parameter?.trainable ? gradient(parameter)[0]!.gradient : undefined;
}

/** A linear layer y = x·Wᵀ + b, or the outputs `first` … `first + outputs − 1` of one. */
export class Linear {
  readonly weight: Parameter;
  readonly #bias: Parameter | undefined;
  readonly first: number;
  readonly outputs: number;

  constructor(
    readonly context: LayerContext,
    { weight, bias }: LinearNames,
    layer = 0,
    window?: { first: number; outputs: number },
  ) {
    const { parameters } = context;
    this.weight = parameters.get(blockName(weight, layer));
    this.#bias = bias ? parameters.get(blockName(bias, layer)) : undefined;
    this.first = window?.first ?? 0;
    this.outputs = window?.outputs ?? this.weight.shape[0]!;
  }

  get inputs(): number {
    return this.weight.columns;
  }

  get #capacityRows(): number {
    return Math.max(this.context.capacity.tokens, this.context.capacity.rows);
  }

  /** The stored rows of the window, shard by shard. */
  get #parts() {
    return shardParts(this.weight.shards, this.first, this.outputs).map((part) => {
      const { storage, weight } = this.weight.shards[part.shard]!;
      const stored = matrix(weight, this.inputs, part.row * this.inputs);
      return { ...part, stored: { ...stored, bf16: storage !== "f32" } };
    });
  }

  /** y [count, outputs] from x [count, inputs]; `start` shares y's layout and is added. */
  forward(x: Matrix, y: Matrix, count: Dim<PassSizes>, start?: Slot): void {
    for (const { stored, windowRow, rows } of this.#parts) {
      gemm(this.context.recorder, {
        layout: "NT",
        a: x,
        b: stored,
        c: { ...y, offset: y.offset + windowRow },
        m: count,
        n: rows,
        k: this.inputs,
        capacityM: this.#capacityRows,
        start,
        bias: this.#bias && { slot: this.#bias.shards[0]!.weight, offset: this.first + windowRow },
      });
    }
  }

  /** dx = or += dy·W, and the gradients of W and b where they are trained. */
  backward(operands: {
    dy: Matrix;
    x: Matrix;
    dx: Matrix;
    addToInput: boolean;
    count: Dim<PassSizes>;
  }): void {
    const { recorder, gradient } = this.context;
    const { dy, x, dx, addToInput, count } = operands;
    const { inputs, outputs } = this;
    const gradients = this.weight.trainable ? gradient(this.weight) : undefined;
    for (const { shard, row, windowRow, rows, stored } of this.#parts) {
      const dyPart = { ...dy, offset: dy.offset + windowRow };
      if (gradients) {
        gemm(recorder, {
          layout: "TN",
          a: dyPart,
          b: x,
          c: matrix(gradients[shard]!.gradient, inputs, row * inputs),
          m: rows,
          n: inputs,
          k: count,
          capacityM: rows,
          start: accumulates,
        });
      }
      gemm(recorder, {
        layout: "NN",
        a: dyPart,
        b: stored,
        c: dx,
        m: count,
        n: inputs,
        k: rows,
        capacityM: this.#capacityRows,
        start: () => addToInput || windowRow > 0,
      });
    }
    const dbias = vectorGradient(this.context, this.#bias);
    if (dbias) {
      biasBackward(recorder, {
        rows: count,
        columns: outputs,
        dy,
        accumulate: accumulates,
        capacityRows: this.#capacityRows,
        dbias,
        dbiasOffset: this.first,
      });
    }
  }
}

/** A norm over rows of the model's width, or over each of `heads` heads of a row. */
export class NormLayer {
  readonly #weight: Parameter;
  readonly #bias: Parameter | undefined;

  constructor(readonly context: LayerContext, { weight, bias }: NormNames, layer = 0, readonly heads = 1) {
    const { parameters } = context;
    this.#weight = parameters.get(blockName(weight, layer));
    this.#bias = bias ? parameters.get(blockName(bias, layer)) : undefined;
  }

  #shape(rows: Dim<PassSizes>): Norm<PassSizes> {
    const { norm } = this.context.parameters.spec;
    return { ...norm, rows, heads: this.heads, columns: this.#weight.count };
  }

  /** y = residual + norm(x); statistics of each vector go to `stats`. */
  forward(
    rows: Dim<PassSizes>,
    { x, y, stats, residual }: { x: Slot | HeadMatrix; y: Slot | HeadMatrix; stats: Slot; residual?: Slot },
  ): void {
    normForward(this.context.recorder, this.#shape(rows), {
      x: this.#rows(x),
      y: this.#rows(y),
      stats,
      residual,
      weight: this.#weight.shards[0]!.weight,
      bias: this.#bias?.shards[0]?.weight,
    });
  }

  /** dx = or +=; the gradients of weight and bias, where they are trained, accumulate over micro-batches. */
  backward(
    rows: Dim<PassSizes>,
    slots: { x: Slot | HeadMatrix; stats: Slot; dy: Slot | HeadMatrix; dx: Slot | HeadMatrix },
    addToInput: boolean,
  ): void {
    const { recorder, capacity } = this.context;
    const { x, stats, dy, dx } = slots;
    normBackward(recorder, this.#shape(rows), {
      x: this.#rows(x),
      dy: this.#rows(dy),
      dx: this.#rows(dx),
      stats,
      weight: this.#weight.shards[0]!.weight,
      dweight: vectorGradient(this.context, this.#weight),
      dbias: vectorGradient(this.context, this.#bias),
    }, { addToInput, accumulate: accumulates, capacityRows: Math.max(capacity.tokens, capacity.rows) });
  }

  #rows(place: Slot | HeadMatrix): HeadMatrix {
    return "slot" in place ? place : headMatrix(place, this.#weight.count);
  }
}
