// Sums of columns in two stages with a fixed order. PARTIAL: one sum a slab of `slab` vectors and column; vector v is
// head v % heads of row v / heads. Otherwise the second stage: result (+)= the partial sums in slab order.
//#if PARTIAL
struct Params { rows: u32, heads: u32, columns: u32, slab: u32, ld: u32, offset: u32, stride: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(64)
fn column_slabs(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = group.x * 64u + lane;
  if (column >= params.columns) { return; }
  let first = group.y * params.slab;
  let last = min(first + params.slab, params.rows * params.heads);
  var head = first % params.heads;
  var at = params.offset + first / params.heads * params.ld + head * params.stride + column;
  var sum = 0.0;
  for (var vector = first; vector < last; vector++) {
    sum += x[at];
    head++;
    at += params.stride;
    if (head == params.heads) {
      head = 0u;
      at += params.ld - params.heads * params.stride; // may wrap around, and back
    }
  }
  partial[group.y * params.columns + column] = sum;
}
//#else
//#include "elements.wgsl"
struct Params { slabs: u32, columns: u32, offset: u32, accumulate: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn column_sums(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let column = element_of(id, groups);
  if (column >= params.columns) { return; }
  let at = params.offset + column;
  var sum = 0.0;
  if (params.accumulate != 0u) { sum = result[at]; }
  for (var slab = 0u; slab < params.slabs; slab++) { sum += partial[slab * params.columns + column]; }
  result[at] = sum;
}
//#end
