import type { Gpu } from "../../engine/gpu/context.ts";
import { openGpu as openEngineGpu, type OpenOptions as EngineOptions } from "../../engine/ops/target.ts";
import type { WebgpuName } from "../settings/shared.ts";
import { openDawn } from "./dawn.ts";

/** How {@link openGpu} opens a GPU. */
export interface OpenOptions extends Omit<EngineOptions, "matrix"> {
  /** Default deno. An injected device is of whatever implementation it is. */
  webgpu?: WebgpuName | undefined;
  /** What operands of large products are rounded to, on the adapter's matrix units; default f32, which is no rounding. */
  matrix?: "f32" | EngineOptions["matrix"] | undefined;
}

/**
 * Opens a GPU. On Linux, a process that sets DENO_WEBGPU_BACKEND=vulkan before its first adapter request (the command line
 * does) never meets OpenGL, which Deno falls back to where Vulkan fails; here that is an error.
 * @throws GpuUnavailableError when there is no adapter, no Dawn, or no matrix unit of the type asked for.
 */
export async function openGpu({ webgpu = "deno", matrix, ...rest }: OpenOptions = {}): Promise<Gpu> {
  const options: EngineOptions = { ...rest, matrix: matrix === "f32" ? undefined : matrix };
  return webgpu === "dawn" && !options.device ? await openDawn(options) : await openEngineGpu(options);
}
