//#include "attention_io.wgsl"
@group(0) @binding(1) var<storage, read> tiles: array<vec4u>; // (first key token, keys, first query row, end of them)
@group(0) @binding(2) var<storage, read> query_tokens: array<u32>;
@group(0) @binding(3) var<storage, read> q: array<Vector>;
@group(0) @binding(4) var<storage, read> kv: array<Vector>;
@group(0) @binding(5) var<storage, read> dout: array<Vector>;
@group(0) @binding(6) var<storage, read> lse: array<f32>;
@group(0) @binding(7) var<storage, read> delta: array<f32>;
@group(0) @binding(8) var<storage, read_write> result: array<Vector>; // dk and dv

//#include "attention_load.wgsl"

// What earlier members of the group added.
fn load_start(at: u32, i: u32) -> vec4f {
  var value = vec4f(0.0, 0.0, 0.0, 0.0);
  if (params.accumulate == 0u) { return value; }
  //#if VEC
  if (i < D4) { value = result[at / 4u + i]; }
  //#else
  for (var e = 0u; e < 4u; e++) { if (4u * i + e < D) { value[e] = result[at + 4u * i + e]; } }
  //#end
  return value;
}

// Whether a token is so far on that its window begins behind all keys of the tile.
fn passed(token: u32, tile: vec4u) -> bool {
  return token - min(token, tile.x + tile.y - 1u) >= params.window;
}

// An invocation owns a key and walks the query heads of its group and their rows in order: no atomics, fixed bits.
@compute @workgroup_size(TILE)
fn attention_backward_kv(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                         @builtin(local_invocation_index) lane: u32) {
  let place = place_of(group, groups, params.kv_heads);
  if (place.tile >= params.tiles) { return; }
  let tile = tiles[place.tile];
  // SHARE: as in attention_rows.wgsl.
  //#if SHARE
  let key = tile.x + min(lane, tile.y - 1u);
  //#else
  if (lane >= tile.y) { return; }
  let key = tile.x + lane;
  //#end
  let k_at = params.k_offset + key * params.ld_kv + place.head * params.kv_stride;
  let v_at = params.v_offset + key * params.ld_kv + place.head * params.kv_stride;
  let heads_per_group = params.heads / params.kv_heads;
  //#unroll i 0 D4
  let k_$i = load_kv(k_at, $(i)u);
  let v_$i = load_kv(v_at, $(i)u);
  //#end
  let dk_at = params.dk_offset + key * params.ld_dkv + place.head * params.dkv_stride;
  let dv_at = params.dv_offset + key * params.ld_dkv + place.head * params.dkv_stride;
  //#unroll i 0 CHUNK4
  var dk_$i = load_start(dk_at, place.chunk * CHUNK4 + $(i)u);
  var dv_$i = load_start(dv_at, place.chunk * CHUNK4 + $(i)u);
  //#end
  for (var member = params.first_member; member < params.first_member + params.members; member++) {
    let head = place.head * heads_per_group + member;
    //#if SHARE
    // What is one number a row is loaded for eight rows at once.
    for (var base = tile.z; base < tile.w; base += 8u) {
      let own = min(base + lane, tile.w - 1u);
      let own_token = query_tokens[own];
      if (passed(subgroupShuffle(own_token, 0u), tile)) { break; }
      let own_lse = lse[own * params.heads + head];
      let own_delta = delta[own * params.heads + head];
      let end = min(base + 8u, tile.w);
      for (var row = base; row < end; row++) {
      let token = subgroupShuffle(own_token, row - base);
      let row_lse = subgroupShuffle(own_lse, row - base);
      let row_delta = subgroupShuffle(own_delta, row - base);
    //#else
    for (var row = tile.z; row < tile.w; row++) {
      let token = query_tokens[row];
      if (passed(token, tile)) { break; }
    //#end
      let q_at = params.q_offset + row * params.ld_q + head * params.q_stride;
      let dout_at = (row * params.heads + head) * D;
      //#if SHARE
      //#unroll j 0 (D4+7)/8
      let own_q_$j = load_q(q_at, min($(8*j)u + lane, D4 - 1u));
      let own_dout_$j = load_dout(dout_at, min($(8*j)u + lane, D4 - 1u));
      //#end
      //#unroll i 0 D4
      let q_$i = subgroupShuffle(own_q_$(i/8), $(i%8)u);
      let dout_$i = subgroupShuffle(own_dout_$(i/8), $(i%8)u);
      //#end
      //#if D4 > CHUNK4
      let own_q_part = load_q(q_at, min(place.chunk * CHUNK4 + lane, D4 - 1u));
      let own_dout_part = load_dout(dout_at, min(place.chunk * CHUNK4 + lane, D4 - 1u));
      //#unroll i 0 CHUNK4
      let q_part_$i = subgroupShuffle(own_q_part, $(i)u);
      let dout_part_$i = subgroupShuffle(own_dout_part, $(i)u);
      //#end
      //#end
      if (!sees(token, key)) { continue; }
      //#else
      if (!sees(token, key)) { continue; }
      let row_lse = lse[row * params.heads + head];
      let row_delta = delta[row * params.heads + head];
      //#unroll i 0 D4
      let q_$i = load_q(q_at, $(i)u);
      let dout_$i = load_dout(dout_at, $(i)u);
      //#end
      //#if D4 > CHUNK4
      //#unroll i 0 CHUNK4
      let q_part_$i = load_q(q_at, min(place.chunk * CHUNK4 + $(i)u, D4 - 1u));
      let dout_part_$i = load_dout(dout_at, min(place.chunk * CHUNK4 + $(i)u, D4 - 1u));
      //#end
      //#end
      //#end
      var score = 0.0;
      var dp = 0.0;
      //#unroll i 0 D4
      score += dot(k_$i, q_$i);
      dp += dot(v_$i, dout_$i);
      //#end
      //#if CAP
      let p = exp(capped(score) - row_lse);
      let ds = p * (dp - row_delta) * cap_slope(score) * params.scale;
      //#else
      let p = exp(score * params.scale - row_lse);
      let ds = p * (dp - row_delta) * params.scale;
      //#end
      //#unroll i 0 CHUNK4
      //#if D4 > CHUNK4
      dv_$i += p * dout_part_$i;
      dk_$i += ds * q_part_$i;
      //#else
      dv_$i += p * dout_$i;
      dk_$i += ds * q_$i;
      //#end
      //#end
    }
    //#if SHARE
    }
    //#end
  }
  //#if SHARE
  if (lane >= tile.y) { return; }
  //#end
  //#unroll i 0 CHUNK4
  store(dk_at, place.chunk * CHUNK4 + $(i)u, dk_$i);
  store(dv_at, place.chunk * CHUNK4 + $(i)u, dv_$i);
  //#end
}
