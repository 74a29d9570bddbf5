/** Embedding lookup. */

/** Rows of table [V, C] for ids [N]: x [N, C]. Throws RangeError for an id outside the table. */
export function embeddingForward(
  ids: ArrayLike<number>,
  table: Float64Array,
  C: number,
): Float64Array<ArrayBuffer> {
  const V = table.length / C;
  const x = new Float64Array(ids.length * C);
  for (let n = 0; n < ids.length; n++) {
    if (!(ids[n] >= 0 && ids[n] < V)) {
      throw new RangeError(`token ${n}: expected an id below ${V}, found ${ids[n]}`);
    }
    x.set(table.subarray(ids[n] * C, (ids[n] + 1) * C), n * C);
  }
  return x;
}

/** Adds the rows of dx [N, C] to the rows `ids` of dTable [V, C]. */
export function embeddingBackward(
  ids: ArrayLike<number>,
  dx: Float64Array,
  C: number,
  dTable: Float64Array,
): void {
  for (let n = 0; n < ids.length; n++) {
    for (let c = 0; c < C; c++) dTable[ids[n] * C + c] += dx[n * C + c];
  }
}
