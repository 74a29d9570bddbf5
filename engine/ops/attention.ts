import ioSource from "../../shaders/attention_io.wgsl" with { type: "text" };
import loadSource from "../../shaders/attention_load.wgsl" with { type: "text" };
import rowsSource from "../../shaders/attention_rows.wgsl" with { type: "text" };
import mathSource from "../../shaders/math.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import forwardSource from "../../shaders/attention_forward.wgsl" with { type: "text" };
import deltaSource from "../../shaders/attention_delta.wgsl" with { type: "text" };
import backwardQSource from "../../shaders/attention_backward_q.wgsl" with { type: "text" };
import backwardKvSource from "../../shaders/attention_backward_kv.wgsl" with { type: "text" };
import { defineKernel, type Kernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type KernelTarget, type Recorder } from "../gpu/recorder.ts";
import type { HeadMatrix } from "../tensor/matrix.ts";
import { elementGroups, headCounts, vectorConstants } from "./launch.ts";

const includes = {
  "attention_io.wgsl": ioSource,
  "attention_load.wgsl": loadSource,
  "attention_rows.wgsl": rowsSource,
  "elements.wgsl": elementsSource,
  "math.wgsl": mathSource,
};
const define = (name: string, source: string) =>
  defineKernel({ name, file: `${name}.wgsl`, source, includes });
const forwardKernel = define("attention_forward", forwardSource);
const deltaKernel = define("attention_delta", deltaSource);
const backwardQKernel = define("attention_backward_q", backwardQSource);
const backwardKvKernel = define("attention_backward_kv", backwardKvSource);
import { kernelSettings } from "./target.ts";

/** vec4s of a head's output that one invocation owns: 32 dimensions. */
const CHUNK4 = 8;

/** Loop iterations of an invocation that are safe on lavapipe: it silently ends all its loops at 65,535 in total. */
const SOFTWARE_ITERATIONS = 65_000;

/** Iterations of dk and dv's loops for so many query rows: one a row, and one for eight rows. */
const rowIterations = (rows: number) => Math.ceil(rows * 9 / 8) + 2;

/** Tokens of a sequence that software adapters can walk over. */
export const MAX_SOFTWARE_TOKENS = 57_000;

/** Window that means plain causal attention. */
export const NO_WINDOW = 0xffffffff;

/** Rows (forward, dq) or keys (dk, dv) of one workgroup: a vector on software adapters, else half a subgroup pair. */
export function attentionTile(target: KernelTarget): number {
  return tileConstants(target).TILE;
}

/** The tile, and whether its invocations share what all of them need. */
function tileConstants(target: KernelTarget): { TILE: number; SHARE: boolean } {
  const { isSoftware, hasSubgroups } = target;
  const { force } = kernelSettings(target);
  const choice = force?.attention ?? (isSoftware ? hasSubgroups ? "shared" : "lanes" : "workgroup");
  return { TILE: choice === "workgroup" ? 32 : 8, SHARE: choice === "shared" };
}

/** Attention of packed sequences; every query row stands for a token, and sees the keys before it in its sequence. */
export interface Attention<S> {
  heads: number;
  kvHeads: number;
  headDim: number;
  scale: number;
  /** Keys that a query sees, itself included; {@link NO_WINDOW} for all. */
  window: number;
  /** Scaled scores s become cap·tanh(s / cap) before the mask; 0 is off. */
  cap: number;
  /**
   * `heads` vectors of headDim in each query row, and `kvHeads` twice in each token's row; may be windows of one buffer.
   * k and v share buffer, leading dimension and head stride.
   */
  q: HeadMatrix;
  k: HeadMatrix;
  v: HeadMatrix;
  /** u32 token of each query row. */
  queryTokens: Slot;
  rows: Dim<S>;
  /** The largest `rows` of any run. */
  capacityRows: number;
  /** (first row, rows, first key token, 0) a query tile, see {@link attentionTiles}. */
  tiles: Slot;
  tileCount: Dim<S>;
}

/** out [rows, heads · headDim] and lse [rows, heads]. */
export function attentionForward<S>(
  recorder: Recorder<S>,
  shape: Attention<S>,
  slots: { out: Slot; lse: Slot },
): void {
  recorder.dispatch(
    variant(forwardKernel, recorder.target, shape, []),
    { ...operands(shape), tiles: shape.tiles, result: slots.out, lse: slots.lse },
    (sizes) => launch(shape, dim(shape.tileCount, sizes), shape.heads),
  );
}

/**
 * dq, dk and dv, all written; dk and dv share buffer, leading dimension and head stride.
 * `keyTiles` are (first key, keys, first query row, end of them).
 */
export function attentionBackward<S>(
  recorder: Recorder<S>,
  shape: Attention<S>,
  slots: { out: Slot; dout: Slot; lse: Slot; delta: Slot; keyTiles: Slot },
  gradients: { dq: HeadMatrix; dk: HeadMatrix; dv: HeadMatrix },
  keyTileCount: Dim<S>,
): void {
  const { out, dout, lse, delta, keyTiles } = slots;
  const { dq, dk, dv } = gradients;
  const { heads, kvHeads, headDim } = shape;
  requireShared("dk and dv", dk, dv);
  recorder.dispatch(deltaKernel.variant(), { out, dout, delta }, (sizes) => {
    const rows = dim(shape.rows, sizes) * heads;
    return { params: { rows, head_dim: headDim }, groups: elementGroups(rows) };
  });
  const common = { ...operands(shape), dout, lse, delta };
  recorder.dispatch(
    variant(backwardQKernel, recorder.target, shape, [dq]),
    { ...common, tiles: shape.tiles, result: dq.slot },
    (sizes) => launch(shape, dim(shape.tileCount, sizes), heads, gradients),
  );
  const group = heads / kvHeads;
  const step = membersPerDispatch(recorder.target, shape.capacityRows, group);
  for (let first = 0; first < group; first += step) {
    const members = { first, count: Math.min(step, group - first) };
    recorder.dispatch(
      variant(backwardKvKernel, recorder.target, shape, [dk, dv]),
      { ...common, tiles: keyTiles, result: dk.slot },
      (sizes) => launch(shape, dim(keyTileCount, sizes), kvHeads, gradients, members),
    );
  }
}

/** Query heads of a group whose gradients one dispatch adds up: all, except where loops must be short. */
function membersPerDispatch(target: KernelTarget, rows: number, group: number): number {
  return target.isSoftware
    ? Math.max(1, Math.min(group, Math.floor(SOFTWARE_ITERATIONS / rowIterations(rows))))
    : group;
}

function operands<S>({ q, k, v, queryTokens }: Attention<S>) {
  requireShared("keys and values", k, v);
  return { q: q.slot, kv: k.slot, query_tokens: queryTokens };
}

function requireShared(what: string, a: HeadMatrix, b: HeadMatrix): void {
  if (a.slot === b.slot && a.ld === b.ld && a.headStride === b.headStride) return;
  const show = ({ slot, ld, headStride }: HeadMatrix) =>
    `"${slot.label}" (leading dimension ${ld}, head stride ${headStride})`;
  throw new TypeError(`attention: ${what} must share buffer and strides, found ${show(a)} and ${show(b)}`);
}

function variant<S>(kernel: Kernel, target: KernelTarget, shape: Attention<S>, outputs: HeadMatrix[]) {
  const { q, k, v, headDim, cap } = shape;
  const { VEC } = vectorConstants(target, headDim, ...headCounts(q, k, v, ...outputs));
  return kernel.variant({
    D: headDim,
    D4: Math.ceil(headDim / 4),
    CHUNK4: Math.min(CHUNK4, Math.ceil(headDim / 4)),
    ...tileConstants(target),
    VEC,
    CAP: cap > 0,
    BACKWARD: kernel !== forwardKernel,
  });
}

function launch<S>(
  { q, k, v, heads, kvHeads, headDim, window, scale, cap }: Attention<S>,
  tiles: number,
  tileHeads: number,
  gradients?: { dq: HeadMatrix; dk: HeadMatrix; dv: HeadMatrix },
  members = { first: 0, count: heads / kvHeads },
) {
  const { dq, dk, dv } = gradients ?? { dq: q, dk: k, dv: v };
  const chunks = Math.ceil(Math.ceil(headDim / 4) / Math.min(CHUNK4, Math.ceil(headDim / 4)));
  return {
    params: {
      tiles,
      heads,
      kv_heads: kvHeads,
      window,
      scale,
      cap,
      ld_q: q.ld,
      q_offset: q.offset,
      q_stride: q.headStride,
      ld_kv: k.ld,
      k_offset: k.offset,
      v_offset: v.offset,
      kv_stride: k.headStride,
      ld_dq: dq.ld,
      dq_offset: dq.offset,
      dq_stride: dq.headStride,
      ld_dkv: dk.ld,
      dk_offset: dk.offset,
      dv_offset: dv.offset,
      dkv_stride: dk.headStride,
      first_member: members.first,
      members: members.count,
      accumulate: Number(members.first > 0),
    },
    groups: tiles * tileHeads * chunks,
  };
}

/**
 * Tiles for sequences whose tokens are offsets[b] … offsets[b + 1] − 1 and whose query rows are
 * rowOffsets[b] … rowOffsets[b + 1] − 1; `tokenOf` gives a row's token, ascending. A key tile's rows begin with the first
 * that sees one of its keys.
 */
export function attentionTiles(
  offsets: readonly number[],
  rowOffsets: readonly number[],
  tile: number,
  tokenOf: (row: number) => number,
  firstKeys: readonly number[] = offsets,
): { queryTiles: Uint32Array<ArrayBuffer>; keyTiles: Uint32Array<ArrayBuffer> } {
  const queryTiles: number[] = [];
  const keyTiles: number[] = [];
  for (let b = 0; b + 1 < offsets.length; b++) {
    const [firstRow, endRow] = [rowOffsets[b]!, rowOffsets[b + 1]!];
    const [firstKey, endKey] = [offsets[b]!, offsets[b + 1]!];
    for (let row = firstRow; row < endRow; row += tile) {
      queryTiles.push(row, Math.min(tile, endRow - row), firstKeys[b]!, 0);
    }
    let row = firstRow;
    for (let key = firstKey; key < endKey; key += tile) {
      while (row < endRow && tokenOf(row) < key) row++;
      keyTiles.push(key, Math.min(tile, endKey - key), row, endRow);
    }
  }
  return { queryTiles: Uint32Array.from(queryTiles), keyTiles: Uint32Array.from(keyTiles) };
}
