import { hash32, sample, uniform } from "../../engine/tensor/random.ts";

/** A stream of random choices named by (seed, a, b): any document can be drawn without drawing those before it. */
export class Draw {
  private count = 0;

  constructor(private readonly seed: number, private readonly a = 0, private readonly b = 0) {}

  /** Uniform in [0, 1). */
  uniform(): number {
    return uniform(this.seed, this.a, this.b, this.count++);
  }

  /** Uniform in 0 … n − 1. */
  integer(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** One element, all equally likely; a RangeError for an empty list. */
  pick<Item>(items: readonly Item[]): Item {
    if (items.length === 0) {
      throw new RangeError("Draw.pick: expected at least one item, found an empty list");
    }
    return items[this.integer(items.length)];
  }

  /** True with probability p. */
  chance(p: number): boolean {
    return this.uniform() < p;
  }

  /** `count` different items in random order: all of them when no count is given. */
  sample<Item>(items: readonly Item[], count = items.length): Item[] {
    return sample(items, count, hash32(this.seed, this.a, this.b, this.count++));
  }
}

/** 32-bit FNV-1a over UTF-16 code units, mixed once more so that every bit depends on the whole text. */
export function hashText(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return hash32(h);
}
