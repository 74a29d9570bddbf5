//#include "elements.wgsl"
// weight = (1 − λ) · weight + λ · initial, as a step from the nearer side: λ = 0 changes no bit, λ = 1 gives the initial ones.
struct Params { count: u32, lambda: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> initial: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;

@compute @workgroup_size(64)
fn average(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = element_of(id, groups);
  if (i >= params.count) { return; }
  let step = initial[i] - weight[i];
  weight[i] = select(weight[i] + params.lambda * step, initial[i] - (1.0 - params.lambda) * step, params.lambda > 0.5);
}
