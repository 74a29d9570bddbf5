import type { MatrixUnit } from "./matrix_unit.ts";

/** Kernel variants that are taken instead of those that suit the adapter, for tests and benchmarks. */
export interface KernelForce {
  /** Matrix products: a tile of engine/ops/matmul.ts by name. */
  readonly gemmTile?: string;
  /** Reductions of rows: eight rows of one invocation each, or a row of 64. */
  readonly rows?: "lanes" | "workgroup";
  /** Attention: eight rows a workgroup, eight that share what they load, or 32. */
  readonly attention?: "lanes" | "shared" | "workgroup";
  /** Numbers that a load takes at most. */
  readonly cell?: 1 | 4;
}

/** What kernel choice may depend on besides shapes. */
export interface KernelTarget {
  readonly isSoftware: boolean;
  /** Kernels may use subgroup functions, on at least 8 invocations. */
  readonly hasSubgroups?: boolean;
  /** Large products run on matrix units of this shape. */
  readonly matrix?: MatrixUnit;
  /** The largest buffer that can be bound; larger parameters are split into row shards. */
  readonly maxBindingBytes?: number;
  readonly force?: KernelForce;
}
