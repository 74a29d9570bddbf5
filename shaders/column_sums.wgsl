//#include "elements.wgsl"
// Second stage of a column reduction: target (+)= partials added in slab order.
struct Params { slabs: u32, columns: u32, accumulate: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn column_sums(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let column = element_of(id, groups);
  if (column >= params.columns) { return; }
  var sum = 0.0;
  if (params.accumulate != 0u) { sum = result[column]; }
  for (var slab = 0u; slab < params.slabs; slab++) { sum += partial[slab * params.columns + column]; }
  result[column] = sum;
}
