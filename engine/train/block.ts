import type { Slot } from "../gpu/pool.ts";
import type { Recorder } from "../gpu/recorder.ts";
import { swigluBackward, swigluForward } from "../ops/activation.ts";
import { type Attention, attentionBackward, attentionForward, NO_WINDOW } from "../ops/attention.ts";
import { gatherRows, scatterAddRows } from "../ops/embedding.ts";
import { gemm } from "../ops/matmul.ts";
import { rmsNormBackward, rmsNormForward } from "../ops/norm.ts";
import { rope } from "../ops/rope.ts";
import { type Matrix, matrix } from "../tensor/matrix.ts";
import type { TensorNames } from "../models/spec.ts";
import type { PassCapacity, PassSizes } from "./batch.ts";
import type { Parameter, Parameters } from "./params.ts";

/** What the recorded passes read of a batch; filled by the pass before each run. */
export interface BatchSlots {
  ids: Slot;
  positions: Slot;
  /** 0, 1, 2 …: the token of each query row where all tokens are queries. */
  everyToken: Slot;
  queryTiles: Slot;
  keyTiles: Slot;
  rowTokens: Slot;
  rowPositions: Slot;
  rowQueryTiles: Slot;
  rowKeyTiles: Slot;
  targets: Slot;
  buckets: Slot;
  order: Slot;
  ropeTable: Slot;
}

/** Everything a block records against. */
export interface BlockContext {
  recorder: Recorder<PassSizes>;
  parameters: Parameters;
  capacity: PassCapacity;
  batch: BatchSlots;
  /** Gradient of a parameter; only backward asks for it. */
  gradient: (parameter: Parameter) => Slot;
}

/** A block's values that its backward needs. n counts tokens, or in a rows-only block the wanted rows. */
interface BlockTrace {
  /** Normed input of all tokens [N, C], and the wanted rows of it where they are fewer. */
  h: Slot;
  hRows: Slot;
  rstd1: Slot;
  /** Rotated q [n, H·D] and k, v [N, K·D]; one buffer unless rows-only. */
  q: Matrix;
  k: Matrix;
  v: Matrix;
  attended: Slot;
  lse: Slot;
  middle: Slot;
  h2: Slot;
  rstd2: Slot;
  gateUp: Slot;
  activated: Slot;
}

/** Slots of a trace, each once. */
function traceSlots(trace: BlockTrace): Slot[] {
  const slots = Object.values(trace).map((value) => "slot" in value ? value.slot : value);
  return [...new Set<Slot>(slots)];
}

/**
 * One decoder block, forward and backward. A rows-only block (the last one) computes keys and values for all tokens and
 * everything after them for the wanted rows only. `save: false` recomputes the inside in backward.
 */
export class Block {
  readonly #rows: number;
  #trace: BlockTrace | undefined;

  constructor(
    readonly context: BlockContext,
    readonly layer: number,
    readonly options: { rowsOnly: boolean; save: boolean },
  ) {
    const { capacity } = context;
    this.#rows = options.rowsOnly ? capacity.rows : capacity.tokens;
  }

  get #count(): (sizes: PassSizes) => number {
    return this.options.rowsOnly ? (sizes) => sizes.rows : (sizes) => sizes.tokens;
  }

  #weight(role: keyof TensorNames): Slot {
    return this.context.parameters.inBlock(role, this.layer).weight;
  }

  #acquire(elements: number, label: string): Slot {
    return this.context.recorder.pool.acquire(elements * 4, label);
  }

  /** y = x·Wᵀ with W of `role`. */
  #project(
    role: keyof TensorNames,
    x: Matrix,
    y: Matrix,
    count: (s: PassSizes) => number,
    start?: Slot,
  ): void {
    const { recorder, parameters, capacity } = this.context;
    const [outputs, inputs] = parameters.inBlock(role, this.layer).shape;
    gemm(recorder, {
      layout: "NT",
      ...{ a: x, b: matrix(this.#weight(role), inputs), c: y, m: count, n: outputs, k: inputs },
      capacityM: Math.max(capacity.tokens, capacity.rows),
      start,
    });
  }

  /** dW = or += dyᵀ·x, and dx = or += dy·W. */
  #projectBackward(
    role: keyof TensorNames,
    operands: { dy: Matrix; x: Matrix; dx: Matrix; addToInput: boolean; count: (sizes: PassSizes) => number },
  ): void {
    const { recorder, parameters, capacity, gradient } = this.context;
    const { dy, x, dx, addToInput, count } = operands;
    const parameter = parameters.inBlock(role, this.layer);
    const [outputs, inputs] = parameter.shape;
    gemm(recorder, {
      layout: "TN",
      ...{ a: dy, b: x, c: matrix(gradient(parameter), inputs), m: outputs, n: inputs, k: count },
      capacityM: outputs,
      start: (sizes) => sizes.accumulate,
    });
    gemm(recorder, {
      layout: "NN",
      ...{ a: dy, b: matrix(parameter.weight, inputs), c: dx, m: count, n: inputs, k: outputs },
      capacityM: Math.max(capacity.tokens, capacity.rows),
      start: () => addToInput,
    });
  }

  #attention(trace: BlockTrace): Attention<PassSizes> {
    const { spec } = this.context.parameters;
    const { batch } = this.context;
    const { rowsOnly } = this.options;
    return {
      ...{ heads: spec.heads, kvHeads: spec.kvHeads, headDim: spec.headDim, scale: spec.attentionScale },
      window: spec.windows[this.layer] ?? NO_WINDOW,
      ...{ q: trace.q, k: trace.k, v: trace.v },
      queryTokens: rowsOnly ? batch.rowTokens : batch.everyToken,
      rows: this.#count,
      capacityRows: this.#rows,
      tiles: rowsOnly ? batch.rowQueryTiles : batch.queryTiles,
      tileCount: (sizes) => rowsOnly ? sizes.rowQueryTiles : sizes.queryTiles,
    };
  }

  /** Rotates q and k (or their gradients, backward). */
  #rope(q: Matrix, k: Matrix, backward: boolean): void {
    const { recorder, batch, parameters: { spec } } = this.context;
    const shape = { headDim: spec.headDim, rotary: spec.ropeFrequencies.length * 2, table: batch.ropeTable };
    const tokens = (sizes: PassSizes) => sizes.tokens;
    if (!this.options.rowsOnly) {
      // q and k lie side by side in one buffer, so their heads rotate in one dispatch.
      const heads = spec.heads + spec.kvHeads;
      rope(recorder, { ...shape, heads, x: q, rows: tokens, positions: batch.positions }, backward);
      return;
    }
    const rows = this.#count;
    rope(recorder, { ...shape, heads: spec.heads, x: q, rows, positions: batch.rowPositions }, backward);
    rope(
      recorder,
      { ...shape, heads: spec.kvHeads, x: k, rows: tokens, positions: batch.positions },
      backward,
    );
  }

  /** Places for q, k and v (or their gradients): one buffer, or q apart where only rows ask. */
  #qkv(label: string): { q: Matrix; k: Matrix; v: Matrix } {
    const { spec } = this.context.parameters;
    const [qWidth, kvWidth] = [spec.heads * spec.headDim, spec.kvHeads * spec.headDim];
    if (this.options.rowsOnly) {
      const q = matrix(this.#acquire(this.#rows * qWidth, `${label} q`), qWidth);
      const kv = this.#acquire(this.context.capacity.tokens * 2 * kvWidth, `${label} kv`);
      return { q, k: matrix(kv, 2 * kvWidth), v: matrix(kv, 2 * kvWidth, kvWidth) };
    }
    const ld = qWidth + 2 * kvWidth;
    const qkv = this.#acquire(this.#rows * ld, `${label} qkv`);
    return { q: matrix(qkv, ld), k: matrix(qkv, ld, qWidth), v: matrix(qkv, ld, qWidth + kvWidth) };
  }

  #norm(role: keyof TensorNames, x: Slot, y: Slot, rstd: Slot, rows: (sizes: PassSizes) => number): void {
    const { recorder, parameters: { spec } } = this.context;
    const shape = { rows, columns: spec.width, epsilon: spec.normEpsilon };
    rmsNormForward(recorder, shape, { x, weight: this.#weight(role), y, rstd });
  }

  /** x [N, C] → [n, C]. The caller keeps x until backward. */
  forward(x: Slot): Slot {
    const { slot: out, trace } = this.#forward(x);
    if (this.options.save) this.#trace = trace;
    else this.#release(traceSlots(trace));
    return out;
  }

  #release(slots: Slot[]): void {
    for (const slot of slots) this.context.recorder.pool.release(slot);
  }

  #forward(x: Slot): { slot: Slot; trace: BlockTrace } {
    const { recorder, parameters: { spec }, capacity, batch } = this.context;
    const { width: C, heads, headDim, feedForward: F } = spec;
    const { rowsOnly } = this.options;
    const count = this.#count;
    const tokens = (sizes: PassSizes) => sizes.tokens;
    const [h, rstd1] = [this.#acquire(capacity.tokens * C, "h"), this.#acquire(capacity.tokens, "rstd")];
    this.#norm("inputNorm", x, h, rstd1, tokens);
    let [hRows, xRows] = [h, x];
    if (rowsOnly) {
      [hRows, xRows] = [this.#acquire(this.#rows * C, "h rows"), this.#acquire(this.#rows * C, "x rows")];
      gatherRows(recorder, count, C, { index: batch.rowTokens, x: h, y: hRows });
      gatherRows(recorder, count, C, { index: batch.rowTokens, x, y: xRows });
    }
    const { q, k, v } = this.#qkv("rotated");
    this.#project("q", matrix(hRows, C), q, count);
    this.#project("k", matrix(h, C), k, tokens);
    this.#project("v", matrix(h, C), v, tokens);
    this.#rope(q, k, false);
    const attended = this.#acquire(this.#rows * heads * headDim, "attended");
    const lse = this.#acquire(this.#rows * heads, "lse");
    const [h2, rstd2] = [this.#acquire(this.#rows * C, "h2"), this.#acquire(this.#rows, "rstd")];
    const middle = this.#acquire(this.#rows * C, "middle");
    const gateUp = this.#acquire(this.#rows * 2 * F, "gate up");
    const activated = this.#acquire(this.#rows * F, "activated");
    const trace = { h, hRows, rstd1, q, k, v, attended, lse, middle, h2, rstd2, gateUp, activated };
    attentionForward(recorder, this.#attention(trace), { out: attended, lse });
    this.#project("o", matrix(attended, heads * headDim), matrix(middle, C), count, xRows);
    if (rowsOnly) recorder.pool.release(xRows);
    this.#norm("postNorm", middle, h2, rstd2, count);
    this.#project("gate", matrix(h2, C), matrix(gateUp, 2 * F), count);
    this.#project("up", matrix(h2, C), matrix(gateUp, 2 * F, F), count);
    swigluForward(recorder, count, F, { gateUp, y: activated });
    const out = this.#acquire(this.#rows * C, "block output");
    this.#project("down", matrix(activated, F), matrix(out, C), count, middle);
    return { slot: out, trace };
  }

  /** Turns `dout` [n, C] (overwritten) into the gradient of x [N, C]: in the same slot, or a new one if rows-only. */
  backward(x: Slot, dout: Slot): Slot {
    const { recorder, parameters: { spec }, capacity, batch } = this.context;
    const { width: C, heads, headDim, feedForward: F } = spec;
    const { rowsOnly } = this.options;
    const count = this.#count;
    const tokens = (sizes: PassSizes) => sizes.tokens;
    const trace = this.#trace ?? this.#recompute(x);
    this.#trace = undefined;

    const dactivated = this.#acquire(this.#rows * F, "d activated");
    this.#projectBackward("down", {
      ...{ dy: matrix(dout, C), x: matrix(trace.activated, F), dx: matrix(dactivated, F) },
      ...{ addToInput: false, count },
    });
    swigluBackward(recorder, count, F, { dy: dactivated, gateUp: trace.gateUp });
    recorder.pool.release(dactivated);
    const dh2 = this.#acquire(this.#rows * C, "d h2");
    const mlp = { x: matrix(trace.h2, C), dx: matrix(dh2, C), count };
    this.#projectBackward("gate", { ...mlp, dy: matrix(trace.gateUp, 2 * F), addToInput: false });
    this.#projectBackward("up", { ...mlp, dy: matrix(trace.gateUp, 2 * F, F), addToInput: true });
    this.#normBackward("postNorm", { x: trace.middle, rstd: trace.rstd2, dy: dh2, dx: dout }, count, true);
    recorder.pool.release(dh2);

    const dattended = this.#acquire(this.#rows * heads * headDim, "d attended");
    this.#projectBackward("o", {
      dy: matrix(dout, C),
      ...{ x: matrix(trace.attended, heads * headDim), dx: matrix(dattended, heads * headDim) },
      ...{ addToInput: false, count },
    });
    const gradients = this.#qkv("d");
    const delta = this.#acquire(this.#rows * heads, "delta");
    attentionBackward(
      recorder,
      this.#attention(trace),
      {
        ...{ out: trace.attended, dout: dattended, lse: trace.lse, delta },
        keyTiles: rowsOnly ? batch.rowKeyTiles : batch.keyTiles,
      },
      { dq: gradients.q, dk: gradients.k, dv: gradients.v },
      (sizes) => rowsOnly ? sizes.rowKeyTiles : sizes.keyTiles,
    );
    this.#release([dattended, delta]);
    this.#rope(gradients.q, gradients.k, true);

    const dh = this.#acquire(capacity.tokens * C, "d h");
    const dhRows = rowsOnly ? this.#acquire(this.#rows * C, "d h rows") : dh;
    const all = { x: matrix(trace.h, C), dx: matrix(dh, C), count: tokens };
    this.#projectBackward("k", { ...all, dy: gradients.k, addToInput: false });
    this.#projectBackward("v", { ...all, dy: gradients.v, addToInput: true });
    this.#projectBackward("q", {
      ...{ x: matrix(trace.hRows, C), dx: matrix(dhRows, C), dy: gradients.q },
      ...{ addToInput: !rowsOnly, count },
    });
    this.#release([...new Set([gradients.q.slot, gradients.k.slot])]);
    let dx = dout;
    if (rowsOnly) {
      scatterAddRows(recorder, count, C, { index: batch.rowTokens, x: dhRows, y: dh });
      recorder.pool.release(dhRows);
      dx = this.#acquire(capacity.tokens * C, "d x");
    }
    this.#normBackward("inputNorm", { x, rstd: trace.rstd1, dy: dh, dx }, tokens, !rowsOnly);
    recorder.pool.release(dh);
    if (rowsOnly) {
      scatterAddRows(recorder, count, C, { index: batch.rowTokens, x: dout, y: dx });
      recorder.pool.release(dout);
    }
    this.#release(traceSlots(trace));
    return dx;
  }

  #recompute(x: Slot): BlockTrace {
    const { slot, trace } = this.#forward(x);
    this.context.recorder.pool.release(slot);
    return trace;
  }

  #normBackward(
    role: keyof TensorNames,
    slots: { x: Slot; rstd: Slot; dy: Slot; dx: Slot },
    rows: (sizes: PassSizes) => number,
    addToInput: boolean,
  ): void {
    const { recorder, parameters, capacity, gradient } = this.context;
    const parameter = parameters.inBlock(role, this.layer);
    rmsNormBackward(
      recorder,
      { rows, columns: parameters.spec.width },
      { ...slots, weight: parameter.weight, dweight: gradient(parameter) },
      {
        addToInput,
        accumulate: (sizes) => sizes.accumulate,
        capacityRows: Math.max(capacity.tokens, capacity.rows),
      },
    );
  }
}
