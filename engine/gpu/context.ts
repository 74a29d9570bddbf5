import { DeviceLostError, GpuUnavailableError, GpuValidationError, OutOfMemoryError } from "./errors.ts";
import { acceptedExtensions } from "./extensions.ts";
import type { KernelVariant, Launch } from "./variant.ts";

/** What `navigator.gpu` is, of any WebGPU implementation. */
export type WebGpu = GPU;

/** How to open a GPU. With `device`, that device is used as it is and `powerPreference` is ignored. */
export interface GpuOptions {
  /** Which adapter to ask for where there are several. Default "high-performance". */
  powerPreference?: GPUPowerPreference | undefined;
  /** A device of any WebGPU implementation; the caller keeps ownership. */
  device?: GPUDevice | undefined;
  /** What its adapter says of itself, where the device tells less (Dawn's leave matrix shapes out). */
  adapterInfo?: GPUAdapterInfo | undefined;
  /** Called by {@link Gpu.dispose}, to hand an injected device's ownership over. */
  onDispose?: (() => void) | undefined;
  /** Device features to ask for beside those that the engine always wants, where the adapter has them. */
  features?: readonly string[] | undefined;
  /** Lowers limits of the device, to see how the program behaves on a smaller one. */
  limits?: Partial<GpuLimits> | undefined;
  /**
   * What the ops choose kernels by, made of the open device; may throw GpuUnavailableError.
   * @internal
   */
  kernels?: ((gpu: Gpu) => object) | undefined;
}

/** The limits that the engine plans with. */
export interface GpuLimits {
  /** Bytes of a buffer. */
  maxBufferSize: number;
  /** Bytes of a buffer that a kernel sees at once. */
  maxStorageBufferBindingSize: number;
  /** Workgroups of a dispatch along each of its dimensions. */
  maxComputeWorkgroupsPerDimension: number;
  /** Invocations of a workgroup. */
  maxComputeInvocationsPerWorkgroup: number;
  /** Bytes of memory that the invocations of a workgroup share. */
  maxComputeWorkgroupStorageSize: number;
  /** Storage buffers of a kernel. */
  maxStorageBuffersPerShaderStage: number;
}

const LIMIT_NAMES: (keyof GpuLimits)[] = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxComputeWorkgroupsPerDimension",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupStorageSize",
  "maxStorageBuffersPerShaderStage",
];

const SOFTWARE_ADAPTER = /llvmpipe|lavapipe|swiftshader|softpipe|microsoft basic render|warp/i;

/** A compiled kernel variant. */
export interface PipelineEntry {
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
}

/** A kernel is compiled once for a device, however often that is injected. */
const devicePipelines = new WeakMap<GPUDevice, Map<string, PipelineEntry>>();

/**
 * An open GPU: what it is, what it allows, how much of its memory is taken, and the errors it reports. Models are loaded
 * into it; whoever opened it disposes of it, after what lives there.
 */
export class Gpu {
  /** Name of the adapter as its driver gives it. */
  readonly name: string;
  /** A software rasteriser: other kernel variants are faster there, and device memory is host memory. */
  readonly isSoftware: boolean;
  /** The device's limits, or the lower ones that it was opened with. */
  readonly limits: Readonly<GpuLimits>;
  /** Kernels can be timed (feature `timestamp-query`). */
  readonly hasTimestamps: boolean;
  /** WGSL's subgroup functions can be used, on at least 8 invocations. */
  readonly hasSubgroups: boolean;
  /**
   * What the ops choose kernels by; nothing in engine/gpu/ reads it.
   * @internal
   */
  readonly kernels: object;
  /** What the adapter says of itself, the implementation's own additions included. */
  readonly adapterInfo: Readonly<Record<string, unknown>>;
  /**
   * Sees every dispatch of this GPU as it is encoded; for benchmarks and tests.
   * @internal
   */
  onDispatch: ((variant: KernelVariant, launch: Launch) => void) | undefined;
  /**
   * Compiled pipelines of the device by variant key. Only engine/gpu/ uses it.
   * @internal
   */
  readonly pipelines: Map<string, PipelineEntry>;
  #allocatedBytes = 0;
  #peakBytes = 0;
  /** The failure of the earliest call: explaining an error takes time, and later ones are its consequences. */
  #failure: { order: number; error: Error } | undefined;
  #order = 0;
  #pending: Promise<void>[] = [];
  readonly #onDispose: () => void;

  /**
   * {@link openGpu} opens one. `enables`: WGSL extensions that a kernel using them must enable.
   * @internal
   */
  constructor(
    readonly device: GPUDevice,
    info: GPUAdapterInfo | undefined,
    options: GpuOptions,
    readonly enables: ReadonlySet<string> = new Set(),
  ) {
    this.name = info?.description || info?.device || info?.vendor || "unnamed adapter";
    this.isSoftware = info?.isFallbackAdapter === true || SOFTWARE_ADAPTER.test(this.name);
    this.hasTimestamps = device.features.has("timestamp-query");
    this.hasSubgroups = device.features.has("subgroups") && (info?.subgroupMinSize ?? 0) >= 8;
    this.adapterInfo = (info ?? {}) as unknown as Readonly<Record<string, unknown>>;
    this.pipelines = devicePipelines.get(device) ?? new Map();
    devicePipelines.set(device, this.pipelines);
    this.#onDispose = options.onDispose ?? (() => {});
    const limits = {} as GpuLimits;
    for (const name of LIMIT_NAMES) {
      limits[name] = Math.min(device.limits[name], options.limits?.[name] ?? Infinity);
    }
    // 2^31 − 1 is a common limit and no multiple of 4; buffer and binding sizes must be.
    limits.maxBufferSize -= limits.maxBufferSize % 256;
    limits.maxStorageBufferBindingSize -= limits.maxStorageBufferBindingSize % 256;
    this.limits = limits;
    this.kernels = options.kernels?.(this) ?? {};
    device.lost.then((lost) => {
      this.#fail(-1, new DeviceLostError(`the GPU device was lost (${lost.reason}): ${lost.message}`));
    });
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { message } = (event as GPUUncapturedErrorEvent).error;
      this.#fail(this.#order++, new GpuValidationError(`uncaptured WebGPU error: ${message}`));
    });
  }

  /** The device was opened with this feature. */
  hasFeature(name: string): boolean {
    return this.device.features.has(name as GPUFeatureName);
  }

  #fail(order: number, error: Error): void {
    if (!this.#failure || order < this.#failure.order) this.#failure = { order, error };
  }

  /** Bytes of all live buffers, and their highest sum so far. */
  get memory(): { allocatedBytes: number; peakBytes: number } {
    return { allocatedBytes: this.#allocatedBytes, peakBytes: this.#peakBytes };
  }

  /** The largest buffer that can be made and bound whole. */
  get maxBindingBytes(): number {
    return Math.min(this.limits.maxBufferSize, this.limits.maxStorageBufferBindingSize);
  }

  /**
   * Waits until the device has taken all writes so far: each is staged in host memory until then.
   * @throws the first GPU error seen.
   */
  async flush(): Promise<void> {
    this.device.queue.submit([]);
    try {
      await this.device.queue.onSubmittedWorkDone();
    } catch (error) {
      await this.throwCause(error);
    }
    await this.check();
  }

  /** Counts the peak anew from here. */
  resetPeak(): void {
    this.#peakBytes = this.#allocatedBytes;
  }

  /**
   * Runs `create` inside error scopes; an error of any kind is thrown by the next {@link Gpu.check}. `explain` may
   * add what is known of a validation error.
   * @internal
   */
  guard<T>(
    what: string,
    create: () => T,
    options: { requestedBytes?: number; explain?: (error: GPUError) => Promise<string> } = {},
  ): T {
    const { device } = this;
    const order = this.#order++;
    device.pushErrorScope("internal");
    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    let value: T;
    const scopes: Promise<GPUError | null>[] = [];
    try {
      value = create();
    } finally {
      for (let i = 0; i < 3; i++) scopes.push(device.popErrorScope());
    }
    const done = Promise.all(scopes).then(async ([validation, memory, internal]) => {
      if (memory) {
        throw new OutOfMemoryError(
          `out of GPU memory: ${what}: ${memory.message}`,
          options.requestedBytes ?? 0,
        );
      }
      const error = validation ?? internal;
      if (error) throw new GpuValidationError(`${what}: ${await options.explain?.(error) || error.message}`);
    });
    this.#pending.push(done.catch((error) => this.#fail(order, error)));
    return value;
  }

  /** Waits for all error scopes so far and throws the first error seen, if any. */
  async check(): Promise<void> {
    const pending = this.#pending;
    this.#pending = [];
    await Promise.all(pending);
    this.throwIfFailed();
  }

  /**
   * Throws the first error that is already known.
   * @internal
   */
  throwIfFailed(): void {
    if (this.#failure) throw this.#failure.error;
  }

  /**
   * Throws what made a WebGPU promise reject with `error`: the first failure, or that error itself.
   * @internal
   */
  async throwCause(error: unknown): Promise<never> {
    // A lost device rejects what is pending before it reports the loss.
    let timer: ReturnType<typeof setTimeout> | undefined;
    const soon = new Promise((resolve) => timer = setTimeout(resolve, 100));
    await Promise.race([this.device.lost, soon]);
    clearTimeout(timer);
    await this.check();
    throw error;
  }

  /**
   * Waits for all submitted work, and gives what `read` makes of the first `bytes` of a MAP_READ buffer.
   * @throws the first GPU error seen, so that a rejected dispatch never gives numbers; DeviceLostError.
   * @internal
   */
  async readMapped<T>(buffer: GPUBuffer, bytes: number, read: (mapped: Uint8Array) => T): Promise<T> {
    await this.check();
    try {
      await buffer.mapAsync(GPUMapMode.READ, 0, bytes);
      // One getMappedRange a mapping: it copies the whole range on some implementations.
      const value = read(new Uint8Array(buffer.getMappedRange(0, bytes)));
      buffer.unmap();
      this.throwIfFailed();
      return value;
    } catch (error) {
      return await this.throwCause(error);
    }
  }

  /**
   * Creates a buffer of `bytes` (rounded up to 16) and counts it.
   * @throws OutOfMemoryError when `bytes` is over the device's buffer limit.
   * @internal
   */
  createBuffer(bytes: number, label: string, usage: GPUBufferUsageFlags = storageUsage()): GPUBuffer {
    const size = roundedBytes(bytes);
    if (size > this.limits.maxBufferSize) {
      throw new OutOfMemoryError(
        `buffer "${label}" needs ${size} bytes, but ${this.name} allows ${this.limits.maxBufferSize} a buffer`,
        size,
      );
    }
    const buffer = this.guard(
      `buffer "${label}" of ${size} bytes`,
      () => this.device.createBuffer({ label, size, usage }),
      { requestedBytes: size },
    );
    this.#allocatedBytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#allocatedBytes);
    return buffer;
  }

  /**
   * Frees a buffer made by {@link Gpu.createBuffer}.
   * @internal
   */
  destroyBuffer(buffer: GPUBuffer): void {
    this.#allocatedBytes -= buffer.size;
    buffer.destroy();
  }

  /**
   * Writes host data to a storage buffer. `data` must be a multiple of 4 bytes long.
   * @internal
   */
  write(buffer: GPUBuffer, data: ArrayBufferView<ArrayBuffer>, byteOffset = 0): void {
    // Views other than Uint8Array kill one WebGPU implementation (Float16Array), so every view goes as bytes.
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (bytes.byteLength) this.device.queue.writeBuffer(buffer, byteOffset, bytes);
  }

  /** Destroys the device unless the caller injected and kept it. */
  dispose(): void {
    this.#onDispose();
  }

  /** {@link Gpu.dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Bytes that a buffer of this size takes. */
export function roundedBytes(bytes: number): number {
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

/** Usage of a storage buffer that can be uploaded, copied and read back. */
function storageUsage(): GPUBufferUsageFlags {
  return GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
}

/**
 * Asks an implementation for an adapter, and for a device with all of the adapter's limits; undefined without an adapter.
 * The caller owns the device.
 * @throws GpuUnavailableError when there is an adapter that gives no device.
 */
export async function requestDevice(
  webgpu: WebGpu,
  { powerPreference = "high-performance", features = [] }: GpuOptions,
): Promise<{ device: GPUDevice; adapterInfo: GPUAdapterInfo } | undefined> {
  const adapter = await webgpu.requestAdapter({ powerPreference });
  if (!adapter) return undefined;
  if (isOpenGl(adapter)) {
    throw new GpuUnavailableError(
      `the adapter ${adapter.info.description} is OpenGL's: no Vulkan driver was found. Whorl needs the one of your GPU's ` +
        "vendor, or the software driver (Debian, Ubuntu: apt-get install mesa-vulkan-drivers); with " +
        "DENO_WEBGPU_BACKEND=vulkan in the environment OpenGL is never taken",
    );
  }
  const requiredLimits: Record<string, number> = {};
  for (const name of LIMIT_NAMES) requiredLimits[name] = adapter.limits[name];
  const wanted = ["timestamp-query", "subgroups", ...features] as GPUFeatureName[];
  const listed = wanted.filter((name) => adapter.features.has(name));
  const request = (requiredFeatures: GPUFeatureName[]) =>
    adapter.requestDevice({ requiredLimits, requiredFeatures });
  try {
    // Deno gives subgroups without listing them.
    const device = listed.includes("subgroups")
      ? await request(listed)
      : await request([...listed, "subgroups"]).catch(() => request(listed));
    return { device, adapterInfo: adapter.info };
  } catch (error) {
    throw new GpuUnavailableError(`the adapter ${adapter.info.description} gave no device: ${error}`);
  }
}

/** Limits and features by which Deno's OpenGL fallback (wgpu's GLES backend) is told from Vulkan; info doesn't say it. */
function isOpenGl({ limits, features }: GPUAdapter): boolean {
  const onVulkan = ["shader-f16", "bgra8unorm-storage", "rg11b10ufloat-renderable"] as const;
  return limits.maxBindingsPerBindGroup === 0xffffffff && !onVulkan.some((name) => features.has(name));
}

/**
 * Opens the adapter with its own maximal limits, or takes the injected device.
 * @throws GpuUnavailableError when there is no WebGPU, no adapter, or what `kernels` throws.
 */
export async function openGpu(options: GpuOptions = {}): Promise<Gpu> {
  if (options.device) {
    const { device, adapterInfo = device.adapterInfo } = options;
    return new Gpu(device, adapterInfo, options, await acceptedExtensions(device));
  }
  if (!navigator.gpu) throw new GpuUnavailableError("this runtime has no WebGPU (navigator.gpu is missing)");
  const found = await requestDevice(navigator.gpu, options);
  if (!found) {
    throw new GpuUnavailableError(
      "no GPU adapter was found. On Linux, Whorl needs a Vulkan driver: the one of your GPU's vendor, or the " +
        "software driver (Debian, Ubuntu: apt-get install mesa-vulkan-drivers)",
    );
  }
  const { device, adapterInfo } = found;
  const onDispose = () => device.destroy();
  try {
    return new Gpu(device, adapterInfo, { ...options, onDispose }, await acceptedExtensions(device));
  } catch (error) {
    device.destroy();
    throw error;
  }
}
