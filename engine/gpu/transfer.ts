import type { Gpu } from "./context.ts";
import type { Slot } from "./pool.ts";

/** Buffers that grow with what a step reads do so in strides of this, so that a few rows more are no new buffer. */
export const GROWTH_BYTES = 16 << 10;

/** What is read of a slot: its first `bytes`, or as many from `byteOffset` on. */
export interface SlotRead {
  slot: Slot;
  bytes: number;
  byteOffset?: number;
}

/** The bytes of each read, in order. */
export type ReadBytes<Reads extends readonly SlotRead[]> = {
  -readonly [Index in keyof Reads]: Uint8Array<ArrayBuffer>;
};

/** A growing MAP_READ buffer: several slots are copied into it and mapped once. */
export class ReadbackBuffer {
  #buffer: GPUBuffer | undefined;

  constructor(readonly gpu: Gpu) {}

  /**
   * Copies the first `bytes` (or a window) of each slot to the host and waits for all submitted work.
   * @throws the first GPU error seen so far, so that a rejected dispatch never gives numbers.
   */
  async read<const Reads extends readonly SlotRead[]>(reads: Reads): Promise<ReadBytes<Reads>> {
    const { gpu } = this;
    const padded = reads.map(({ bytes }) => Math.ceil(bytes / 4) * 4);
    const total = Math.max(16, padded.reduce((sum, bytes) => sum + bytes, 0));
    if (!this.#buffer || this.#buffer.size < total) {
      this.dispose();
      const size = Math.ceil(total / GROWTH_BYTES) * GROWTH_BYTES;
      this.#buffer = gpu.createBuffer(size, "readback", GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    }
    const buffer = this.#buffer;
    gpu.guard("readback", () => {
      const encoder = gpu.device.createCommandEncoder();
      let offset = 0;
      reads.forEach(({ slot, byteOffset = 0 }, i) => {
        if (padded[i]) encoder.copyBufferToBuffer(slot.buffer, byteOffset, buffer, offset, padded[i]);
        offset += padded[i]!;
      });
      gpu.device.queue.submit([encoder.finish()]);
    });
    return await gpu.readMapped(buffer, total, (mapped) => {
      let offset = 0;
      const copies = reads.map(({ bytes }, i) => {
        const out = mapped.slice(offset, offset + bytes);
        offset += padded[i]!;
        return out;
      });
      return copies as ReadBytes<Reads>;
    });
  }

  dispose(): void {
    if (this.#buffer) this.gpu.destroyBuffer(this.#buffer);
    this.#buffer = undefined;
  }
}

const STAGING_BYTES = 8 << 20;

/** Reads a window of a slot in pieces of at most 8 MiB, so that host memory stays bounded. */
export async function readSlot(
  gpu: Gpu,
  slot: Slot,
  byteOffset: number,
  bytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const staging = new ReadbackBuffer(gpu);
  try {
    const out = new Uint8Array(bytes);
    for (let at = 0; at < bytes; at += STAGING_BYTES) {
      const length = Math.min(STAGING_BYTES, bytes - at);
      const [piece] = await staging.read([{ slot, bytes: length, byteOffset: byteOffset + at }]);
      out.set(piece, at);
    }
    return out;
  } finally {
    staging.dispose();
  }
}

/** Lets the device take the writes so far and give their host memory back, without waiting for it. */
export function submitWrites(gpu: Gpu): void {
  gpu.guard("writes", () => gpu.device.queue.submit([]));
}

/** A place in a slot. */
export interface SlotPlace {
  slot: Slot;
  byteOffset?: number;
}

/** `bytes` (a multiple of 4) of one slot go to another. */
export interface SlotCopy {
  from: SlotPlace;
  to: SlotPlace;
  bytes: number;
}

/** Adds copies to what is being encoded. */
export function encodeCopies(encoder: GPUCommandEncoder, copies: readonly SlotCopy[]): void {
  for (const { from, to, bytes } of copies) {
    const [source, target] = [from.slot.buffer, to.slot.buffer];
    encoder.copyBufferToBuffer(source, from.byteOffset ?? 0, target, to.byteOffset ?? 0, bytes);
  }
}

/** Copies `bytes` of one slot to another on the device, in queue order. */
export function copySlot(gpu: Gpu, from: SlotPlace, to: SlotPlace, bytes: number): void {
  gpu.guard("copy", () => {
    const encoder = gpu.device.createCommandEncoder();
    encodeCopies(encoder, [{ from, to, bytes }]);
    gpu.device.queue.submit([encoder.finish()]);
  });
}
