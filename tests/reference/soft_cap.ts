/** Soft cap: y = c·tanh(x/c), which stays within ±c. */

/** y, of x's length. */
export function softCap(x: Float64Array, c: number): Float64Array<ArrayBuffer> {
  return Float64Array.from(x, (value) => c * Math.tanh(value / c));
}

/** dx = dy · (1 − (y/c)²) for y = {@linkcode softCap}(x, c). */
export function softCapBackward(dy: Float64Array, x: Float64Array, c: number): Float64Array<ArrayBuffer> {
  return Float64Array.from(dy, (d, i) => d * (1 - Math.tanh(x[i] / c) ** 2));
}
