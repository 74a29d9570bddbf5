/** Gradients by finite differences, to check a written backward. */
import { assertMaxAbs, maxAbs } from "../compare.ts";

/**
 * ∂f/∂x by the central four-point stencil with step 1e-3, error O(h⁴): about 1e-11 for functions of order 1.
 * `f` reads `x`, which is changed and restored.
 */
function numericalGradient(x: Float64Array, f: () => number): Float64Array<ArrayBuffer> {
  const h = 1e-3;
  return Float64Array.from(x, (value, i) => {
    const at = (shift: number) => {
      x[i] = value + shift;
      return f();
    };
    const derivative = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    x[i] = value;
    return derivative;
  });
}

/** Asserts a written gradient to `tolerance` of its largest element (at least of 1). */
export function assertDerivative(
  name: string,
  gradient: Float64Array,
  x: Float64Array,
  f: () => number,
  tolerance = 1e-9,
): void {
  assertMaxAbs(name, gradient, numericalGradient(x, f), tolerance * Math.max(1, maxAbs(gradient)));
}

/** Σ a·b: turns an output into a scalar whose gradient with respect to the output is the other factor. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
