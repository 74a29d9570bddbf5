import type { Slot } from "../gpu/pool.ts";
import type { Dim } from "../gpu/recorder.ts";
import type { LinearNames, ModelSpec } from "../models/spec.ts";
import { type Attention, attentionBackward, attentionForward, NO_WINDOW } from "../ops/attention.ts";
import { fill } from "../ops/elementwise.ts";
import { gatherRows, scatterAddRows } from "../ops/embedding.ts";
import { kvCacheWrite } from "../ops/kv_cache.ts";
import { rope } from "../ops/rope.ts";
import { type HeadMatrix, headMatrix, matrix } from "../tensor/matrix.ts";
import type { PassSizes } from "./batch.ts";
import type { BlockContext } from "./context.ts";
import { Linear, NormLayer } from "./layers.ts";

/** Where queries, keys and values lie: one buffer, or the queries apart where only rows ask. */
interface Places {
  q: HeadMatrix;
  k: HeadMatrix;
  v: HeadMatrix;
}

/** What attention's backward needs. */
export interface AttentionTrace extends Places {
  /** q and k before their head norms, and the norms' statistics. */
  raw?: { q: HeadMatrix; k: HeadMatrix; qStats: Slot; kStats: Slot } | undefined;
  attended: Slot;
  lse: Slot;
  /** Output before its own norm, and that norm's statistics. */
  output?: { value: Slot; stats: Slot };
}

const tokens = (sizes: PassSizes) => sizes.tokens;

/** Attention of one block: projections, head norms, rotation, softmax, output. `rowsOnly`: only target rows have queries. */
export class AttentionLayer {
  readonly #spec: ModelSpec;
  readonly #rows: number;
  readonly #count: Dim<PassSizes>;
  /** One layer whose output is the whole qkv buffer, or three. */
  readonly #fused: Linear | undefined;
  readonly #split: { q: Linear; k: Linear; v: Linear } | undefined;
  readonly #headNorms: { q: NormLayer; k: NormLayer } | undefined;
  readonly #o: Linear;
  readonly #outputNorm: NormLayer | undefined;

  constructor(readonly context: BlockContext, readonly layer: number, readonly rowsOnly: boolean) {
    const { parameters: { spec }, capacity } = context;
    this.#spec = spec;
    this.#rows = rowsOnly ? capacity.rows : capacity.tokens;
    this.#count = rowsOnly ? (sizes) => sizes.rows : tokens;
    const { qkv, headNorms, o, attentionOutputNorm } = spec.tensors;
    if (qkv.kind === "split") {
      const of = (names: LinearNames) => new Linear(context, names, layer);
      this.#split = { q: of(qkv.q), k: of(qkv.k), v: of(qkv.v) };
    } else this.#fused = new Linear(context, qkv.all, layer);
    this.#headNorms = headNorms && {
      q: new NormLayer(context, headNorms.q, layer, spec.heads),
      k: new NormLayer(context, headNorms.k, layer, spec.kvHeads),
    };
    this.#o = new Linear(context, o, layer);
    this.#outputNorm = attentionOutputNorm && new NormLayer(context, attentionOutputNorm, layer);
  }

  get #qWidth(): number {
    return this.#spec.heads * this.#spec.headDim;
  }

  get #kvWidth(): number {
    return this.#spec.kvHeads * this.#spec.headDim;
  }

  #acquire(elements: number, label: string): Slot {
    return this.context.recorder.pool.acquire(elements * 4, label);
  }

  #release(...slots: Slot[]): void {
    for (const slot of new Set(slots)) this.context.recorder.pool.release(slot);
  }

  /** Queries, keys and values inside a buffer that a fused layer (or three) fills. */
  #inOneBuffer(slot: Slot): Places {
    const { headDim: D, tensors: { qkv } } = this.#spec;
    const ld = this.#qWidth + 2 * this.#kvWidth;
    if (qkv.kind === "interleaved") {
      const part = (which: number) => headMatrix(slot, ld, which * D, 3 * D);
      return { q: part(0), k: part(1), v: part(2) };
    }
    const from = (offset: number) => headMatrix(slot, ld, offset, D);
    return { q: from(0), k: from(this.#qWidth), v: from(this.#qWidth + this.#kvWidth) };
  }

  /** New places for q, k and v of split layers. */
  #places(label: string): Places {
    const { headDim: D } = this.#spec;
    if (!this.rowsOnly) {
      return this.#inOneBuffer(this.#acquire(this.#rows * (this.#qWidth + 2 * this.#kvWidth), label));
    }
    const kv = this.#acquire(this.context.capacity.tokens * 2 * this.#kvWidth, label);
    return {
      q: headMatrix(this.#acquire(this.#rows * this.#qWidth, label), this.#qWidth, 0, D),
      k: headMatrix(kv, 2 * this.#kvWidth, 0, D),
      v: headMatrix(kv, 2 * this.#kvWidth, this.#kvWidth, D),
    };
  }

  /** Rotates q of `qRows` rows and k of all tokens (or their gradients, backward). */
  #rope(q: HeadMatrix, k: HeadMatrix, onRows: boolean, backward: boolean): void {
    const { recorder, batch } = this.context;
    const { heads, kvHeads, headDim, ropes, ropeOfBlock } = this.#spec;
    const which = ropeOfBlock[this.layer]!;
    const shape = { rotary: ropes[which]!.frequencies.length * 2, table: batch.ropeTables[which]! };
    const all = { ...shape, rows: tokens, positions: batch.positions };
    if (q.slot === k.slot && q.headStride === headDim && k.offset === q.offset + heads * headDim) {
      // Side by side in one buffer, their heads rotate in one dispatch.
      return rope(recorder, { ...all, heads: heads + kvHeads, x: q }, backward);
    }
    const ofQueries = onRows ? { ...shape, rows: this.#count, positions: batch.rowPositions } : all;
    rope(recorder, { ...ofQueries, heads, x: q }, backward);
    rope(recorder, { ...all, heads: kvHeads, x: k }, backward);
  }

  /** Where queries find keys and values: in the cache, once those of the new tokens are there. */
  #cached({ q, k, v }: Places): Places {
    const { recorder, cache, batch } = this.context;
    if (!cache) return { q, k, v };
    const { kvHeads: heads, headDim } = this.#spec;
    const slot = cache[this.layer]!;
    kvCacheWrite(recorder, { rows: tokens, heads, headDim, k, v, keyRows: batch.keyRows, cache: slot });
    const ld = 2 * this.#kvWidth;
    return { q, k: headMatrix(slot, ld, 0, headDim), v: headMatrix(slot, ld, this.#kvWidth, headDim) };
  }

  #attention({ q, k, v }: Places): Attention<PassSizes> {
    const { heads, kvHeads, headDim, attentionScale, attentionCap, windows } = this.#spec;
    const { batch } = this.context;
    const { rowsOnly } = this;
    return {
      heads,
      kvHeads,
      headDim,
      scale: attentionScale,
      cap: attentionCap,
      q,
      k,
      v,
      window: windows[this.layer] ?? NO_WINDOW,
      queryTokens: rowsOnly ? batch.rowKeyRows : batch.keyRows,
      rows: this.#count,
      capacityRows: this.#rows,
      tiles: rowsOnly ? batch.rowQueryTiles : batch.queryTiles,
      tileCount: (sizes) => rowsOnly ? sizes.rowQueryTiles : sizes.queryTiles,
    };
  }

  /** residual + attention of h [N, C], for the rows whose h is `hRows`. Returns a new [n, C] slot. */
  forward(h: Slot, hRows: Slot, residual: Slot): { middle: Slot; trace: AttentionTrace } {
    const { recorder } = this.context;
    const { width: C, heads } = this.#spec;
    const { raw, ...places } = this.#split ? this.#projectSplit(h, hRows) : this.#projectFused(h);
    const attended = this.#acquire(this.#rows * this.#qWidth, "attended");
    const lse = this.#acquire(this.#rows * heads, "lse");
    attentionForward(recorder, this.#attention(this.#cached(places)), { out: attended, lse });
    const middle = this.#acquire(this.#rows * C, "middle");
    const x = matrix(attended, this.#qWidth);
    const trace: AttentionTrace = { ...places, raw, attended, lse };
    if (!this.#outputNorm) {
      this.#o.forward(x, matrix(middle, C), this.#count, residual);
      return { middle, trace };
    }
    const value = this.#acquire(this.#rows * C, "attention output");
    const stats = this.#acquire(this.#rows * 2, "norm statistics");
    this.#o.forward(x, matrix(value, C), this.#count);
    this.#outputNorm.forward(this.#count, { x: value, y: middle, stats, residual });
    return { middle, trace: { ...trace, output: { value, stats } } };
  }

  #projectSplit(h: Slot, hRows: Slot): Places & { raw?: AttentionTrace["raw"] } {
    const { width: C, heads, kvHeads } = this.#spec;
    const { q: toQ, k: toK, v: toV } = this.#split!;
    const places = this.#places("q, k, v");
    const norms = this.#headNorms;
    const raw = norms && {
      ...this.#rawPlaces("q and k before their norms"),
      qStats: this.#acquire(this.#rows * heads * 2, "norm statistics"),
      kStats: this.#acquire(this.context.capacity.tokens * kvHeads * 2, "norm statistics"),
    };
    const { q, k } = raw ?? places;
    toQ.forward(matrix(hRows, C), q, this.#count);
    toK.forward(matrix(h, C), k, tokens);
    toV.forward(matrix(h, C), places.v, tokens);
    if (norms && raw) {
      norms.q.forward(this.#count, { x: raw.q, y: places.q, stats: raw.qStats });
      norms.k.forward(tokens, { x: raw.k, y: places.k, stats: raw.kStats });
    }
    this.#rope(places.q, places.k, this.rowsOnly, false);
    return { ...places, raw };
  }

  #rawPlaces(label: string): { q: HeadMatrix; k: HeadMatrix } {
    const { headDim: D } = this.#spec;
    const [q, kv] = [this.#qWidth, this.#kvWidth];
    return {
      q: headMatrix(this.#acquire(this.#rows * q, label), q, 0, D),
      k: headMatrix(this.#acquire(this.context.capacity.tokens * kv, label), kv, 0, D),
    };
  }

  /** A fused layer runs on all tokens; where only rows ask, their whole q, k, v are copied out for the queries. */
  #projectFused(h: Slot): Places & { raw?: undefined } {
    const { recorder, batch, capacity } = this.context;
    const ld = this.#qWidth + 2 * this.#kvWidth;
    const slot = this.#acquire(capacity.tokens * ld, "q, k, v");
    const all = this.#inOneBuffer(slot);
    this.#fused!.forward(matrix(h, this.#spec.width), matrix(slot, ld), tokens);
    this.#rope(all.q, all.k, false, false);
    if (!this.rowsOnly) return all;
    const ofRows = this.#acquire(this.#rows * ld, "q of rows");
    gatherRows(recorder, this.#count, ld, { index: batch.rowTokens, x: slot, y: ofRows });
    return { ...all, q: { ...all.q, slot: ofRows } };
  }

  /**
   * Gradient of h [N, C] for that of the result, dmiddle [n, C], which stays. `start` [n, C] holds a gradient of hRows
   * that is added, and is taken over.
   */
  backward(trace: AttentionTrace, h: Slot, hRows: Slot, dmiddle: Slot, start?: Slot): Slot {
    const { recorder, batch } = this.context;
    const { width: C, heads } = this.#spec;
    let doutput = dmiddle;
    if (this.#outputNorm && trace.output) {
      const { value, stats } = trace.output;
      doutput = this.#acquire(this.#rows * C, "d attention output");
      this.#outputNorm.backward(this.#count, { x: value, stats, dy: dmiddle, dx: doutput }, false);
    }
    const dattended = this.#acquire(this.#rows * this.#qWidth, "d attended");
    this.#o.backward({
      dy: matrix(doutput, C),
      x: matrix(trace.attended, this.#qWidth),
      dx: matrix(dattended, this.#qWidth),
      addToInput: false,
      count: this.#count,
    });
    if (doutput !== dmiddle) this.#release(doutput);
    const gradients = this.#split ? this.#places("d q, k, v") : this.#fusedGradients();
    const delta = this.#acquire(this.#rows * heads, "delta");
    const { rowsOnly } = this;
    attentionBackward(
      recorder,
      this.#attention(trace),
      {
        out: trace.attended,
        dout: dattended,
        lse: trace.lse,
        delta,
        keyTiles: rowsOnly ? batch.rowKeyTiles : batch.keyTiles,
      },
      { dq: gradients.q, dk: gradients.k, dv: gradients.v },
      (sizes) => rowsOnly ? sizes.rowKeyTiles : sizes.keyTiles,
    );
    this.#release(dattended, delta);
    return this.#split
      ? this.#backwardSplit(trace, gradients, h, hRows, start)
      : this.#backwardFused(gradients, h, start);
  }

  #backwardSplit(trace: AttentionTrace, d: Places, h: Slot, hRows: Slot, start?: Slot): Slot {
    const { recorder, batch, capacity } = this.context;
    const { width: C } = this.#spec;
    const { rowsOnly } = this;
    const { q: toQ, k: toK, v: toV } = this.#split!;
    this.#rope(d.q, d.k, rowsOnly, true);
    let { q: dq, k: dk } = d;
    const norms = this.#headNorms;
    const { raw } = trace;
    if (norms && raw) {
      ({ q: dq, k: dk } = this.#rawPlaces("d q and k before their norms"));
      norms.q.backward(this.#count, { x: raw.q, stats: raw.qStats, dy: d.q, dx: dq }, false);
      norms.k.backward(tokens, { x: raw.k, stats: raw.kStats, dy: d.k, dx: dk }, false);
    }
    const dh = !rowsOnly && start ? start : this.#acquire(capacity.tokens * C, "d h");
    const dhRows = !rowsOnly ? dh : start ?? this.#acquire(this.#rows * C, "d h of rows");
    const all = { x: matrix(h, C), dx: matrix(dh, C), count: tokens };
    toK.backward({ ...all, dy: dk, addToInput: !rowsOnly && start !== undefined });
    toV.backward({ ...all, dy: d.v, addToInput: true });
    toQ.backward({
      x: matrix(hRows, C),
      dx: matrix(dhRows, C),
      dy: dq,
      count: this.#count,
      addToInput: !rowsOnly || start !== undefined,
    });
    this.#release(d.q.slot, d.k.slot, dq.slot, dk.slot);
    if (rowsOnly) {
      scatterAddRows(recorder, this.#count, C, { index: batch.rowTokens, x: dhRows, y: dh });
      this.#release(dhRows);
    }
    return dh;
  }

  /** Where only rows ask, both buffers begin as zeros: the queries' gradients are added to those of the keys' buffer. */
  #fusedGradients(): Places {
    const { recorder, capacity } = this.context;
    const ld = this.#qWidth + 2 * this.#kvWidth;
    const slot = this.#acquire(capacity.tokens * ld, "d q, k, v");
    const all = this.#inOneBuffer(slot);
    if (!this.rowsOnly) return all;
    const ofRows = this.#acquire(this.#rows * ld, "d q of rows");
    fill(recorder, capacity.tokens * ld, slot, 0);
    fill(recorder, this.#rows * ld, ofRows, 0);
    return { ...all, q: { ...all.q, slot: ofRows } };
  }

  #backwardFused(d: Places, h: Slot, start?: Slot): Slot {
    const { recorder, batch, capacity } = this.context;
    const { width: C } = this.#spec;
    const { rowsOnly } = this;
    const { slot, ld } = d.k;
    if (rowsOnly) {
      scatterAddRows(recorder, this.#count, ld, { index: batch.rowTokens, x: d.q.slot, y: slot });
      this.#release(d.q.slot);
    }
    const { q, k } = this.#inOneBuffer(slot);
    this.#rope(q, k, false, true);
    const dh = !rowsOnly && start ? start : this.#acquire(capacity.tokens * C, "d h");
    this.#fused!.backward({
      dy: matrix(slot, ld),
      x: matrix(h, C),
      dx: matrix(dh, C),
      count: tokens,
      addToInput: !rowsOnly && start !== undefined,
    });
    this.#release(slot);
    if (rowsOnly && start) {
      scatterAddRows(recorder, this.#count, C, { index: batch.rowTokens, x: start, y: dh });
      this.#release(start);
    }
    return dh;
  }
}
