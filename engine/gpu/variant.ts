import type { ExpandedSource, TemplateConstants } from "./template.ts";

/** One storage binding of a kernel, as its WGSL declares it. */
export interface KernelBinding {
  name: string;
  index: number;
  access: "read" | "read_write";
}

/** One 4-byte field of a kernel's `struct Params`. */
export interface ParamField {
  name: string;
  type: "u32" | "i32" | "f32";
}

/** A kernel family with constants filled in: data only, so it can be recorded without a device. */
export interface KernelVariant {
  readonly kernel: Kernel;
  readonly key: string;
  readonly constants: TemplateConstants;
  readonly source: ExpandedSource;
  readonly bindings: readonly KernelBinding[];
  readonly params: readonly ParamField[];
}

/** A compute kernel declared by its WGSL file; bindings and params are read from the source, the one truth. */
export interface Kernel {
  readonly name: string;
  variant(constants?: TemplateConstants): KernelVariant;
}

/** What one dispatch needs in one run. */
export interface Launch {
  params: Readonly<Record<string, number>>;
  /** Workgroups: a count that is folded into two dimensions, or explicit dimensions. */
  groups: number | readonly [number, number, number];
}
