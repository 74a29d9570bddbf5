import type { Gpu } from "./context.ts";

/** One dispatch; times in milliseconds, `begin` from the first one's. */
export interface KernelSpan {
  /** The kernel's name. */
  name: string;
  /** When it began, in milliseconds from the first dispatch's beginning. */
  begin: number;
  /** How long it took. */
  milliseconds: number;
  /** Floating-point operations, for matrix products; else 0. */
  flops: number;
}

/** Summed time of all dispatches of one kernel. */
export interface KernelTime {
  name: string;
  milliseconds: number;
  dispatches: number;
  flops: number;
}

/** Times by kernel name, slowest first. */
export function sumByKernel(spans: readonly KernelSpan[]): KernelTime[] {
  const sums = new Map<string, KernelTime>();
  for (const { name, milliseconds, flops } of spans) {
    const sum = sums.get(name) ?? { name, milliseconds: 0, dispatches: 0, flops: 0 };
    sum.milliseconds += milliseconds;
    sum.flops += flops;
    sum.dispatches++;
    sums.set(name, sum);
  }
  return [...sums.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}

/** Times one pass a kernel by timestamp queries: timestamps exist at pass boundaries only. */
export class Profiler {
  readonly #gpu: Gpu;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #staging: GPUBuffer;
  readonly #passes: { name: string; flops: number }[] = [];

  /** @throws TypeError when the device has no `timestamp-query`. */
  constructor(gpu: Gpu, passes: number) {
    if (!gpu.hasTimestamps) {
      throw new TypeError(`${gpu.name} has no timestamp queries, so it can't be profiled`);
    }
    if (passes * 2 > 4096) {
      throw new RangeError(`profiling ${passes} dispatches needs more than 4096 timestamps`);
    }
    this.#gpu = gpu;
    this.#queries = gpu.guard(
      `${passes * 2} timestamps`,
      () => gpu.device.createQuerySet({ type: "timestamp", count: passes * 2 }),
    );
    const bytes = passes * 16;
    this.#resolved = gpu.createBuffer(
      bytes,
      "timestamps",
      GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    );
    this.#staging = gpu.createBuffer(bytes, "timestamps", GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
  }

  /** Timestamp writes for the next pass. */
  next(name: string, flops: number): GPUComputePassTimestampWrites {
    const index = this.#passes.push({ name, flops }) * 2;
    return { querySet: this.#queries, beginningOfPassWriteIndex: index - 2, endOfPassWriteIndex: index - 1 };
  }

  resolve(encoder: GPUCommandEncoder): void {
    const count = this.#passes.length * 2;
    encoder.resolveQuerySet(this.#queries, 0, count, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, count * 8);
  }

  /** Waits for the work; dispatches in their order. */
  async read(): Promise<KernelSpan[]> {
    const { size } = this.#staging;
    const times = await this.#gpu.readMapped(
      this.#staging,
      size,
      (mapped) => new BigInt64Array(mapped.slice().buffer),
    );
    const milliseconds = (from: bigint, to: bigint) => Number(to - from) / 1e6;
    return this.#passes.map((pass, i) => ({
      ...pass,
      begin: milliseconds(times[0]!, times[2 * i]!),
      milliseconds: milliseconds(times[2 * i]!, times[2 * i + 1]!),
    }));
  }

  [Symbol.dispose](): void {
    this.#queries.destroy();
    this.#gpu.destroyBuffer(this.#resolved);
    this.#gpu.destroyBuffer(this.#staging);
  }
}
