/** MLP activations: y = act(gate) · up, or act(gate) alone where there is no up. */
import type { Activation } from "../../engine/models/spec.ts";

/** y, of the gate's length. */
export function activationForward(
  kind: Activation,
  gate: Float64Array,
  up?: Float64Array,
): Float64Array<ArrayBuffer> {
  const { value } = FUNCTIONS[kind];
  return Float64Array.from(gate, (g, i) => up ? value(g) * up[i] : value(g));
}

/** Gradients of {@linkcode activationForward} for the gradient dy of its result. */
export function activationBackward(
  kind: Activation,
  dy: Float64Array,
  gate: Float64Array,
  up?: Float64Array,
): { dGate: Float64Array<ArrayBuffer>; dUp?: Float64Array<ArrayBuffer> } {
  const { value, slope } = FUNCTIONS[kind];
  const dGate = Float64Array.from(gate, (g, i) => dy[i] * (up ? up[i] : 1) * slope(g));
  return up ? { dGate, dUp: Float64Array.from(gate, (g, i) => dy[i] * value(g)) } : { dGate };
}

/** Each activation with its derivative. */
const FUNCTIONS: Record<Activation, { value: (x: number) => number; slope: (x: number) => number }> = {
  // x·σ(x); σ·(1 + x·(1 − σ))
  silu: {
    value: (x) => x * sigmoid(x),
    slope: (x) => sigmoid(x) * (1 + x * sigmoid(-x)),
  },
  // x·Φ(x), Φ the normal distribution; Φ + x·φ, φ = e^(−x²/2) / √(2π)
  gelu: {
    value: (x) => x * normalDistribution(x),
    slope: (x) => normalDistribution(x) + x * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI),
  },
  // x·(1 + tanh(u))/2 with u = √(2/π)·(x + 0.044715·x³), and (1 + tanh(u))/2 = σ(2u)
  gelu_tanh: {
    value: (x) => x * sigmoid(2 * tanhArgument(x)),
    slope: (x) => {
      const u = tanhArgument(x);
      const inner = Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x * x);
      // σ·(1 − σ) before the factor that grows: 0 · ∞ never appears for finite x of f32's range
      return sigmoid(2 * u) + 2 * sigmoid(2 * u) * sigmoid(-2 * u) * x * inner;
    },
  },
};

function tanhArgument(x: number): number {
  return Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** Φ(x) = erfc(−x/√2)/2, accurate relative to itself far out on the left too. */
function normalDistribution(x: number): number {
  return erfc(-x / Math.SQRT2) / 2;
}

/** 1 − erf(x), to 1e-15 absolute; to 1e-13 of itself, except 1e-12 shortly below 2.5, where 1 − series cancels. */
export function erfc(x: number): number {
  if (x < 0) return 2 - erfc(-x);
  return x < 2.5 ? 1 - erfSeries(x) : erfcFraction(x);
}

/** erf(x) = 2/√π · e^(−x²) · Σ_n (2x²)ⁿ·x / (1·3·…·(2n + 1)): all terms have one sign, nothing cancels. */
function erfSeries(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; term > sum * 2 ** -54; n++) {
    term *= 2 * x * x / (2 * n + 1);
    sum += term;
  }
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
}

/** erfc(x) = e^(−x²)/√π / (x + (1/2)/(x + 1/(x + (3/2)/(x + …)))); 80 levels are more than enough for x ≥ 2.5. */
function erfcFraction(x: number): number {
  let tail = x;
  for (let n = 80; n > 0; n--) tail = x + n / 2 / tail;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / tail;
}
