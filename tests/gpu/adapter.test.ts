import assert from "node:assert/strict";
import { requestDevice, type WebGpu } from "../../engine/gpu/context.ts";
import { GpuUnavailableError } from "../../engine/gpu/errors.ts";

/** An implementation with one adapter, as far as {@link requestDevice} looks at it. */
function implementation(maxBindingsPerBindGroup: number, features: string[]): WebGpu {
  const adapter = {
    info: { description: "Some GPU" },
    limits: { maxBindingsPerBindGroup },
    features: new Set(features),
    requestDevice: () => Promise.resolve("a device"),
  };
  return { requestAdapter: () => Promise.resolve(adapter) } as unknown as WebGpu;
}

Deno.test("adapter: OpenGL, which Deno falls back to without Vulkan, is refused", async () => {
  // As Deno 2.9.6 describes llvmpipe with DENO_WEBGPU_BACKEND=gl.
  const openGl = implementation(2 ** 32 - 1, ["timestamp-query", "texture-compression-bc"]);
  await assert.rejects(requestDevice(openGl, {}), (error: unknown) => {
    assert.ok(error instanceof GpuUnavailableError);
    assert.match(
      error.message,
      /^the adapter Some GPU is OpenGL's: no Vulkan driver was found\. .*DENO_WEBGPU_BACKEND=vulkan/,
    );
    return true;
  });
});

Deno.test("adapter: Vulkan's are taken, those without a limit of bindings too", async () => {
  for (const vulkan of [implementation(1024, []), implementation(2 ** 32 - 1, ["shader-f16"])]) {
    assert.equal((await requestDevice(vulkan, {}))?.device as unknown, "a device");
  }
});
