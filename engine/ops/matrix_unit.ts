import type { Gpu } from "../gpu/context.ts";
import { GpuUnavailableError } from "../gpu/errors.ts";

/** What operands of a product are rounded to on matrix units (tensor cores). Sums are f32. */
export type MatrixType = "f16" | "bf16";

/** A shape that the adapter's matrix units multiply at once, by one subgroup: [M, K]·[K, N]. */
export interface MatrixUnit {
  /** Type of the operands. */
  type: MatrixType;
  /** Rows of the result. */
  M: number;
  /** Columns of the result. */
  N: number;
  /** Depth: columns of the left operand, rows of the right one. */
  K: number;
  /** Invocations of the subgroup that multiplies. */
  subgroupSize: number;
}

/** One entry of `GPUAdapterInfo.subgroupMatrixConfigs`, an experiment of Dawn's. */
interface MatrixConfig {
  componentType: string;
  resultComponentType: string;
  M: number;
  N: number;
  K: number;
}

/** Device features that products on matrix units need, beside subgroups. */
export const MATRIX_FEATURES = ["chromium-experimental-subgroup-matrix", "shader-f16"];

/** What the kernel's largest tiles take: 128 columns of two operands in f16 at a depth of 32, and pieces of C on their way. */
const WORKGROUP_BYTES = 25 << 10;

/** What matrix units are found by; a {@link Gpu} is one. */
export type MatrixAdapter = Pick<Gpu, "name" | "limits" | "adapterInfo" | "hasFeature">;

/**
 * The largest shape that multiplies `type` and sums in f32.
 * @throws GpuUnavailableError that says what the adapter offers instead.
 */
export function chooseMatrixUnit(
  type: MatrixType,
  adapter: MatrixAdapter,
): MatrixUnit {
  const { name, limits, adapterInfo } = adapter;
  const { subgroupMatrixConfigs: configs = [], subgroupMinSize = 0, subgroupMaxSize = 0 } = adapterInfo as {
    subgroupMatrixConfigs?: Iterable<MatrixConfig>;
    subgroupMinSize?: number;
    subgroupMaxSize?: number;
  };
  const refuse = (why: string) =>
    new GpuUnavailableError(`products in ${type} on matrix units: ${name} ${why}`);
  const missing = MATRIX_FEATURES.filter((feature) => !adapter.hasFeature(feature));
  if (missing.length) {
    throw refuse(
      `has no ${missing.join(", no ")} in this WebGPU implementation (Dawn has it for some adapters)`,
    );
  }
  const room = limits.maxComputeWorkgroupStorageSize;
  if (room < WORKGROUP_BYTES) {
    throw refuse(`has ${room} bytes of workgroup memory; the kernel needs ${WORKGROUP_BYTES}`);
  }
  const offered = [...configs];
  const fitting = offered.filter((c) =>
    // The kernel rounds to f16: WGSL has no bf16.
    type === "f16" && c.componentType === type && c.resultComponentType === "f32" &&
    // The kernel's tiles are whole multiples of the shape.
    [c.M, c.N, c.K].every((size) => 32 % size === 0)
  );
  if (!fitting.length) {
    const list = offered.map((c) => `${c.componentType}→${c.resultComponentType} ${c.M}×${c.N}×${c.K}`);
    throw refuse(`offers ${list.join(", ") || "none"}, expected ${type}→f32`);
  }
  if (subgroupMinSize !== subgroupMaxSize) {
    throw refuse(`has subgroups of ${subgroupMinSize} to ${subgroupMaxSize}; the kernel needs one size`);
  }
  const { M, N, K } = fitting.reduce((best, c) => c.M * c.N * c.K > best.M * best.N * best.K ? c : best);
  return { type, M, N, K, subgroupSize: subgroupMaxSize };
}
