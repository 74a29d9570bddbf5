import type { Gpu, PipelineEntry } from "./context.ts";
import { compileKernel, paramsBytes, writeParams } from "./kernel.ts";
import { Pool, Slot } from "./pool.ts";
import { type KernelSpan, Profiler } from "./profiler.ts";
import type { KernelVariant, Launch } from "./variant.ts";
import { encodeCopies, ReadbackBuffer, type ReadBytes, type SlotCopy, type SlotRead } from "./transfer.ts";

/** What a recording may depend on besides shapes: a {@link Gpu} is one, a literal does for a plan. */
export interface KernelTarget {
  /** A software rasteriser: other kernel variants are faster there. */
  readonly isSoftware: boolean;
  /** Kernels may use subgroup functions, on at least 8 invocations. */
  readonly hasSubgroups?: boolean;
  /** The largest buffer that can be bound; larger parameters are split into row shards. */
  readonly maxBindingBytes?: number | undefined;
  /** What the ops choose kernels by; nothing in engine/gpu/ reads it. */
  readonly kernels?: object;
}

/** A buffer, or a window of one (`byteOffset` a multiple of 256), bound to a kernel. */
export type Binding = Slot | { slot: Slot; byteOffset: number; bytes: number };

/** A size that is fixed, or known only when a recording runs. */
export type Dim<S> = number | ((sizes: S) => number);

/** The value of a {@link Dim} in one run. */
export function dim<S>(value: Dim<S>, sizes: S): number {
  return typeof value === "number" ? value : value(sizes);
}

interface Dispatch<S> {
  variant: KernelVariant;
  bindings: Binding[];
  /** `null` skips it. */
  launch: (sizes: S) => Launch | null;
  /** Rough floating-point operations, for slicing submits. */
  work: (sizes: S) => number;
}

const UNIFORM_STRIDE = 256;

/** Above this much estimated work a submit is closed, so that one submit stays at about a second. */
const WORK_PER_SUBMIT = { software: 8e9, hardware: 5e12 };

/**
 * Records dispatches once; `Recording.run` re-encodes them for each step's sizes `S`. Nothing here touches a
 * device, so recording alone gives the memory plan.
 */
export class Recorder<S> {
  readonly #dispatches: Dispatch<S>[] = [];
  readonly #segments: SegmentStart[] = [];
  #nothing: Slot | undefined;

  /**
   * `target` decides between kernel variants; a {@link Gpu} is one, a literal does for a plan. A `pool` of other recordings
   * is shared with them, see {@link Pool}.
   * @internal
   */
  constructor(
    /** What kernel variants are chosen by. */
    readonly target: KernelTarget,
    /**
     * Memory of what is recorded.
     * @internal
     */
    readonly pool: Pool = new Pool(),
  ) {
    pool.begin();
  }

  /**
   * What is recorded from here on, up to the next call, can be run apart: see {@link Recording.segments}.
   * @internal
   */
  segment(name: string): void {
    this.#segments.push({ name, first: this.#dispatches.length });
  }

  /** A small slot for bindings that a launch doesn't use. */
  get nothing(): Slot {
    return this.#nothing ??= this.pool.acquire(16, "nothing");
  }

  /**
   * Adds a dispatch. `bindings` are by the names of the WGSL's storage variables.
   * @throws TypeError for a missing or unknown binding, or one slot bound twice where either is written: WebGPU
   * accepts two writable bindings of one buffer, which is a silent race.
   */
  dispatch(
    variant: KernelVariant,
    bindings: Readonly<Record<string, Binding>>,
    launch: (sizes: S) => Launch | null,
    work: (sizes: S) => number = () => 0,
  ): void {
    const list = variant.bindings.map(({ name }) => {
      const binding = bindings[name];
      if (!binding) throw new TypeError(`kernel ${variant.key}: binding "${name}" is missing`);
      return binding;
    });
    for (const name of Object.keys(bindings)) {
      if (!variant.bindings.some((binding) => binding.name === name)) {
        throw new TypeError(`kernel ${variant.key}: no binding "${name}" in its WGSL`);
      }
    }
    list.forEach((a, i) => {
      list.slice(0, i).forEach((b, j) => {
        const written = [i, j].some((k) => variant.bindings[k]!.access === "read_write");
        if (written && slotOf(a) === slotOf(b)) {
          const [x, y] = [variant.bindings[j]!.name, variant.bindings[i]!.name];
          throw new TypeError(
            `kernel ${variant.key}: "${x}" and "${y}" are the same buffer "${
              slotOf(a).label
            }", and one is written`,
          );
        }
      });
    });
    this.#dispatches.push({ variant, bindings: list, launch, work });
  }

  /**
   * Device memory that {@link Recorder.finish} takes beside the pool: the params of all dispatches.
   * @internal
   */
  get paramsBytes(): number {
    return this.#dispatches.length * UNIFORM_STRIDE;
  }

  /**
   * Device memory that {@link Recorder.finish} takes where nothing else shares the pool.
   * @internal
   */
  get memoryBytes(): number {
    return this.pool.totalBytes + this.paramsBytes;
  }

  /**
   * The variants recorded so far.
   * @internal
   */
  get variants(): KernelVariant[] {
    return this.#dispatches.map(({ variant }) => variant);
  }

  /**
   * Creates buffers, pipelines and bind groups.
   * @internal
   */
  finish(gpu: Gpu): Recording<S> {
    return new Recording(gpu, this.pool, this.#dispatches, this.#segments);
  }
}

/** Where a segment begins: the number of its first dispatch. */
interface SegmentStart {
  name: string;
  first: number;
}

function slotOf(binding: Binding): Slot {
  return binding instanceof Slot ? binding : binding.slot;
}

interface Prepared<S> extends Dispatch<S> {
  entry: PipelineEntry;
  group: GPUBindGroup;
  /** The buffers that the group binds, in the order of the bindings. */
  bound: readonly GPUBuffer[];
  uniformOffset: number;
}

/** A dispatch list that lives on a device. */
export class Recording<S> {
  readonly #prepared: Prepared<S>[];
  readonly #uniforms: GPUBuffer;
  readonly #uniformData: DataView<ArrayBuffer>;
  readonly #readback: ReadbackBuffer;
  /** Runs begun so far. */
  #runs = 0;

  constructor(
    readonly gpu: Gpu,
    readonly pool: Pool,
    dispatches: readonly Dispatch<S>[],
    readonly starts: readonly SegmentStart[] = [],
  ) {
    const bytes = Math.max(1, dispatches.length) * UNIFORM_STRIDE;
    this.#uniformData = new DataView(new ArrayBuffer(bytes));
    this.#uniforms = gpu.createBuffer(bytes, "params", GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
    this.#readback = new ReadbackBuffer(gpu);
    try {
      pool.enter(gpu);
      this.#prepared = dispatches.map((dispatch, index) => {
        const entry = compileKernel(gpu, dispatch.variant);
        const uniformOffset = index * UNIFORM_STRIDE;
        return { ...dispatch, entry, ...this.#bind(dispatch, entry), uniformOffset };
      });
    } catch (error) {
      // Over a limit: what was made so far must not stay.
      pool.abandon(gpu);
      gpu.destroyBuffer(this.#uniforms);
      throw error;
    }
  }

  #bind(
    { variant, bindings }: Dispatch<S>,
    entry: PipelineEntry,
  ): Pick<Prepared<S>, "group" | "bound"> {
    const { device, limits } = this.gpu;
    const entries: GPUBindGroupEntry[] = [
      { binding: 0, resource: { buffer: this.#uniforms, offset: 0, size: paramsBytes(variant) } },
    ];
    variant.bindings.forEach(({ index, name }, i) => {
      const binding = bindings[i]!;
      const { buffer } = slotOf(binding);
      const [offset, size] = binding instanceof Slot ? [0, buffer.size] : [binding.byteOffset, binding.bytes];
      if (size > limits.maxStorageBufferBindingSize) {
        throw new RangeError(
          `kernel ${variant.key}: "${name}" (${
            slotOf(binding).label
          }) is ${size} bytes, but ${this.gpu.name} binds ` +
            `at most ${limits.maxStorageBufferBindingSize}`,
        );
      }
      entries.push({ binding: index, resource: { buffer, offset, size: Math.ceil(size / 4) * 4 } });
    });
    const group = this.gpu.guard(
      `bind group of ${variant.key}`,
      () => device.createBindGroup({ label: variant.key, layout: entry.layout, entries }),
    );
    return { group, bound: bindings.map((binding) => slotOf(binding).buffer) };
  }

  /** The group of a dispatch, made anew where a slot has another buffer than before. */
  #groupOf(prepared: Prepared<S>): GPUBindGroup {
    const { bindings, bound, entry } = prepared;
    if (bindings.some((binding, i) => slotOf(binding).buffer !== bound[i])) {
      Object.assign(prepared, this.#bind(prepared, entry));
    }
    return prepared.group;
  }

  /**
   * Encodes and submits all dispatches for `sizes`, and copies after them, without waiting.
   * @throws TypeError or RangeError when a launch's params don't fit its kernel.
   */
  submit(sizes: S, copies: readonly SlotCopy[] = [], profiler?: Profiler): void {
    const launches = this.#begin(sizes);
    this.gpu.guard("submit", () => {
      this.gpu.device.queue.writeBuffer(this.#uniforms, 0, this.#uniformData.buffer);
      if (profiler) this.#encodeProfiled(launches, sizes, profiler);
      else this.#encode(launches, sizes, copies);
    });
  }

  /**
   * Like {@link Recording.submit}, a segment at a time: gives each one's name once it is submitted. In between, the caller
   * may free, fill and make buffers that only other segments use; submitting this recording otherwise is not allowed. The
   * copies follow the last segment.
   * @throws TypeError when dispatches were recorded outside of any segment, or another run begins meanwhile.
   */
  *segments(sizes: S, copies: readonly SlotCopy[] = []): Generator<string, void, undefined> {
    if (this.starts[0]?.first !== 0) throw new TypeError("dispatches outside of any segment");
    const launches = this.#begin(sizes);
    this.gpu.guard("params", () => {
      this.gpu.device.queue.writeBuffer(this.#uniforms, 0, this.#uniformData.buffer);
    });
    const run = this.#runs;
    const { starts } = this;
    for (const [i, { name, first }] of starts.entries()) {
      if (run !== this.#runs) {
        throw new TypeError(`segment "${name}": another run of the recording has begun`);
      }
      const isLast = i === starts.length - 1;
      const end = isLast ? this.#prepared.length : starts[i + 1]!.first;
      this.gpu.guard(`submit of ${name}`, () => {
        this.#encode(launches, sizes, isLast ? copies : [], first, end);
      });
      yield name;
    }
  }

  /** Evaluates what every dispatch needs in a run. */
  #begin(sizes: S): (Launch | null)[] {
    this.gpu.throwIfFailed();
    this.#runs++;
    return this.#prepared.map(({ variant, launch, uniformOffset }) => {
      const result = launch(sizes);
      if (result) writeParams(variant, result.params, this.#uniformData, uniformOffset);
      return result;
    });
  }

  #encode(
    launches: (Launch | null)[],
    sizes: S,
    copies: readonly SlotCopy[],
    first = 0,
    end = this.#prepared.length,
  ): void {
    const { device, isSoftware } = this.gpu;
    const limit = isSoftware ? WORK_PER_SUBMIT.software : WORK_PER_SUBMIT.hardware;
    let encoder = device.createCommandEncoder();
    let pass = encoder.beginComputePass();
    let work = 0;
    for (let i = first; i < end; i++) {
      const prepared = this.#prepared[i]!;
      const launch = launches[i];
      if (!launch) continue;
      work += prepared.work(sizes);
      if (work > limit) {
        pass.end();
        device.queue.submit([encoder.finish()]);
        encoder = device.createCommandEncoder();
        pass = encoder.beginComputePass();
        work = 0;
      }
      this.#encodeOne(pass, prepared, launch);
    }
    pass.end();
    encodeCopies(encoder, copies);
    device.queue.submit([encoder.finish()]);
  }

  #encodeProfiled(launches: (Launch | null)[], sizes: S, profiler: Profiler): void {
    const encoder = this.gpu.device.createCommandEncoder();
    this.#prepared.forEach((prepared, i) => {
      const launch = launches[i];
      if (!launch) return;
      const pass = encoder.beginComputePass({
        timestampWrites: profiler.next(prepared.variant.kernel.name, prepared.work(sizes)),
      });
      this.#encodeOne(pass, prepared, launch);
      pass.end();
    });
    profiler.resolve(encoder);
    this.gpu.device.queue.submit([encoder.finish()]);
  }

  #encodeOne(
    pass: GPUComputePassEncoder,
    prepared: Prepared<S>,
    launch: Launch,
  ) {
    const { variant, entry, uniformOffset } = prepared;
    const grid = foldGroups(launch.groups, this.gpu.limits.maxComputeWorkgroupsPerDimension);
    if (grid.includes(0)) return;
    this.gpu.onDispatch?.(variant, launch);
    pass.setPipeline(entry.pipeline);
    pass.setBindGroup(0, this.#groupOf(prepared), [uniformOffset]);
    pass.dispatchWorkgroups(...grid);
  }

  /** Submits, and returns the first `bytes` of each slot asked for, in one readback. */
  async run<const Reads extends readonly SlotRead[] = []>(
    sizes: S,
    reads?: Reads,
  ): Promise<ReadBytes<Reads>> {
    this.submit(sizes);
    return await this.#readback.read(reads ?? ([] as readonly SlotRead[] as Reads));
  }

  /** Like {@link Recording.run} without reads, with a pass for each dispatch; gives their times. */
  async profile(sizes: S): Promise<KernelSpan[]> {
    using profiler = new Profiler(this.gpu, this.#prepared.length);
    this.submit(sizes, [], profiler);
    return await profiler.read();
  }

  dispose(): void {
    this.pool.leave();
    this.gpu.destroyBuffer(this.#uniforms);
    this.#readback.dispose();
  }
}

/** Splits a workgroup count into x and y where it is over the limit of one dimension; kernels guard the excess. */
export function foldGroups(groups: Launch["groups"], limit: number): [number, number, number] {
  if (typeof groups !== "number") {
    const over = groups.find((count) => count > limit);
    if (over !== undefined) {
      throw new RangeError(`${over} workgroups in one dimension, at most ${limit} are allowed`);
    }
    return [...groups];
  }
  if (groups <= limit) return [groups, 1, 1];
  const y = Math.ceil(groups / limit);
  if (y > limit) throw new RangeError(`${groups} workgroups don't fit two dimensions of ${limit}`);
  return [Math.ceil(groups / y), y, 1];
}
