//#include "elements.wgsl"
// Rows by index. GATHER: y[r] = x[index[r]]. Otherwise scatter: y[index[r]] += x[r], the indices being distinct.
struct Params { rows: u32, columns: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

//#if GATHER
@compute @workgroup_size(64)
fn gather_rows(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
//#else
@compute @workgroup_size(64)
fn scatter_add_rows(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
//#end
  let element = element_of(id, groups);
  let row = element / params.columns;
  if (row >= params.rows) { return; }
  let far = index[row] * params.columns + element % params.columns;
  //#if GATHER
  y[element] = x[far];
  //#else
  y[far] += x[element];
  //#end
}
