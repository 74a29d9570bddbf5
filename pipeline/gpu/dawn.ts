import { type Gpu, requestDevice, type WebGpu } from "../../engine/gpu/context.ts";
import { GpuUnavailableError } from "../../engine/gpu/errors.ts";
import { deviceOptions, openGpu, type OpenOptions } from "../../engine/ops/target.ts";

/**
 * Dawn, Chromium's WebGPU. Not in deno.json and no literal in the import: Deno would fetch its 49 MiB for everybody, asked
 * or not.
 */
export const DAWN_PACKAGE = "npm:webgpu@0.6.2";

/** What the package gives: an implementation a set of options. */
interface DawnModule {
  create(options: string[]): WebGpu;
}

/**
 * Dawn itself. It works only as long as what this returns is referred to. `backend` is Dawn's name of one (vulkan, metal,
 * d3d12, null); Dawn chooses by default.
 * @throws GpuUnavailableError when the package can't be had.
 */
export async function createDawn(backend: string | undefined, hasMatrices: boolean): Promise<WebGpu> {
  const { create } = await loadDawn();
  return create([
    ...(backend ? [`backend=${backend}`] : []),
    // Subgroup matrices are experimental.
    ...(hasMatrices ? ["enable-dawn-features=allow_unsafe_apis"] : []),
  ]);
}

/**
 * Opens a GPU through Dawn, which is fetched at its first use; on Linux with Vulkan, unless `backend` says otherwise.
 * @throws GpuUnavailableError when the package can't be had, Dawn finds no adapter, or the adapter has no matrix unit of
 * the type asked for.
 */
export async function openDawn(options: OpenOptions & { backend?: string } = {}): Promise<Gpu> {
  const { backend = Deno.build.os === "linux" ? "vulkan" : undefined, ...rest } = options;
  // onDispose holds it.
  let instance: WebGpu | undefined = await createDawn(backend, options.matrix !== undefined);
  const found = await requestDevice(instance, deviceOptions(rest));
  if (!found) {
    throw new GpuUnavailableError(
      `Dawn (${DAWN_PACKAGE}) found no adapter${
        backend ? ` with its backend ${backend}` : ""
      }. On Linux it needs a ` +
        "newer Vulkan driver than Deno does: Mesa 25 has been seen to work, Mesa 22.3 not; leave --webgpu out to use Deno's",
    );
  }
  const { device, adapterInfo } = found;
  const onDispose = () => {
    if (instance) device.destroy();
    instance = undefined;
  };
  try {
    return await openGpu({ ...rest, device, adapterInfo, onDispose });
  } catch (error) {
    onDispose();
    throw error;
  }
}

async function loadDawn(): Promise<DawnModule> {
  const specifier: string = DAWN_PACKAGE;
  try {
    return await import(specifier);
  } catch (error) {
    throw new GpuUnavailableError(
      `--webgpu dawn needs ${DAWN_PACKAGE}, which could not be loaded: ${(error as Error).message}. ` +
        `With network, "deno cache --no-lock ${DAWN_PACKAGE}" fetches it`,
      { cause: error },
    );
  }
}
