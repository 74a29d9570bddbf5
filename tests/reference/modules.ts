/** Linear layers and norms with their parameters, and rows that hold several matrices' outputs. */
import type { Weights } from "./decoder_shape.ts";
import type { Module } from "./families.ts";
import { linearBackward, linearForward } from "./linear_algebra.ts";
import { normBackward, normForward, type NormSettings } from "./norm.ts";

/** Parameters of a model, and where their gradients go by name. */
export interface Parameters {
  weights: Weights;
  gradients: Map<string, Float64Array>;
}

/** x·Wᵀ + b of x [rows, inputs]. The matrix may be that of another module (a tied head). */
export function linear(
  weights: Weights,
  module: Module,
  x: Float64Array,
  rows: number,
  matrix = module,
): Float64Array {
  const y = linearForward(x, weights.get(`${matrix.name}.weight`)!, rows);
  if (!module.biased) return y;
  const bias = weights.get(`${module.name}.bias`)!;
  return y.map((value, i) => value + bias[i % bias.length]);
}

/** dx for dy [rows, outputs]; puts the gradients of {@linkcode linear}'s parameters by name. */
export function linearGradients(
  { weights, gradients }: Parameters,
  module: Module,
  dy: Float64Array,
  x: Float64Array,
  rows: number,
  matrix = module,
): Float64Array {
  const { dx, dWeight } = linearBackward(dy, x, weights.get(`${matrix.name}.weight`)!, rows);
  gradients.set(`${matrix.name}.weight`, dWeight);
  if (module.biased) {
    const dBias = new Float64Array(dy.length / rows);
    dy.forEach((value, i) => dBias[i % dBias.length] += value);
    gradients.set(`${module.name}.bias`, dBias);
  }
  return dx;
}

/** The norm of every vector in x as long as the module's weight: rows, or the heads of rows. */
export function norm(
  weights: Weights,
  module: Module,
  x: Float64Array,
  settings: NormSettings,
): Float64Array {
  const bias = module.biased ? weights.get(`${module.name}.bias`)! : undefined;
  return normForward(x, weights.get(`${module.name}.weight`)!, bias, settings).y;
}

/** dx for dy; puts the gradients of {@linkcode norm}'s parameters by name. */
export function normGradients(
  { weights, gradients }: Parameters,
  module: Module,
  dy: Float64Array,
  x: Float64Array,
  settings: NormSettings,
): Float64Array {
  const { dx, dWeight, dBias } = normBackward(dy, x, weights.get(`${module.name}.weight`)!, settings);
  gradients.set(`${module.name}.weight`, dWeight);
  if (module.biased) gradients.set(`${module.name}.bias`, dBias);
  return dx;
}

/** Columns of a row that belong to one output, in their order there. */
export type Columns = readonly number[];

/**
 * The columns of q, k and v in a row of a fused projection of H query heads and K key and value heads of D.
 */
export function qkvColumns(
  kind: "stacked" | "interleaved",
  { H, K, D }: { H: number; K: number; D: number },
): [Columns, Columns, Columns] {
  const run = (first: number, length: number) => Array.from({ length }, (_, i) => first + i);
  if (kind === "stacked") return [run(0, H * D), run(H * D, K * D), run((H + K) * D, K * D)];
  const ofHeads = (part: number) => Array.from({ length: H }, (_, h) => run((3 * h + part) * D, D)).flat();
  return [ofHeads(0), ofHeads(1), ofHeads(2)];
}

/** The columns of gate and up in a row of a fused projection to 2·F. */
export function gateUpColumns(F: number): [Columns, Columns] {
  return [Array.from({ length: F }, (_, i) => i), Array.from({ length: F }, (_, i) => F + i)];
}

/** The given columns of each row, side by side. */
export function pickColumns(x: Float64Array, rows: number, columns: Columns): Float64Array {
  const [stride, width] = [x.length / rows, columns.length];
  return Float64Array.from(
    { length: rows * width },
    (_, i) => x[Math.floor(i / width) * stride + columns[i % width]],
  );
}

/** The rows whose {@linkcode pickColumns} are `parts`. */
export function placeColumns(
  parts: readonly (readonly [Float64Array, Columns])[],
  rows: number,
): Float64Array {
  const width = parts.reduce((sum, [, columns]) => sum + columns.length, 0);
  const y = new Float64Array(rows * width);
  for (const [x, columns] of parts) {
    x.forEach((value, i) => {
      const row = Math.floor(i / columns.length);
      y[row * width + columns[i % columns.length]] = value;
    });
  }
  return y;
}
