/** Small kernels for the tests of engine/gpu/. */
import { defineKernel } from "../../engine/gpu/kernel.ts";

const SOURCE = `struct Params { count: u32, value: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn NAME(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) { return; }
  y[i] = x[i] + params.value;
}`;

const named = (name: string) =>
  defineKernel({ name, file: `${name}.wgsl`, source: SOURCE.replace("NAME", name) });

/** y = x + value, for `count` elements of a folded grid. */
export const addValue = named("add_value");

/** The same under another name, for times by name. */
export const addAgain = named("add_again");
