/** A WGSL extension: what its `enable` is called, the device feature behind it, and how code shows that it needs it. */
interface Extension {
  name: string;
  feature: string;
  used: RegExp;
}

const EXTENSIONS: readonly Extension[] = [
  { name: "f16", feature: "shader-f16", used: /\bf16\b/ },
  { name: "subgroups", feature: "subgroups", used: /\bsubgroup(?!Matrix|_matrix)[A-Z_]/ },
  {
    name: "chromium_experimental_subgroup_matrix",
    feature: "chromium-experimental-subgroup-matrix",
    used: /\bsubgroup(Matrix|_matrix)/,
  },
];

/** The directives that code needs where the extensions in `enables` must be enabled; on one line, without its end. */
export function directivesOf(code: string, enables: ReadonlySet<string>): string {
  const text = code.replace(/\/\/[^\n]*/g, "");
  const names = EXTENSIONS.filter(({ name, used }) => enables.has(name) && used.test(text)).map(({ name }) =>
    name
  );
  if (!names.length) return "";
  // Dawn's compiler rejects loops whose bounds are the same for all lanes but not seen to be, after a `continue` say.
  const off = names.includes("subgroups") ? "diagnostic(off, subgroup_uniformity); " : "";
  return `enable ${names.join(", ")}; ${off}`;
}

/**
 * Extensions whose `enable` a device's compiler takes, found by trying: Dawn refuses subgroup functions without theirs,
 * naga (Deno) has the functions and refuses the line.
 */
export async function acceptedExtensions(device: GPUDevice): Promise<ReadonlySet<string>> {
  const listed = EXTENSIONS.filter(({ feature }) => device.features.has(feature as GPUFeatureName));
  const accepted = listed.map(async ({ name }) => {
    device.pushErrorScope("validation");
    device.createShaderModule({ code: `enable ${name};\n@compute @workgroup_size(1) fn nothing() {}` });
    const error = await device.popErrorScope().catch(() => true);
    return error ? [] : [name];
  });
  return new Set((await Promise.all(accepted)).flat());
}
