// delta[row, head] = Σ_d dout · out, the part of the softmax's backward that all keys of a query share.
struct Params { rows: u32, head_dim: u32 } // rows counts (row, head) pairs
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> out: array<f32>;
@group(0) @binding(2) var<storage, read> dout: array<f32>;
@group(0) @binding(3) var<storage, read_write> delta: array<f32>;

//#include "elements.wgsl"

@compute @workgroup_size(64)
fn attention_delta(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = element_of(id, groups);
  if (row >= params.rows) { return; }
  var sum = 0.0;
  for (var i = row * params.head_dim; i < (row + 1u) * params.head_dim; i++) { sum += out[i] * dout[i]; }
  delta[row] = sum;
}
