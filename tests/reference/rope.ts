/**
 * Rotary position embedding, half-split: dimension i of a head is paired with i + rotary/2 inside its first `rotary`
 * dimensions; the others pass.
 */

/** `rope_scaling` of a Hugging Face config. */
export interface RopeScaling {
  rope_type?: string;
  type?: string;
  factor?: number;
  low_freq_factor?: number;
  high_freq_factor?: number;
  original_max_position_embeddings?: number;
}

/**
 * Angles per position [D/2]: theta^(−2i/D), then scaled (FORMAT.md section 5 for `llama3`).
 * Throws RangeError for a kind of scaling other than default, linear and llama3.
 */
export function inverseFrequencies(
  D: number,
  theta: number,
  scaling: RopeScaling | null = null,
): Float64Array<ArrayBuffer> {
  const plain = Float64Array.from({ length: D / 2 }, (_, i) => theta ** (-2 * i / D));
  const kind = scaling?.rope_type ?? scaling?.type ?? "default";
  switch (kind) {
    case "default":
      return plain;
    case "linear":
      return plain.map((frequency) => frequency / scaling!.factor!);
    case "llama3":
      return plain.map((frequency) => llama3(frequency, scaling as Required<RopeScaling>));
    default:
      throw new RangeError(`rope_scaling: expected default, linear or llama3, found ${kind}`);
  }
}

function llama3(frequency: number, scaling: Required<RopeScaling>): number {
  const { factor, low_freq_factor: low, high_freq_factor: high } = scaling;
  const context = scaling.original_max_position_embeddings;
  const wavelength = 2 * Math.PI / frequency;
  if (wavelength < context / high) return frequency;
  if (wavelength > context / low) return frequency / factor;
  const smooth = (context / wavelength - low) / (high - low);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

/** How a head is rotated beside its frequencies. */
interface RopeHeads {
  /** Dimensions of a head; the rotated ones by default, which are twice the frequencies. */
  headDim?: number;
  /** Multiplies cos and sin; 1 by default. */
  scale?: number | undefined;
}

/** x [N, heads·headDim] rotated by positions [N] · frequencies [rotary/2]. */
export function ropeForward(
  x: Float64Array,
  positions: ArrayLike<number>,
  frequencies: Float64Array,
  heads: RopeHeads = {},
): Float64Array<ArrayBuffer> {
  return rotate(x, positions, frequencies, heads, 1);
}

/** The gradient: the transpose of a scaled rotation is the rotation back with the same scale. */
export function ropeBackward(
  dy: Float64Array,
  positions: ArrayLike<number>,
  frequencies: Float64Array,
  heads: RopeHeads = {},
): Float64Array<ArrayBuffer> {
  return rotate(dy, positions, frequencies, heads, -1);
}

function rotate(
  x: Float64Array,
  positions: ArrayLike<number>,
  frequencies: Float64Array,
  { headDim = 2 * frequencies.length, scale = 1 }: RopeHeads,
  direction: 1 | -1,
): Float64Array<ArrayBuffer> {
  const half = frequencies.length;
  const width = x.length / positions.length;
  const y = Float64Array.from(x);
  for (let n = 0; n < positions.length; n++) {
    for (let i = 0; i < half; i++) {
      const angle = direction * positions[n] * frequencies[i];
      const [cos, sin] = [scale * Math.cos(angle), scale * Math.sin(angle)];
      for (let head = 0; head < width; head += headDim) {
        const [a, b] = [n * width + head + i, n * width + head + half + i];
        y[a] = x[a] * cos - x[b] * sin;
        y[b] = x[b] * cos + x[a] * sin;
      }
    }
  }
  return y;
}
