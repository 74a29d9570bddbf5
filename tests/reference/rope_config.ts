/**
 * Rotary embeddings as a config asks for them: frequencies for short and long batches, and the factor of cos
 * and sin.
 */
import { inverseFrequencies, type RopeScaling } from "./rope.ts";

/** One rotary embedding. */
export interface Rope {
  /** Angles per position [rotary/2]. */
  frequencies: Float64Array;
  /** The same for batches whose longest sequence has more than `after` tokens (longrope). */
  long?: { frequencies: Float64Array; after: number };
  /** Multiplies cos and sin. */
  scale: number;
}

/** Base, rotated dimensions, `rope_scaling`, and the context's length after and before it was extended. */
interface RopeSettings {
  theta: number;
  rotary: number;
  scaling?: Record<string, unknown> | null | undefined;
  positions: number;
  originalPositions: number;
}

/** The embedding of a config. Throws RangeError for a kind of scaling it cannot honour. */
export function ropeOf({ theta, rotary, scaling, positions, originalPositions }: RopeSettings): Rope {
  const kind = scaling?.rope_type ?? scaling?.type;
  const exponents = Array.from({ length: rotary / 2 }, (_, i) => 2 * i / rotary);
  if (kind === "longrope" || kind === "su") {
    const by = (factors: unknown) =>
      Float64Array.from(exponents, (e, i) => 1 / ((factors as number[])[i] * theta ** e));
    const factor = (scaling!.factor as number) ?? positions / originalPositions;
    return {
      frequencies: by(scaling!.short_factor),
      long: { frequencies: by(scaling!.long_factor), after: originalPositions },
      scale: (scaling!.attention_factor as number) ??
        Math.sqrt(1 + Math.max(0, Math.log(factor)) / Math.log(originalPositions)),
    };
  }
  if (kind === "dynamic") {
    // NTK-aware: the base for sequences of `length` tokens, which is the plain one up to `positions`.
    const [factor, length, pairs] = [scaling!.factor as number, positions, exponents.length];
    const stretch = factor * length / positions - (factor - 1);
    const base = pairs === 1 ? theta : theta * stretch ** (2 * pairs / (2 * pairs - 2));
    return { frequencies: Float64Array.from(exponents, (e) => 1 / base ** e), scale: 1 };
  }
  if (kind === "yarn") return yarn(exponents, theta, scaling as unknown as Yarn, originalPositions);
  return { frequencies: inverseFrequencies(rotary, theta, scaling as RopeScaling | null), scale: 1 };
}

/** `rope_scaling` of kind yarn. */
interface Yarn {
  factor: number;
  attention_factor?: number;
  beta_fast?: number;
  beta_slow?: number;
  mscale?: number;
  mscale_all_dim?: number;
  truncate?: boolean;
}

/**
 * The YaRN paper's "NTK by parts" (section 3.2) and its temperature (3.4), with the rounding of its published
 * code.
 */
function yarn(exponents: number[], theta: number, scaling: Yarn, originalPositions: number): Rope {
  const round = (turns: number, toWhole: (x: number) => number) => {
    // theta^e = L/(2π·turns) is the wavelength of so many turns; e·rotary/2 counts the pairs up to it
    const exponent = Math.log(originalPositions / (2 * Math.PI * turns)) / Math.log(theta);
    const pair = exponent * exponents.length;
    return scaling.truncate === false ? pair : toWhole(pair);
  };
  const first = Math.max(0, round(scaling.beta_fast ?? 32, Math.floor));
  const last = Math.min(2 * exponents.length - 1, round(scaling.beta_slow ?? 1, Math.ceil));
  const frequencies = Float64Array.from(exponents, (e, pair) => {
    const share = first === last ? Number(pair > first) : (pair - first) / (last - first);
    const interpolated = Math.max(0, Math.min(1, share));
    return theta ** -e * (1 - interpolated + interpolated / scaling.factor);
  });
  const temperature = (mscale: number) => 1 + 0.1 * mscale * Math.max(0, Math.log(scaling.factor));
  const { mscale, mscale_all_dim: all } = scaling;
  const inferred = mscale && all ? temperature(mscale) / temperature(all) : temperature(1);
  return { frequencies, scale: scaling.attention_factor ?? inferred };
}
