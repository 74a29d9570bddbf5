import { z } from "zod";
import { type Gpu, type GpuOptions, openGpu as openEngineGpu } from "../engine/gpu/context.ts";
import { openDawn } from "./dawn.ts";

/** WebGPU implementations that a run can choose from: Deno's own, or Dawn, which is fetched at its first use. */
export const WEBGPU_NAMES = ["deno", "dawn"] as const;

/** The setting that chooses one. */
export const webgpuSchema = z.enum(WEBGPU_NAMES).default("deno");

/** How {@link openGpu} opens a GPU. */
export interface OpenOptions extends Omit<GpuOptions, "matrix"> {
  /** Default deno. An injected device is of whatever implementation it is. */
  webgpu?: typeof WEBGPU_NAMES[number];
  /** What operands of large products are rounded to, on the adapter's matrix units; default f32, which is no rounding. */
  matrix?: "f32" | GpuOptions["matrix"];
}

/**
 * Opens a GPU. On Linux this first asks Deno for Vulkan, unless DENO_WEBGPU_BACKEND says otherwise: without a Vulkan
 * driver Deno would silently fall back to OpenGL. It must come before the process's first adapter request.
 * @throws GpuUnavailableError when there is no adapter, no Dawn, or no matrix unit of the type asked for.
 */
export async function openGpu({ webgpu = "deno", matrix, ...rest }: OpenOptions = {}): Promise<Gpu> {
  const options: GpuOptions = { ...rest, matrix: matrix === "f32" ? undefined : matrix };
  if (webgpu === "dawn" && !options.device) return await openDawn(options);
  const variable = "DENO_WEBGPU_BACKEND";
  if (!options.device && Deno.build.os === "linux") {
    const { state } = await Deno.permissions.query({ name: "env", variable });
    if (state === "granted" && !Deno.env.get(variable)) Deno.env.set(variable, "vulkan");
  }
  return await openEngineGpu(options);
}
