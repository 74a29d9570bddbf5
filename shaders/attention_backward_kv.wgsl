//#include "attention_io.wgsl"
@group(0) @binding(1) var<storage, read> tiles: array<vec4u>; // (first key token, keys, first query row, end of them)
@group(0) @binding(2) var<storage, read> query_tokens: array<u32>;
@group(0) @binding(3) var<storage, read> q: array<Cell>;
@group(0) @binding(4) var<storage, read> kv: array<Cell>;
@group(0) @binding(5) var<storage, read> dout: array<Cell>;
@group(0) @binding(6) var<storage, read> lse: array<f32>;
@group(0) @binding(7) var<storage, read> delta: array<f32>;
@group(0) @binding(8) var<storage, read_write> result: array<Cell>; // dk and dv

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

// An invocation owns a key and walks the query heads of its group and their rows in order: no atomics, fixed bits.
@compute @workgroup_size(TILE)
fn attention_backward_kv(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                         @builtin(local_invocation_index) lane: u32) {
  let place = place_of(group, groups, params.kv_heads);
  if (place.tile >= params.tiles) { return; }
  let tile = tiles[place.tile];
  if (lane >= tile.y) { return; }
  let key = tile.x + lane;
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
    for (var row = tile.z; row < tile.w; row++) {
      let token = query_tokens[row];
      if (token < key || token - key >= params.window) { continue; }
      let q_at = params.q_offset + row * params.ld_q + head * params.q_stride;
      let dout_at = (row * params.heads + head) * D;
      var score = 0.0;
      var dp = 0.0;
      //#unroll i 0 D4
      score += dot(k_$i, load_q(q_at, $(i)u));
      dp += dot(v_$i, load_dout(dout_at, $(i)u));
      //#end
      //#if CAP
      let p = exp(capped(score) - lse[row * params.heads + head]);
      let ds = p * (dp - delta[row * params.heads + head]) * cap_slope(score) * params.scale;
      //#else
      let p = exp(score * params.scale - lse[row * params.heads + head]);
      let ds = p * (dp - delta[row * params.heads + head]) * params.scale;
      //#end
      //#unroll i 0 CHUNK4
      let part_$i = min(place.chunk * CHUNK4 + $(i)u, D4 - 1u);
      dv_$i += p * load_dout(dout_at, part_$i);
      dk_$i += ds * load_q(q_at, part_$i);
      //#end
    }
  }
  //#unroll i 0 CHUNK4
  store(dk_at, place.chunk * CHUNK4 + $(i)u, dk_$i);
  store(dv_at, place.chunk * CHUNK4 + $(i)u, dv_$i);
  //#end
}
