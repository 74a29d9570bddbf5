//#include "elements.wgsl"
// AdamW as torch.optim.AdamW, with the bias corrections folded into step_size = lr / (1 − β1^t) and
// inverse_root = 1 / sqrt(1 − β2^t) on the host in float64. keep = 1 − lr · weight_decay.
struct Params {
  count: u32,
  beta1: f32, one_minus_beta1: f32, beta2: f32, one_minus_beta2: f32,
  epsilon: f32, step_size: f32, inverse_root: f32, keep: f32,
  first_step: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read> clip: array<f32>; // (norm, factor)
@group(0) @binding(3) var<storage, read_write> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> moment1: array<f32>;
@group(0) @binding(5) var<storage, read_write> moment2: array<f32>;

@compute @workgroup_size(64)
fn adamw(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = element_of(id, groups);
  if (i >= params.count) { return; }
  let g = gradient[i] * clip[1];
  var m = params.one_minus_beta1 * g;
  var v = params.one_minus_beta2 * g * g;
  if (params.first_step == 0u) {
    m += params.beta1 * moment1[i];
    v += params.beta2 * moment2[i];
  }
  moment1[i] = m;
  moment2[i] = v;
  weight[i] = weight[i] * params.keep - params.step_size * m / (sqrt(v) * params.inverse_root + params.epsilon);
}
