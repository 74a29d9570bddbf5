import assert from "node:assert/strict";
import { directivesOf } from "../../engine/gpu/extensions.ts";
import { compileKernel, defineKernel } from "../../engine/gpu/kernel.ts";
import { freshGpu, sharedGpu } from "../gpu_device.ts";

const gpu = await sharedGpu();
const all = new Set(["f16", "subgroups", "chromium_experimental_subgroup_matrix"]);
const params = "struct Params { count: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n";

Deno.test("directives: what the code uses, where the device's compiler wants it said", () => {
  const cases: [string, string][] = [
    ["let x = 1.0;", ""],
    ["let x = f16(1.0); // subgroupAdd", "enable f16; "],
    ["let x = subgroupAdd(1.0);", "enable subgroups; diagnostic(off, subgroup_uniformity); "],
    [
      "@builtin(subgroup_invocation_id) lane: u32",
      "enable subgroups; diagnostic(off, subgroup_uniformity); ",
    ],
    ["subgroupMatrixStore<row_major>(&x, 0, y, 8)", "enable chromium_experimental_subgroup_matrix; "],
    [
      "var x: subgroup_matrix_left<f16, 8, 8>; let y = subgroupBroadcast(1, 0);",
      "enable f16, subgroups, chromium_experimental_subgroup_matrix; diagnostic(off, subgroup_uniformity); ",
    ],
    ["let half16 = my_subgroups;", ""],
  ];
  for (const [code, expected] of cases) assert.equal(directivesOf(code, all), expected, code);
  for (const [code] of cases) assert.equal(directivesOf(code, new Set()), "", code);
  assert.equal(directivesOf("f16 subgroupAdd", new Set(["f16"])), "enable f16; ");
});

Deno.test({
  name: "a kernel with subgroup functions compiles on this device, whatever its compiler wants said",
  ignore: !gpu.hasSubgroups,
  fn: async () => {
    const kernel = defineKernel({
      name: "uses_subgroups",
      file: "uses_subgroups.wgsl",
      source: params + "@group(0) @binding(1) var<storage, read_write> y: array<u32>;\n" +
        "@compute @workgroup_size(8)\nfn uses_subgroups(@builtin(subgroup_invocation_id) lane: u32) {\n" +
        "  y[lane] = subgroupShuffle(params.count, 0u);\n}",
    });
    compileKernel(gpu, kernel.variant());
    await gpu.check();
  },
});

Deno.test({
  name: "line numbers of errors stay with the directives in front",
  ignore: !gpu.hasSubgroups,
  sanitizeOps: false,
  fn: async () => {
    using broken = await freshGpu();
    const kernel = defineKernel({
      name: "broken_subgroups",
      file: "broken_subgroups.wgsl",
      source: params + "@compute @workgroup_size(8)\nfn broken_subgroups() {\n" +
        "  let x = subgroupShuffle(1u, 0u);\n  let y: u32 = 1.5;\n}",
    });
    compileKernel(broken, kernel.variant());
    await assert.rejects(broken.check(), /broken_subgroups\.wgsl:6: [^]*\n {4}let y: u32 = 1\.5;/);
  },
});
