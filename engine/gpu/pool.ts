import type { Gpu } from "./context.ts";

/**
 * A place for one buffer. While work is being recorded it is only a size, so a recording is also the memory plan;
 * {@link Slot.realize} makes the buffer.
 */
export class Slot {
  #buffer: GPUBuffer | undefined;
  #gpu: Gpu | undefined;

  constructor(public bytes: number, readonly label: string) {}

  /** The buffer. @throws TypeError before {@link Slot.realize}. */
  get buffer(): GPUBuffer {
    if (!this.#buffer) throw new TypeError(`slot "${this.label}" has no buffer yet`);
    return this.#buffer;
  }

  get isRealized(): boolean {
    return this.#buffer !== undefined;
  }

  realize(gpu: Gpu): this {
    if (!this.#buffer) {
      this.#buffer = gpu.createBuffer(this.bytes, this.label);
      this.#gpu = gpu;
    }
    return this;
  }

  dispose(): void {
    if (this.#buffer) this.#gpu!.destroyBuffer(this.#buffer);
    this.#buffer = undefined;
  }
}

/** Hands out whole-buffer slots and reuses released ones, while nothing is realized yet. */
export class Pool {
  readonly slots: Slot[] = [];
  readonly #free: Slot[] = [];

  /** A slot of at least `bytes`: the tightest free one, else the largest free one made larger, else a new one. */
  acquire(bytes: number, label: string): Slot {
    let best = -1;
    this.#free.forEach((slot, i) => {
      const chosen = this.#free[best];
      if (best < 0) best = i;
      else if (
        chosen.bytes < bytes ? slot.bytes > chosen.bytes : slot.bytes >= bytes && slot.bytes < chosen.bytes
      ) {
        best = i;
      }
    });
    if (best < 0) {
      const slot = new Slot(bytes, label);
      this.slots.push(slot);
      return slot;
    }
    const [slot] = this.#free.splice(best, 1);
    slot.bytes = Math.max(slot.bytes, bytes);
    return slot;
  }

  /** Makes a slot free for what is recorded next. @throws TypeError when it is free already. */
  release(slot: Slot): void {
    if (this.#free.includes(slot)) throw new TypeError(`slot "${slot.label}" released twice`);
    this.#free.push(slot);
  }

  /** Sum of all slots: what realizing them allocates. */
  get totalBytes(): number {
    return this.slots.reduce((sum, slot) => sum + Math.max(16, Math.ceil(slot.bytes / 16) * 16), 0);
  }
}
