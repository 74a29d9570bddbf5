import type { Gpu } from "../gpu/context.ts";
import { Slot } from "../gpu/pool.ts";
import type { KernelTarget } from "../gpu/recorder.ts";
import type { ModelSpec } from "../models/spec.ts";
import type { PassCache } from "../model/pass.ts";

/** Bytes that all caches of a group of sequences may take together. */
const CACHE_BYTES = { software: 256 << 20, hardware: 2 ** 31 };

/** Numbers that one token keeps in one block. */
function rowWidth({ kvHeads, headDim }: ModelSpec): number {
  return 2 * kvHeads * headDim;
}

/** Tokens whose keys and values fit the device's bindings and the memory set aside for them. */
export function cacheRows(spec: ModelSpec, target: KernelTarget): number {
  const rowBytes = rowWidth(spec) * 4;
  const budget = target.isSoftware ? CACHE_BYTES.software : CACHE_BYTES.hardware;
  return Math.floor(Math.min(target.maxBindingBytes ?? Infinity, budget / spec.layers) / rowBytes);
}

/** Keys and values of sequences under way. */
export class KvCache implements PassCache {
  readonly slots: readonly Slot[];

  /** Room for `rows` tokens in all, of sequences of at most `positions`. */
  constructor(gpu: Gpu, spec: ModelSpec, rows: number, readonly positions: number) {
    this.slots = Array.from(
      { length: spec.layers },
      (_, layer) => new Slot(rows * rowWidth(spec) * 4, `keys and values of block ${layer}`),
    );
    try {
      for (const slot of this.slots) slot.realize(gpu);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  dispose(): void {
    for (const slot of this.slots) slot.dispose();
  }
}
