//#include "elements.wgsl"
// weight = (1 − λ) · weight + λ · initial, written as a step so that λ = 0 changes no bit.
struct Params { count: u32, lambda: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> initial: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;

@compute @workgroup_size(64)
fn average(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = element_of(id, groups);
  if (i < params.count) { weight[i] += params.lambda * (initial[i] - weight[i]); }
}
