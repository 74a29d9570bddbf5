import { type Gpu, roundedBytes } from "./context.ts";

/**
 * A place for one buffer. While work is being recorded it is only a size, so a recording is also the memory plan;
 * {@link Slot.realize} makes the buffer. It may be freed and made again: what is bound to it finds the new one.
 */
export class Slot {
  #buffer: GPUBuffer | undefined;
  #gpu: Gpu | undefined;

  /** A place for `bytes` bytes; errors of the device show `label`. */
  constructor(public bytes: number, readonly label: string) {}

  /** The buffer. @throws TypeError before {@link Slot.realize} and after {@link Slot.dispose}. */
  get buffer(): GPUBuffer {
    if (!this.#buffer) {
      throw new TypeError(
        this.#gpu ? `the buffer "${this.label}" was freed` : `the buffer "${this.label}" was not made yet`,
      );
    }
    return this.#buffer;
  }

  /** Whether there is a buffer. */
  get isRealized(): boolean {
    return this.#buffer !== undefined;
  }

  /** Makes the buffer, or a larger one where it has outgrown its own; what was in that is lost. */
  realize(gpu: Gpu): this {
    if (this.#buffer && this.#buffer.size < this.bytes) this.dispose();
    if (!this.#buffer) {
      this.#buffer = gpu.createBuffer(this.bytes, this.label);
      this.#gpu = gpu;
    }
    return this;
  }

  /** Frees the buffer, if there is one. */
  dispose(): void {
    if (this.#buffer) this.#gpu!.destroyBuffer(this.#buffer);
    this.#buffer = undefined;
  }
}

/**
 * Memory of recordings: hands out whole-buffer slots and reuses released ones. Several recordings may share one if only one
 * of them runs at a time and none expects to find anything there that it didn't write in the same run.
 */
export class Pool {
  readonly slots: Slot[] = [];
  #free: Slot[] = [];
  #users = 0;
  /** Sizes of the slots before the present recording began. */
  #before: number[] = [];

  /** Makes every slot free, for a recording that begins. */
  begin(): void {
    this.#free = [...this.slots];
    this.#before = this.slots.map(({ bytes }) => bytes);
  }

  /** A slot of at least `bytes`: the tightest free one, else the largest free one made larger, else a new one. */
  acquire(bytes: number, label: string): Slot {
    let best = -1;
    this.#free.forEach((slot, i) => {
      const chosen = this.#free[best]!;
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
    const slot = this.#free.splice(best, 1)[0]!;
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
    return this.slots.reduce((sum, slot) => sum + roundedBytes(slot.bytes), 0);
  }

  /** Makes all buffers, for a recording that is about to run. To be undone by {@link Pool.leave}, even after an error. */
  enter(gpu: Gpu): void {
    this.#users++;
    for (const slot of this.slots) slot.realize(gpu);
  }

  /** {@link Pool.leave} for a recording that couldn't be made: what it added or made larger for itself goes as well. */
  abandon(gpu: Gpu): void {
    for (const slot of this.slots.splice(this.#before.length)) slot.dispose();
    this.slots.forEach((slot, i) => slot.bytes = this.#before[i]!);
    this.leave();
    // A buffer that was to grow is gone; the others' recordings want it back.
    for (const slot of this.slots) slot.realize(gpu);
  }

  /** Frees all buffers and forgets the slots once the last recording has left. */
  leave(): void {
    if (--this.#users > 0) return;
    for (const slot of this.slots) slot.dispose();
    this.slots.length = 0;
    this.#free = [];
  }
}
