//#include "elements.wgsl"
//#include "weight_io.wgsl"
// weight = (1 − λ) · weight + λ · initial, as a step from the nearer side: λ = 0 changes no bit, λ = 1 gives the initial ones.
struct Params { count: u32, lambda: f32, key: u32, first_element: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> initial: array<Word>;
@group(0) @binding(2) var<storage, read_write> weight: array<Word>;
//#if LOWER
@group(0) @binding(3) var<storage, read> initial_lower: array<u32>;
@group(0) @binding(4) var<storage, read_write> lower: array<u32>;
//#end

fn mean_of(before: f32, goal: f32) -> f32 {
  let step = goal - before;
  return select(before + params.lambda * step, goal - (1.0 - params.lambda) * step, params.lambda > 0.5);
}

@compute @workgroup_size(64)
fn average(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
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
    let value = mean_of(joined(upper, rest, i), joined(initial[index], initial_lower[index], i));
    new_lower = insertBits(new_lower, master_bits(value), $(16*e)u, 16u);
    //#else
    let value = mean_of(upper_value(upper, i), upper_value(initial[index], i));
    //#end
    let bits = rounded_bits(value, params.key, params.first_element + i);
    new_upper = insertBits(new_upper, bits >> 16u, $(16*e)u, 16u);
  }
  //#end
  weight[index] = new_upper;
  //#if LOWER
  lower[index] = new_lower;
  //#end
  //#else
  if (index < params.count) { weight[index] = mean_of(weight[index], initial[index]); }
  //#end
}
