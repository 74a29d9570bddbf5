//#include "elements.wgsl"
// Copies each token's keys and values, head by head, to its row of the cache: all keys, then all values.
struct Params {
  rows: u32, heads: u32, head_dim: u32,
  // of the source: leading dimension, first key and value, elements from head to head
  ld: u32, k_offset: u32, v_offset: u32, head_stride: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> key_rows: array<u32>;
@group(0) @binding(2) var<storage, read> kv: array<f32>;
@group(0) @binding(3) var<storage, read_write> cache: array<f32>;

@compute @workgroup_size(64)
fn kv_cache_write(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let element = element_of(id, groups);
  let half = params.heads * params.head_dim;
  let row = element / (2u * half);
  if (row >= params.rows) { return; }
  let within = element % (2u * half);
  let head = within % half / params.head_dim;
  let offset = select(params.k_offset, params.v_offset, within >= half);
  let source = offset + row * params.ld + head * params.head_stride + within % params.head_dim;
  cache[key_rows[row] * 2u * half + within] = kv[source];
}
