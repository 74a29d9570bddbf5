/** Devices for tests. Deno runs every test file in its own isolate, so `sharedGpu` is one device a file. */
import { type Gpu, type GpuOptions, openGpu } from "../engine/gpu/context.ts";

// Without it Deno may fall back to GL on a machine whose Vulkan driver is missing.
Deno.env.set("DENO_WEBGPU_BACKEND", "vulkan");

let shared: Promise<Gpu> | undefined;

/** The file's device. Await it at the top of the module: its `lost` promise would count as a leak inside a test. */
export function sharedGpu(): Promise<Gpu> {
  return shared ??= openGpu();
}

/** A device of its own, for tests that break it: the first error of a {@link Gpu} stays. */
export function freshGpu(options: GpuOptions = {}): Promise<Gpu> {
  return openGpu(options);
}

/** A plain `GPUDevice` with all limits at their defaults, to be injected. */
export async function plainDevice(): Promise<GPUDevice> {
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) throw new TypeError("no adapter");
  return await adapter.requestDevice();
}
