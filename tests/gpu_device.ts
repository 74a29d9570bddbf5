/**
 * Devices for tests. Deno runs every test file in its own isolate, so `sharedGpu` is one device a file.
 * WHORL_TEST_WEBGPU=dawn runs the tests on Dawn, which `deno test --no-lock` fetches if need be.
 */
import type { Gpu } from "../engine/gpu/context.ts";
import { openGpu, type OpenOptions } from "../engine/ops/target.ts";
import { throttleDawnPolling } from "../cli/host.ts";
import { createDawn, openDawn } from "../pipeline/gpu/dawn.ts";

// Without it Deno may fall back to GL on a machine whose Vulkan driver is missing.
Deno.env.set("DENO_WEBGPU_BACKEND", "vulkan");

/** The tests run on Dawn. */
export const onDawn: boolean = Deno.env.get("WHORL_TEST_WEBGPU") === "dawn";
if (onDawn) throttleDawnPolling();
const open = onDawn ? openDawn : openGpu;

let shared: Promise<Gpu> | undefined;

/** The file's device. Await it at the top of the module: its `lost` promise would count as a leak inside a test. */
export function sharedGpu(): Promise<Gpu> {
  return shared ??= open();
}

/** A device of its own, for tests that break it: the first error of a {@link Gpu} stays. */
export function freshGpu(options: OpenOptions = {}): Promise<Gpu> {
  return open(options);
}

/** Dawn ends when nothing refers to what it was created as. */
const instances: unknown[] = [];

/** A plain `GPUDevice` with all limits at their defaults, to be injected. */
export async function plainDevice(): Promise<GPUDevice> {
  const webgpu = onDawn ? await createDawn("vulkan", false) : navigator.gpu;
  instances.push(webgpu);
  const adapter = await webgpu.requestAdapter();
  if (!adapter) throw new TypeError("no adapter");
  return await adapter.requestDevice();
}
