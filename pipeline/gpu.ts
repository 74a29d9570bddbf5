import { type Gpu, type GpuOptions, openGpu as openEngineGpu } from "../engine/gpu/context.ts";

/**
 * Opens a GPU. On Linux this first asks Deno for Vulkan, unless DENO_WEBGPU_BACKEND says otherwise: without a Vulkan
 * driver Deno would silently fall back to OpenGL. It must come before the process's first adapter request.
 */
export async function openGpu(options: GpuOptions = {}): Promise<Gpu> {
  const variable = "DENO_WEBGPU_BACKEND";
  if (!options.device && Deno.build.os === "linux") {
    const { state } = await Deno.permissions.query({ name: "env", variable });
    if (state === "granted" && !Deno.env.get(variable)) Deno.env.set(variable, "vulkan");
  }
  return await openEngineGpu(options);
}
