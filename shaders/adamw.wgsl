//#include "elements.wgsl"
//#include "weight_io.wgsl"
// AdamW as torch.optim.AdamW, with the bias corrections folded into step_size = lr / (1 − β1^t) and
// inverse_root = 1 / sqrt(1 − β2^t) on the host in float64. keep = 1 − lr · weight_decay.
struct Params {
  count: u32,
  beta1: f32, one_minus_beta1: f32, beta2: f32, one_minus_beta2: f32,
  epsilon: f32, step_size: f32, inverse_root: f32, keep: f32,
  first_step: u32,
  // of stochastic rounding: a key for the step and tensor, and the tensor's element that is the first here
  key: u32, first_element: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read> clip: array<f32>; // (norm, factor)
@group(0) @binding(3) var<storage, read_write> weight: array<Word>;
@group(0) @binding(4) var<storage, read_write> moment1: array<f32>;
@group(0) @binding(5) var<storage, read_write> moment2: array<f32>;
//#if LOWER
@group(0) @binding(6) var<storage, read_write> lower: array<u32>;
//#end

fn updated(i: u32, before: f32) -> f32 {
  let g = gradient[i] * clip[1];
  var m = params.one_minus_beta1 * g;
  var v = params.one_minus_beta2 * g * g;
  if (params.first_step == 0u) {
    m += params.beta1 * moment1[i];
    v += params.beta2 * moment2[i];
  }
  moment1[i] = m;
  moment2[i] = v;
  return before * params.keep - params.step_size * m / (sqrt(v) * params.inverse_root + params.epsilon);
}

@compute @workgroup_size(64)
fn adamw(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = element_of(id, groups);
  //#if BF16
  if (2u * index >= params.count) { return; }
  let upper = weight[index];
  var new_upper = upper;
  //#if LOWER
  let rest = lower[index];
  var new_lower = rest;
  //#end
  //#unroll e 0 2
  if (2u * index + $(e)u < params.count) {
    let i = 2u * index + $(e)u;
    //#if LOWER
    let value = updated(i, joined(upper, rest, i));
    //#else
    let value = updated(i, upper_value(upper, i));
    //#end
    let bits = rounded_bits(value, params.key, params.first_element + i);
    new_upper = insertBits(new_upper, bits >> 16u, $(16*e)u, 16u);
    //#if LOWER
    // The distance of the master's bits from the rounded ones, modulo 2^16.
    new_lower = insertBits(new_lower, master_bits(value), $(16*e)u, 16u);
    //#end
  }
  //#end
  weight[index] = new_upper;
  //#if LOWER
  lower[index] = new_lower;
  //#end
  //#else
  if (index < params.count) { weight[index] = updated(index, weight[index]); }
  //#end
}
