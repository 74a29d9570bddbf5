/** SwiGLU: y = silu(gate) · up, silu(x) = x / (1 + e^−x). */

/** y, of the inputs' length. */
export function swigluForward(gate: Float64Array, up: Float64Array): Float64Array<ArrayBuffer> {
  return Float64Array.from(gate, (g, i) => g * sigmoid(g) * up[i]);
}

/** Gradients of `swigluForward`; silu'(x) = σ(x) · (1 + x · (1 − σ(x))). */
export function swigluBackward(
  dy: Float64Array,
  gate: Float64Array,
  up: Float64Array,
): { dGate: Float64Array<ArrayBuffer>; dUp: Float64Array<ArrayBuffer> } {
  const dGate = new Float64Array(gate.length);
  const dUp = new Float64Array(gate.length);
  for (let i = 0; i < gate.length; i++) {
    const s = sigmoid(gate[i]);
    dGate[i] = dy[i] * up[i] * s * (1 + gate[i] * (1 - s));
    dUp[i] = dy[i] * gate[i] * s;
  }
  return { dGate, dUp };
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
