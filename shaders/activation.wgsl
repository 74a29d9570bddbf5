//#include "elements.wgsl"
// SwiGLU: gate_up is [rows, 2·columns], gate first; y = silu(gate) · up.
struct Params { rows: u32, columns: u32 }
@group(0) @binding(0) var<uniform> params: Params;
//#if BACKWARD
// gate_up is overwritten with its gradient.
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> gate_up: array<f32>;
//#else
@group(0) @binding(1) var<storage, read> gate_up: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
//#end

//#if BACKWARD
@compute @workgroup_size(64)
fn swiglu_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
//#else
@compute @workgroup_size(64)
fn swiglu_forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
//#end
  let index = element_of(id, groups);
  let row = index / params.columns;
  if (row >= params.rows) { return; }
  let at = row * 2u * params.columns + index % params.columns;
  let gate = gate_up[at];
  let up = gate_up[at + params.columns];
  let sigmoid = 1.0 / (1.0 + exp(-gate));
  //#if BACKWARD
  let d = dy[index];
  gate_up[at] = d * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
  gate_up[at + params.columns] = d * gate * sigmoid;
  //#else
  y[index] = gate * sigmoid * up;
  //#end
}
