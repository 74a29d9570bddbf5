/** Neighbouring rows of a matrix: what one buffer holds of a parameter that is too large for one binding. */
export interface RowShard {
  /** First row, counted in the whole matrix. */
  readonly firstRow: number;
  /** How many rows. */
  readonly rows: number;
}

/** Elements of a slab, about: the unit in which whole-tensor sums are added, so that shards don't change their bits. */
const SLAB_ELEMENTS = 4096;

/** Rows of a slab of a matrix of `columns`: a power of two. */
export function slabRows(columns: number): number {
  return 2 ** Math.max(0, Math.round(Math.log2(SLAB_ELEMENTS / columns)));
}

/**
 * Splits [rows, columns] of f32 into shards of at most `limitBytes`. All but the last hold whole slabs and a multiple of
 * four rows, so that vector loads stay aligned.
 * @throws RangeError when not even that many rows fit.
 */
export function rowShards(rows: number, columns: number, limitBytes: number): RowShard[] {
  if (rows * columns * 4 <= limitBytes) return [{ firstRow: 0, rows }];
  const unit = Math.max(4, slabRows(columns));
  const step = Math.floor(limitBytes / (columns * 4) / unit) * unit;
  if (step === 0) {
    throw new RangeError(
      `${unit} rows of ${columns} numbers need ${unit * columns * 4} bytes in one binding, but at most ` +
        `${limitBytes} can be bound`,
    );
  }
  return Array.from({ length: Math.ceil(rows / step) }, (_, i) => {
    return { firstRow: i * step, rows: Math.min(step, rows - i * step) };
  });
}

/** A part of a window of rows that lies in one shard. */
export interface ShardPart {
  /** Index of the shard. */
  readonly shard: number;
  /** First row inside the shard, and inside the window. */
  readonly row: number;
  readonly windowRow: number;
  readonly rows: number;
}

/** The parts of the rows `first` … `first + rows − 1` by shard, in order. */
export function shardParts(shards: readonly RowShard[], first: number, rows: number): ShardPart[] {
  return shards.flatMap((shard, index) => {
    const begin = Math.max(first, shard.firstRow);
    const end = Math.min(first + rows, shard.firstRow + shard.rows);
    if (begin >= end) return [];
    return [{ shard: index, row: begin - shard.firstRow, windowRow: begin - first, rows: end - begin }];
  });
}
