import type { ExpandedSource, TemplateConstants } from "./template.ts";

/** One storage binding of a kernel, as its WGSL declares it. */
export interface KernelBinding {
  /** The WGSL variable. */
  name: string;
  /** Its `@binding` in group 0; 0 is the params. */
  index: number;
  /** Its access mode. */
  access: "read" | "read_write";
}

/** One 4-byte field of a kernel's `struct Params`. */
export interface ParamField {
  /** Name of the field. */
  name: string;
  /** Its WGSL type. */
  type: "u32" | "i32" | "f32";
}

/** A kernel family with constants filled in: data only, so it can be recorded without a device. */
export interface KernelVariant {
  /** The kernel that it is a variant of. */
  readonly kernel: Kernel;
  /** Name and constants: unique in the process, and what compiled pipelines are kept by. */
  readonly key: string;
  /** The constants filled in. */
  readonly constants: TemplateConstants;
  /** The WGSL with them. */
  readonly source: ExpandedSource;
  /** Storage bindings, by ascending index. */
  readonly bindings: readonly KernelBinding[];
  /** Fields of `struct Params`, in their order. */
  readonly params: readonly ParamField[];
}

/** A compute kernel declared by its WGSL file; bindings and params are read from the source, the one truth. */
export interface Kernel {
  /** Its entry point. */
  readonly name: string;
  /**
   * The variant with these constants; the same one for the same constants. @throws TemplateError for a wrong
   * directive.
   */
  variant(constants?: TemplateConstants): KernelVariant;
}

/** What one dispatch needs in one run. */
export interface Launch {
  /** A number for every field of `struct Params`. */
  params: Readonly<Record<string, number>>;
  /** Workgroups: a count that is folded into two dimensions, or explicit dimensions. */
  groups: number | readonly [number, number, number];
}
