//#include "rows.wgsl"
//#include "vectors.wgsl"
//#if PARTIAL
// Sum of squares of each slab of a gradient, written behind the slabs of the tensors before it.
struct Params { count: u32, slab: u32, first: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<Vector>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(THREADS, ROWS)
fn sum_squares(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
               @builtin(local_invocation_id) local: vec3u) {
  let row = row_of(group, groups, local);
  let begin = row * params.slab / VECTOR_WIDTH;
  let end = min(begin + params.slab / VECTOR_WIDTH, params.count / VECTOR_WIDTH);
  var sum = 0.0;
  for (var i = begin + local.x; i < end; i += THREADS) { sum = plus(sum, gradient[i] * gradient[i]); }
  sum = row_sum(sum, local);
  if (begin < end && local.x == 0u) { partial[params.first + row] = sum; }
}
//#else
// result = (norm, clip factor): min(1, max_norm / (norm + 1e-6)) as torch.nn.utils.clip_grad_norm_; max_norm 0 is off.
struct Params { count: u32, max_norm: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(THREADS, ROWS)
fn clip_factor(@builtin(local_invocation_id) local: vec3u) {
  var sum = 0.0;
  if (local.y == 0u) {
    for (var i = local.x; i < params.count; i += THREADS) { sum += partial[i]; }
  }
  sum = row_sum(sum, local);
  if (local.x != 0u || local.y != 0u) { return; }
  let norm = sqrt(sum);
  var factor = params.max_norm / (norm + 1e-6);
  // Not min(): it would turn a NaN norm into 1 and hide it. An infinite norm without clipping leaves the factor 1, or
  // it would turn finite gradients into zeros.
  let is_nan = (bitcast<u32>(norm) & 0x7fffffffu) > 0x7f800000u;
  if ((params.max_norm == 0.0 && !is_nan) || factor > 1.0) { factor = 1.0; }
  result[0] = norm;
  result[1] = factor;
}
//#end
