//#include "elements.wgsl"
//#include "math.wgsl"
//#include "vectors.wgsl"
// y = act(gate) · up with x = [rows, 2·columns], the gate first; or y = act(x) with x = [rows, columns] where not GATED.
// act(x) = x · share(x), and times_slope is d · act'(x).
struct Params { rows: u32, columns: u32 }
@group(0) @binding(0) var<uniform> params: Params;
//#if BACKWARD
// x is overwritten with its gradient.
@group(0) @binding(1) var<storage, read> dy: array<Vector>;
@group(0) @binding(2) var<storage, read_write> x: array<Vector>;
//#else
@group(0) @binding(1) var<storage, read> x: array<Vector>;
@group(0) @binding(2) var<storage, read_write> y: array<Vector>;
//#end

//#if SILU
fn share_of(gate: f32) -> f32 { return 1.0 / (1.0 + exp(-gate)); }
fn times_slope_of(d: f32, gate: f32, s: f32) -> f32 { return d * s * (1.0 + gate * (1.0 - s)); }
//#end
//#if GELU
fn share_of(gate: f32) -> f32 { return normal_distribution(gate); }
// Φ + x·φ(x), φ = e^(−x²/2)/√(2π)
fn times_slope_of(d: f32, gate: f32, s: f32) -> f32 { return d * (s + gate * (0.3989422804 * bell(gate))); }
//#end
//#if GELU_TANH
// (1 + tanh(v/2))/2 = σ(v), v = 2·√(2/π)·(x + 0.044715·x³). Beyond ±12, σ is 0 or 1 and its slope 0.
fn near(gate: f32) -> f32 { return -bounded(-bounded(gate, 12.0), 12.0); }
fn argument(gate: f32) -> f32 { return 1.5957691216 * (gate + 0.044715 * gate * gate * gate); }
fn share_of(gate: f32) -> f32 { return sigmoid(argument(near(gate))); }
fn times_slope_of(d: f32, gate: f32, s: f32) -> f32 {
  let n = near(gate);
  return d * (s + n * sigmoid_slope(argument(n)) * (1.5957691216 * (1.0 + 0.134145 * n * n)));
}
//#end

//#if VEC
fn share(gate: Vector) -> Vector {
  return vec4f(share_of(gate.x), share_of(gate.y), share_of(gate.z), share_of(gate.w));
}
fn times_slope(d: Vector, gate: Vector, s: Vector) -> Vector {
  return vec4f(times_slope_of(d.x, gate.x, s.x), times_slope_of(d.y, gate.y, s.y),
               times_slope_of(d.z, gate.z, s.z), times_slope_of(d.w, gate.w, s.w));
}
//#else
fn share(gate: Vector) -> Vector { return share_of(gate); }
fn times_slope(d: Vector, gate: Vector, s: Vector) -> Vector { return times_slope_of(d, gate, s); }
//#end

//#if BACKWARD
@compute @workgroup_size(64)
fn activation_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
//#else
@compute @workgroup_size(64)
fn activation_forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
//#end
  let index = element_of(id, groups);
  let columns = params.columns / VECTOR_WIDTH;
  let row = index / columns;
  if (row >= params.rows) { return; }
  //#if GATED
  let at = row * 2u * columns + index % columns;
  let gate = x[at];
  let up = x[at + columns];
  let s = share(gate);
  //#if BACKWARD
  let d = dy[index];
  x[at] = times_slope(d * up, gate, s);
  x[at + columns] = d * gate * s;
  //#else
  y[index] = gate * s * up;
  //#end
  //#else
  let gate = x[index];
  let s = share(gate);
  //#if BACKWARD
  x[index] = times_slope(dy[index], gate, s);
  //#else
  y[index] = gate * s;
  //#end
  //#end
}
