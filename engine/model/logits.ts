import type { Passes } from "./passes.ts";

/** A row whose logits, or greedy token, alone are wanted. */
export const UNWEIGHTED = { weight: 0, target: { kind: "label", token: 0 } } as const;

/**
 * Logits after the tokens at the given ascending positions: one [positions · V] array a sequence, row-major.
 * @throws RangeError for an empty sequence, a token outside the vocabulary, or positions that aren't ascending.
 */
export async function logitsAt(
  passes: Passes,
  sequences: readonly { ids: readonly number[]; positions: readonly number[] }[],
): Promise<Float32Array[]> {
  const V = passes.parameters.spec.vocabulary;
  const out = sequences.map(({ positions }) => new Float32Array(positions.length * V));
  const maxRows = passes.maxCapacity("logits").rows;
  const pieces = sequences.flatMap(({ ids, positions }, sequence) => {
    const count = Math.max(1, Math.ceil(positions.length / maxRows));
    return Array.from({ length: count }, (_, i) => {
      const first = i * maxRows;
      const rows = positions.slice(first, first + maxRows).map((position) => ({ position, ...UNWEIGHTED }));
      // What follows the last row can't be seen from it.
      return { ids: ids.slice(0, (rows.at(-1)?.position ?? 0) + 1), rows, sequence, first };
    });
  });
  const { pass, batches } = passes.schedule("logits", pieces);
  for (const batch of batches) {
    const rows = batch.reduce((sum, piece) => sum + piece.rows.length, 0);
    const [bytes] = await pass.run(pass.pack(batch), [{ slot: pass.plan.logits, bytes: rows * V * 4 }]);
    const values = new Float32Array(bytes.buffer);
    let at = 0;
    for (const { sequence, first, rows } of batch) {
      out[sequence]!.set(values.subarray(at, at + rows.length * V), first * V);
      at += rows.length * V;
    }
  }
  return out;
}
