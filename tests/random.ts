/** Deterministic random numbers for tests: the same seed gives the same numbers on every machine. */

/** A seeded stream of random numbers (mulberry32: 32 bits of state, period 2³²; enough for test data). */
export class Random {
  #state: number;
  #spare: number | null = null;

  /** @param seed any integer; only its low 32 bits count */
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** One number, uniform in [0, 1), a multiple of 2⁻³². */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  }

  /** One standard normal number (Box–Muller). */
  nextNormal(): number {
    if (this.#spare !== null) {
      const spare = this.#spare;
      this.#spare = null;
      return spare;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.next()));
    const angle = 2 * Math.PI * this.next();
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** One integer in [low, high). */
  nextInteger(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low));
  }

  /** `count` numbers uniform in [low, high), rounded to float32. */
  uniform(count: number, low = 0, high = 1): Float32Array<ArrayBuffer> {
    return Float32Array.from({ length: count }, () => low + (high - low) * this.next());
  }

  /** `count` normal numbers, rounded to float32. */
  normal(count: number, deviation = 1, mean = 0): Float32Array<ArrayBuffer> {
    return Float32Array.from({ length: count }, () => mean + deviation * this.nextNormal());
  }

  /** `count` integers in [low, high). */
  integers(count: number, low: number, high: number): number[] {
    return Array.from({ length: count }, () => this.nextInteger(low, high));
  }

  /** `count` non-negative numbers that sum to 1 (float64): a random distribution over `count` outcomes. */
  distribution(count: number, sharpness = 1): Float64Array<ArrayBuffer> {
    const weights = Float64Array.from({ length: count }, () => Math.exp(sharpness * this.nextNormal()));
    const total = weights.reduce((sum, x) => sum + x, 0);
    return weights.map((x) => x / total);
  }
}
