//#include "elements.wgsl"
//#include "weight_io.wgsl"
//#include "weight_update.wgsl"
// AdamW as torch.optim.AdamW, with the bias corrections folded into step_size = lr / (1 − β1^t) and
// inverse_root = 1 / sqrt(1 − β2^t) on the host in float64. keep = 1 − lr · weight_decay. With AVERAGE the updated weight
// is averaged with the initial one before it is stored: f32 values have the bits of the two passes.
struct Params {
  count: u32,
  beta1: f32, one_minus_beta1: f32, beta2: f32, one_minus_beta2: f32,
  epsilon: f32, step_size: f32, inverse_root: f32, keep: f32,
  first_step: u32,
  // of stochastic rounding: a key for the step and tensor, and the tensor's element that is the first here
  key: u32, first_element: u32,
  //#if AVERAGE
  lambda: f32,
  //#end
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<Vector>;
@group(0) @binding(2) var<storage, read> clip: array<f32>; // (norm, factor)
@group(0) @binding(3) var<storage, read_write> weight: array<Word>;
@group(0) @binding(4) var<storage, read_write> moment1: array<Vector>;
@group(0) @binding(5) var<storage, read_write> moment2: array<Vector>;
//#if LOWER
@group(0) @binding(6) var<storage, read_write> lower: array<Word>;
//#end
//#if AVERAGE
@group(0) @binding(7) var<storage, read> initial: array<Word>;
//#if LOWER
@group(0) @binding(8) var<storage, read> initial_lower: array<Word>;
//#end
//#end

fn new_value(i: u32, before: Vector) -> Vector {
  let g = gradient[i] * clip[1];
  var m = params.one_minus_beta1 * g;
  var v = params.one_minus_beta2 * g * g;
  if (params.first_step == 0u) {
    m += params.beta1 * moment1[i];
    v += params.beta2 * moment2[i];
  }
  moment1[i] = m;
  moment2[i] = v;
  let updated = before * params.keep - params.step_size * m / (sqrt(v) * params.inverse_root + params.epsilon);
  //#if AVERAGE
  return averaged(i, updated);
  //#else
  return updated;
  //#end
}

@compute @workgroup_size(64)
fn adamw(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  update_weights(element_of(id, groups));
}
