// Causal attention inside packed sequences. Queries are rows [row, head·D + d] of `q` (leading dimension ld_q), keys
// and values rows of `kv` (ld_kv, from k_offset and v_offset); both may be windows of one qkv buffer. A query row may
// stand for any token of its sequence (query_tokens), so the last block can run on supervised rows only.
// D4 = ceil(D / 4). VEC: D, the leading dimensions and the offsets are multiples of 4.
struct Params {
  tiles: u32, heads: u32, kv_heads: u32,
  ld_q: u32, q_offset: u32,
  ld_kv: u32, k_offset: u32, v_offset: u32,
  // leading dimensions of the gradients, dk at 0-based dk_offset
  ld_dq: u32, dq_offset: u32, ld_dkv: u32, dk_offset: u32, dv_offset: u32,
  window: u32, scale: f32,
  // dk, dv: which query heads of a group this dispatch adds, and whether to what is there
  first_member: u32, members: u32, accumulate: u32,
}
@group(0) @binding(0) var<uniform> params: Params;

//#if VEC
alias Cell = vec4f;
//#else
alias Cell = f32;
//#end

// CHUNK4 vec4s of the result belong to one invocation; a wider head is split over several, each with the whole scores.
const CHUNKS = (D4 + CHUNK4 - 1u) / CHUNK4;

struct Place { tile: u32, head: u32, chunk: u32 }

fn place_of(group: vec3u, groups: vec3u, heads: u32) -> Place {
  let linear = group.x + group.y * groups.x;
  return Place(linear / (heads * CHUNKS), linear / CHUNKS % heads, linear % CHUNKS);
}
