// Causal attention inside packed sequences. Queries are the D-vectors at q_offset + row·ld_q + head·q_stride of `q`, keys
// and values those of `kv` (ld_kv, kv_stride, from k_offset and v_offset); both may be windows of one qkv buffer. A query
// row may stand for any token of its sequence (query_tokens), so the last block can run on supervised rows only.
// D4 = ceil(D / 4). VEC: D, the leading dimensions, the strides and the offsets are multiples of 4.
struct Params {
  tiles: u32, heads: u32, kv_heads: u32,
  ld_q: u32, q_offset: u32, q_stride: u32,
  ld_kv: u32, k_offset: u32, v_offset: u32, kv_stride: u32,
  // where the gradients lie
  ld_dq: u32, dq_offset: u32, dq_stride: u32,
  ld_dkv: u32, dk_offset: u32, dv_offset: u32, dkv_stride: u32,
  window: u32, scale: f32, cap: f32,
  // dk, dv: which query heads of a group this dispatch adds, and whether to what is there
  first_member: u32, members: u32, accumulate: u32,
}
@group(0) @binding(0) var<uniform> params: Params;

//#if CAP
//#include "math.wgsl"

// Scaled scores s become cap·tanh(s / cap); the slope is the derivative of that.
fn capped(score: f32) -> f32 { return params.cap * hyperbolic_tangent(score * params.scale / params.cap); }
fn cap_slope(score: f32) -> f32 { return hyperbolic_tangent_slope(score * params.scale / params.cap); }
//#end

//#if VEC
alias Vector = vec4f;
//#else
alias Vector = f32;
//#end

// CHUNK4 vec4s of the result belong to one invocation; a wider head is split over several, each with the whole scores.
const CHUNKS = (D4 + CHUNK4 - 1u) / CHUNK4;

// Whether the query of a token sees a key, and the first key that it may see of a sequence that begins at `start`.
fn sees(token: u32, key: u32) -> bool { return key <= token && token - key < params.window; }
fn first_key(start: u32, token: u32) -> u32 {
  return select(start, max(start, token - params.window + 1u), token >= params.window);
}

struct Place { tile: u32, head: u32, chunk: u32 }

fn place_of(group: vec3u, groups: vec3u, heads: u32) -> Place {
  let linear = group.x + group.y * groups.x;
  return Place(linear / (heads * CHUNKS), linear / CHUNKS % heads, linear % CHUNKS);
}
