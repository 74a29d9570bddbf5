//#include "elements.wgsl"
//#include "math.wgsl"
struct Params { count: u32, cap: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn soft_cap(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = element_of(id, groups);
  if (index < params.count) { x[index] = params.cap * hyperbolic_tangent(x[index] / params.cap); }
}
