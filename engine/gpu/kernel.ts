import { expandTemplate } from "./template.ts";
import type { Gpu, PipelineEntry } from "./context.ts";
import { directivesOf } from "./extensions.ts";
import type { Kernel, KernelBinding, KernelVariant, ParamField } from "./variant.ts";

export type { Kernel, KernelVariant };

/** Names taken: pipelines are cached by name. */
const names = new Set<string>();

/** What {@link defineKernel} makes a kernel of. */
export interface KernelDefinition {
  /** Name of the kernel and of its entry point; unique in the process. */
  name: string;
  /** What errors call the source. */
  file: string;
  /** WGSL, with directives of Whorl's templates (`//#if`, `//#unroll`, `//#include`). */
  source: string;
  /** Text by the names that `//#include` uses. */
  includes?: Readonly<Record<string, string>> | undefined;
}

/**
 * Declares a kernel. `source` is a WGSL template with one entry point `name`; constants given to
 * {@link Kernel.variant} become WGSL `const`s (numbers as u32, booleans as bool) and drive `//#if` and `//#unroll`.
 * @throws TypeError when the name is taken.
 */
export function defineKernel(definition: KernelDefinition): Kernel {
  if (names.has(definition.name)) {
    throw new TypeError(`kernel "${definition.name}" is defined twice; pipelines are cached by name`);
  }
  names.add(definition.name);
  const variants = new Map<string, KernelVariant>();
  const kernel: Kernel = {
    name: definition.name,
    variant(constants = {}) {
      const keys = Object.keys(constants).sort();
      const key = `${definition.name}(${
        // true and 1 are different WGSL
        keys.map((name) => `${name}=${constants[name]}`).join(",")})`;
      let variant = variants.get(key);
      if (!variant) {
        const source = expandTemplate(definition.file, definition.source, constants, definition.includes);
        const header = keys.map((name) => {
          const value = constants[name];
          return typeof value === "boolean"
            ? `const ${name}: bool = ${value};`
            : `const ${name}: u32 = ${value}u;`;
        });
        source.code = [...header, source.code].join("\n");
        source.origin.unshift(...header.map(() => ({ file: "(constants)", number: 0 })));
        const bindings = parseBindings(source.code);
        const params = parseParams(source.code, definition.file);
        variant = { kernel, key, constants, source, bindings, params };
        variants.set(key, variant);
      }
      return variant;
    },
  };
  return kernel;
}

function parseBindings(code: string): KernelBinding[] {
  const pattern = /@group\(0\)\s*@binding\((\d+)\)\s*var<storage\s*,\s*(read_write|read)\s*>\s*(\w+)\s*:/g;
  return [...code.matchAll(pattern)]
    .map((m) => ({ index: Number(m[1]), access: m[2] as KernelBinding["access"], name: m[3]! }))
    .sort((a, b) => a.index - b.index);
}

function parseParams(code: string, file: string): ParamField[] {
  const body = /struct\s+Params\s*\{([^}]*)\}/.exec(code)?.[1];
  if (body === undefined) throw new TypeError(`${file}: no "struct Params"`);
  return body.replace(/\/\/[^\n]*/g, "").split(",").map((field) => field.trim()).filter(Boolean).map(
    (field) => {
      const match = /^(\w+)\s*:\s*(u32|i32|f32)$/.exec(field);
      if (!match) throw new TypeError(`${file}: Params field "${field}" is not u32, i32 or f32`);
      return { name: match[1]!, type: match[2] as ParamField["type"] };
    },
  );
}

/**
 * Compiles a variant, or finds it in the device's cache. A compile error surfaces at the next {@link Gpu.check},
 * with the kernel's name and the WGSL file, line and text it is about.
 */
export function compileKernel(gpu: Gpu, variant: KernelVariant): PipelineEntry {
  const cached = gpu.pipelines.get(variant.key);
  if (cached) return cached;
  const { device } = gpu;
  const label = variant.key;
  const explain = async () => {
    const { messages } = await module.getCompilationInfo();
    return messages.filter(({ type }) => type === "error").map((m) => describeMessage(variant, m)).join("\n");
  };
  // On the first line, so that line numbers stay.
  const code = directivesOf(variant.source.code, gpu.enables) + variant.source.code;
  const module: GPUShaderModule = gpu.guard(
    `kernel ${label}`,
    () => device.createShaderModule({ label, code }),
    { explain },
  );
  const layout = gpu.guard(`layout of ${label}`, () =>
    device.createBindGroupLayout({
      label,
      entries: [
        {
          binding: 0,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: paramsBytes(variant) },
        },
        ...variant.bindings.map(({ index, access }): GPUBindGroupLayoutEntry => ({
          binding: index,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: access === "read" ? "read-only-storage" : "storage" },
        })),
      ],
    }));
  const pipeline = gpu.guard(`pipeline of ${label}`, () =>
    device.createComputePipeline({
      label,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: variant.kernel.name },
    }));
  const entry = { pipeline, layout };
  gpu.pipelines.set(label, entry);
  return entry;
}

function describeMessage(variant: KernelVariant, message: GPUCompilationMessage): string {
  const origin = variant.source.origin[message.lineNum - 1];
  const line = variant.source.code.split("\n")[message.lineNum - 1] ?? "";
  const place = origin ? `${origin.file}:${origin.number}` : `line ${message.lineNum}`;
  return `${place}: ${message.message}\n    ${line.trim()}`;
}

/** Size of the params block in the uniform buffer, a multiple of 16. */
export function paramsBytes(variant: KernelVariant): number {
  return Math.max(16, Math.ceil(variant.params.length / 4) * 16);
}

/**
 * Writes params by name into `view` at `byteOffset`.
 * @throws TypeError when a field is missing or not a number, or a name is not in the WGSL struct.
 */
export function writeParams(
  variant: KernelVariant,
  values: Readonly<Record<string, number>>,
  view: DataView,
  byteOffset: number,
): void {
  const { params } = variant;
  params.forEach(({ name, type }, index) => {
    const value = values[name];
    if (typeof value !== "number") {
      throw new TypeError(`kernel ${variant.key}: param "${name}" is ${value}, expected a number`);
    }
    if (type === "f32") return view.setFloat32(byteOffset + index * 4, value, true);
    // A whole number in range is its own conversion.
    if (value !== (type === "u32" ? value >>> 0 : value | 0)) {
      throw new RangeError(`kernel ${variant.key}: param "${name}" is ${value}, expected a ${type}`);
    }
    view.setUint32(byteOffset + index * 4, value, true);
  });
  // Every field was there, so only a larger count can hide an unknown name; this runs for every dispatch of a step.
  let given = 0;
  for (const _ in values) given++;
  if (given === params.length) return;
  const unknown = Object.keys(values).find((name) => !params.some((field) => field.name === name));
  throw new TypeError(`kernel ${variant.key}: no param "${unknown}" in its WGSL`);
}
