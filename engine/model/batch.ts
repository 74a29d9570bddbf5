import { attentionTiles } from "../ops/attention.ts";
import { encodeRowTargets, type RowTarget, type SoftKind } from "../ops/cross_entropy.ts";
import { tokenBuckets } from "../ops/embedding.ts";

/** A target row: a position of a sequence whose next token is predicted; `weight` scales its loss. */
export interface SequenceRow {
  /** Index in the sequence's `ids`, from 0; the token after it is predicted. */
  position: number;
  /** Factor of its loss in the step's: 1 / n over all n rows gives the mean. */
  weight: number;
  /** What the distribution is compared with. */
  target: RowTarget;
}

/** One sequence of token ids, unpadded, with its target rows in ascending order of position. */
export interface Sequence {
  /** Token ids, with BOS where the model wants one. */
  ids: readonly number[];
  /** The positions that count; may be none. */
  rows: readonly SequenceRow[];
  /** Where earlier tokens of it are, for passes with a cache; `ids` and `rows` are then of the new ones. */
  cached?: CachedTokens;
}

/** Tokens of a sequence whose keys and values lie in a cache. */
export interface CachedTokens {
  /** Row of the cache of the sequence's first token. */
  firstRow: number;
  /** Tokens that are there already. */
  count: number;
  /** The sequence is rotated with longrope's long frequencies. */
  isLong: boolean;
}

/**
 * weight · loss of every row, given the losses in the order of the rows; rounded to f32, as the gradients' factor is.
 */
export function weightedLosses(sequences: readonly Sequence[], losses: Float32Array): Float32Array {
  const out = new Float32Array(losses.length);
  let row = 0;
  for (const { rows } of sequences) {
    for (const { weight } of rows) out[row] = Math.fround(weight) * losses[row++]!;
  }
  return out;
}

/** Sizes of one micro-batch; what recorded dispatches depend on. */
export interface PassSizes {
  tokens: number;
  rows: number;
  queryTiles: number;
  keyTiles: number;
  /** Tiles of the last block, whose queries are the target rows only. */
  rowQueryTiles: number;
  rowKeyTiles: number;
  buckets: number;
  /** Gradients of earlier micro-batches are there and must be added to. */
  accumulate: boolean;
}

/** Sequences laid end to end, and what the kernels read of them. */
export interface PackedBatch {
  sizes: Omit<PassSizes, "accumulate">;
  ids: Uint32Array<ArrayBuffer>;
  positions: Uint32Array<ArrayBuffer>;
  /** Row of each token's keys and values. */
  keyRows: Uint32Array<ArrayBuffer>;
  queryTiles: Uint32Array<ArrayBuffer>;
  keyTiles: Uint32Array<ArrayBuffer>;
  /** Token of each row, and that token's position. */
  rowTokens: Uint32Array<ArrayBuffer>;
  rowPositions: Uint32Array<ArrayBuffer>;
  rowKeyRows: Uint32Array<ArrayBuffer>;
  rowQueryTiles: Uint32Array<ArrayBuffer>;
  rowKeyTiles: Uint32Array<ArrayBuffer>;
  targets: Uint8Array<ArrayBuffer>;
  /** Kinds of soft targets among them. */
  softKinds: ReadonlySet<SoftKind>;
  buckets: Uint32Array<ArrayBuffer>;
  order: Uint32Array<ArrayBuffer>;
}

/**
 * Packs sequences for a pass. In passes with a cache, `longOffset` is the row of the rotary table where the long
 * frequencies begin.
 * @throws RangeError for an empty sequence, a token outside the vocabulary, or rows that aren't ascending.
 */
export function packBatch(
  sequences: readonly Sequence[],
  vocabulary: number,
  tile: number,
  longOffset = 0,
): PackedBatch {
  const offsets = [0];
  const rowOffsets = [0];
  const ids: number[] = [];
  const positions: number[] = [];
  const rowTokens: number[] = [];
  const rowPositions: number[] = [];
  const [keyRows, rowKeyRows, firstKeys]: [number[], number[], number[]] = [[], [], []];
  const targets: SequenceRow[] = [];
  sequences.forEach((sequence, index) => {
    checkSequence(sequence, index, vocabulary);
    const first = ids.length;
    const { firstRow, count, isLong } = sequence.cached ?? { firstRow: first, count: 0, isLong: false };
    const [key, place] = [firstRow + count, count + (isLong ? longOffset : 0)];
    firstKeys.push(firstRow);
    sequence.ids.forEach((id, position) => {
      ids.push(id);
      positions.push(place + position);
      keyRows.push(key + position);
    });
    for (const row of sequence.rows) {
      rowTokens.push(first + row.position);
      rowPositions.push(place + row.position);
      rowKeyRows.push(key + row.position);
      targets.push(row);
    }
    offsets.push(ids.length);
    rowOffsets.push(rowTokens.length);
  });
  const all = attentionTiles(offsets, offsets, tile, (row) => row, firstKeys);
  const rows = attentionTiles(offsets, rowOffsets, tile, (row) => rowTokens[row]!, firstKeys);
  const { buckets, order } = tokenBuckets(ids);
  return {
    sizes: {
      tokens: ids.length,
      rows: rowTokens.length,
      queryTiles: all.queryTiles.length / 4,
      keyTiles: all.keyTiles.length / 4,
      rowQueryTiles: rows.queryTiles.length / 4,
      rowKeyTiles: rows.keyTiles.length / 4,
      buckets: buckets.length / 4,
    },
    ids: Uint32Array.from(ids),
    positions: Uint32Array.from(positions),
    keyRows: Uint32Array.from(keyRows),
    queryTiles: all.queryTiles,
    keyTiles: all.keyTiles,
    rowTokens: Uint32Array.from(rowTokens),
    rowPositions: Uint32Array.from(rowPositions),
    rowKeyRows: Uint32Array.from(rowKeyRows),
    rowQueryTiles: rows.queryTiles,
    rowKeyTiles: rows.keyTiles,
    targets: encodeRowTargets(targets),
    softKinds: new Set(targets.map(({ target }) => target.kind).filter((kind) => kind !== "label")),
    buckets,
    order,
  };
}

function checkSequence({ ids, rows }: Sequence, index: number, vocabulary: number): void {
  if (ids.length === 0) throw new RangeError(`sequence ${index} is empty`);
  ids.forEach((id, position) => {
    if (!Number.isInteger(id) || id < 0 || id >= vocabulary) {
      throw new RangeError(
        `sequence ${index}, position ${position}: token ${id} is outside the vocabulary of ${vocabulary}`,
      );
    }
  });
  let last = -1;
  for (const { position, target } of rows) {
    if (!Number.isInteger(position) || position <= last || position >= ids.length) {
      throw new RangeError(
        `sequence ${index}: row at position ${position} after ${last}, in a sequence of ${ids.length} tokens`,
      );
    }
    last = position;
    if (
      target.kind === "label" &&
      !(Number.isInteger(target.token) && target.token >= 0 && target.token < vocabulary)
    ) {
      throw new RangeError(
        `sequence ${index}, position ${position}: label ${target.token} is outside the vocabulary of ${vocabulary}`,
      );
    }
  }
}

/** How many tokens and rows a pass holds. */
export interface PassCapacity {
  /** Tokens of all sequences of a micro-batch. */
  tokens: number;
  /** Wanted rows of all sequences of a micro-batch. */
  rows: number;
}

/**
 * Splits sequences, in order, into micro-batches of at most `capacity`; a longer sequence stands alone. `limit` bounds
 * the sequences in one.
 */
export function splitMicroBatches<T extends Sequence>(
  sequences: readonly T[],
  capacity: PassCapacity,
  limit = Infinity,
): T[][] {
  const batches: T[][] = [];
  let tokens = 0;
  let rows = 0;
  for (const sequence of sequences) {
    tokens += sequence.ids.length;
    rows += sequence.rows.length;
    const current = batches.at(-1);
    if (current && tokens <= capacity.tokens && rows <= capacity.rows && current.length < limit) {
      current.push(sequence);
    } else {
      batches.push([sequence]);
      tokens = sequence.ids.length;
      rows = sequence.rows.length;
    }
  }
  return batches;
}

/**
 * The capacity that the largest of these micro-batches needs, rounded up (to `most` at most) so that small changes reuse a
 * recording.
 */
export function neededCapacity(
  batches: readonly (readonly Sequence[])[],
  most: PassCapacity,
): PassCapacity {
  let tokens = 1;
  let rows = 1;
  for (const batch of batches) {
    tokens = Math.max(tokens, batch.reduce((sum, { ids }) => sum + ids.length, 0));
    rows = Math.max(rows, batch.reduce((sum, sequence) => sum + sequence.rows.length, 0));
  }
  const round = (count: number, most: number) => Math.max(count, Math.min(Math.ceil(count / 64) * 64, most));
  return { tokens: round(tokens, most.tokens), rows: round(rows, most.rows) };
}
