//#include "elements.wgsl"
// Rotates the first `rotary` dimensions of each head in place, dimension i with i + rotary/2 (half-split).
// `stride` lies between heads. direction 1 is the forward rotation, −1 its transpose, which is the backward pass.
struct Params { rows: u32, heads: u32, rotary: u32, ld: u32, offset: u32, stride: u32, direction: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<vec2f>; // (cos, sin) of [position, rotary/2]
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn rope(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let pairs = params.rotary / 2u;
  let index = element_of(id, groups);
  let row = index / (params.heads * pairs);
  if (row >= params.rows) { return; }
  let within = index % (params.heads * pairs);
  let pair = within % pairs;
  let at = params.offset + row * params.ld + within / pairs * params.stride + pair;
  let turn = table[positions[row] * pairs + pair];
  let s = turn.y * params.direction;
  let low = x[at];
  let high = x[at + pairs];
  x[at] = low * turn.x - high * s;
  x[at + pairs] = high * turn.x + low * s;
}
