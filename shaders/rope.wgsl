//#include "elements.wgsl"
//#include "vectors.wgsl"
// Rotates the first `rotary` dimensions of each head in place, dimension i with i + rotary/2 (half-split).
// `stride` lies between heads. direction 1 is the forward rotation, −1 its transpose, which is the backward pass.
struct Params { rows: u32, heads: u32, rotary: u32, ld: u32, offset: u32, stride: u32, direction: f32 }
//#if VEC
alias Turns = mat2x4f; // of four dimensions
//#else
alias Turns = vec2f;
//#end
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<Turns>; // (cos, sin) of [position, rotary/2]
@group(0) @binding(3) var<storage, read_write> x: array<Vector>;

@compute @workgroup_size(64)
fn rope(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let pairs = params.rotary / 2u / VECTOR_WIDTH;
  let index = element_of(id, groups);
  let row = index / (params.heads * pairs);
  if (row >= params.rows) { return; }
  let within = index % (params.heads * pairs);
  let pair = within % pairs;
  let at = (params.offset + row * params.ld + within / pairs * params.stride) / VECTOR_WIDTH + pair;
  let turn = table[positions[row] * pairs + pair];
  //#if VEC
  let c = vec4f(turn[0].xz, turn[1].xz);
  let s = vec4f(turn[0].yw, turn[1].yw) * params.direction;
  //#else
  let c = turn.x;
  let s = turn.y * params.direction;
  //#end
  let low = x[at];
  let high = x[at + pairs];
  x[at] = low * c - high * s;
  x[at + pairs] = high * c + low * s;
}
