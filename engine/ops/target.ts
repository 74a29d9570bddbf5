import { type Gpu, type GpuOptions, openGpu as openDevice } from "../gpu/context.ts";
import type { KernelTarget } from "../gpu/recorder.ts";
import { chooseMatrixUnit, MATRIX_FEATURES, type MatrixType, type MatrixUnit } from "./matrix_unit.ts";

/** Kernel variants that are taken instead of those that suit the adapter, for tests and benchmarks. */
export interface KernelForce {
  /** Matrix products: a tile of engine/ops/matmul.ts by name. */
  readonly gemmTile?: string | undefined;
  /** Reductions of rows: eight rows of one invocation each, or a row of 64. */
  readonly rows?: "lanes" | "workgroup" | undefined;
  /** Attention: eight rows a workgroup, eight that share what they load, or 32. */
  readonly attention?: "lanes" | "shared" | "workgroup" | undefined;
  /** Vector width: numbers that a load takes at most. */
  readonly vectorWidth?: 1 | 4 | undefined;
}

/** What kernels are chosen by besides shapes and the adapter. */
export interface KernelSettings {
  /** Large products run on matrix units of this shape. */
  readonly matrix?: MatrixUnit | undefined;
  readonly force?: KernelForce | undefined;
}

/** How {@link openGpu} opens a GPU: what the device needs, and what kernels are chosen by. */
export interface OpenOptions extends Omit<GpuOptions, "kernels"> {
  /** Large products run on matrix units, their operands rounded to this. Default: everything is f32. */
  matrix?: MatrixType | undefined;
  /** Kernel variants to use, whatever suits the adapter. */
  force?: KernelForce | undefined;
}

/** The settings that a target was opened with. */
export function kernelSettings({ kernels = {} }: KernelTarget): KernelSettings {
  // The GPU layer carries them without looking in; only deviceOptions makes them.
  return kernels as KernelSettings;
}

/** What the GPU layer opens a device with for these options. */
export function deviceOptions({ matrix, force, ...rest }: OpenOptions): GpuOptions {
  const kernels = (gpu: Gpu): KernelSettings => ({ matrix: matrix && chooseMatrixUnit(matrix, gpu), force });
  const features = [...(rest.features ?? []), ...(matrix ? MATRIX_FEATURES : [])];
  return { ...rest, features, kernels };
}

/**
 * Opens the adapter with its own maximal limits, or takes the injected device.
 * @throws GpuUnavailableError when there is no WebGPU, no adapter, or no matrix unit of the type asked for.
 */
export async function openGpu(options: OpenOptions = {}): Promise<Gpu> {
  return await openDevice(deviceOptions(options));
}
