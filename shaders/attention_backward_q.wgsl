//#include "attention_io.wgsl"
@group(0) @binding(1) var<storage, read> tiles: array<vec4u>; // as in attention_forward
@group(0) @binding(2) var<storage, read> query_tokens: array<u32>;
@group(0) @binding(3) var<storage, read> q: array<Vector>;
@group(0) @binding(4) var<storage, read> kv: array<Vector>;
@group(0) @binding(5) var<storage, read> dout: array<Vector>; // [query rows, heads·D]
@group(0) @binding(6) var<storage, read> lse: array<f32>; // [query rows, heads]
@group(0) @binding(7) var<storage, read> delta: array<f32>; // [query rows, heads]
@group(0) @binding(8) var<storage, read_write> result: array<Vector>; // dq

//#include "attention_load.wgsl"

@compute @workgroup_size(TILE)
fn attention_backward_q(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                        @builtin(local_invocation_index) lane: u32) {
  let place = place_of(group, groups, params.heads);
  if (place.tile >= params.tiles) { return; }
  let tile = tiles[place.tile];
  //#include "attention_rows.wgsl"
  let q_at = params.q_offset + row * params.ld_q + place.head * params.q_stride;
  let dout_at = (row * params.heads + place.head) * D;
  let kv_head = place.head / (params.heads / params.kv_heads);
  let row_lse = lse[row * params.heads + place.head];
  let row_delta = delta[row * params.heads + place.head];
  //#unroll i 0 D4
  let q_$i = load_q(q_at, $(i)u);
  let dout_$i = load_dout(dout_at, $(i)u);
  //#end
  //#unroll i 0 CHUNK4
  var dq_$i = vec4f(0.0, 0.0, 0.0, 0.0);
  //#end
  for (var key = first; key <= last; key++) {
    let k_at = params.k_offset + key * params.ld_kv + kv_head * params.kv_stride;
    let v_at = params.v_offset + key * params.ld_kv + kv_head * params.kv_stride;
    //#if SHARE
    //#unroll j 0 (D4+7)/8
    let own_k_$j = load_kv(k_at, min($(8*j)u + lane, D4 - 1u));
    let own_v_$j = load_kv(v_at, min($(8*j)u + lane, D4 - 1u));
    //#end
    //#unroll i 0 D4
    let k_$i = subgroupShuffle(own_k_$(i/8), $(i%8)u);
    let v_$i = subgroupShuffle(own_v_$(i/8), $(i%8)u);
    //#end
    //#if D4 > CHUNK4
    let own_part = load_kv(k_at, min(place.chunk * CHUNK4 + lane, D4 - 1u));
    //#unroll i 0 CHUNK4
    let part_$i = subgroupShuffle(own_part, $(i)u);
    //#end
    //#end
    if (!sees(token, key)) { continue; }
    //#else
    //#unroll i 0 D4
    let k_$i = load_kv(k_at, $(i)u);
    let v_$i = load_kv(v_at, $(i)u);
    //#end
    //#if D4 > CHUNK4
    //#unroll i 0 CHUNK4
    let part_$i = load_kv(k_at, min(place.chunk * CHUNK4 + $(i)u, D4 - 1u));
    //#end
    //#end
    //#end
    var score = 0.0;
    var dp = 0.0;
    //#unroll i 0 D4
    score += dot(q_$i, k_$i);
    dp += dot(dout_$i, v_$i);
    //#end
    //#if CAP
    let ds = exp(capped(score) - row_lse) * (dp - row_delta) * cap_slope(score) * params.scale;
    //#else
    let ds = exp(score * params.scale - row_lse) * (dp - row_delta) * params.scale;
    //#end
    //#unroll i 0 CHUNK4
    //#if D4 > CHUNK4
    dq_$i += ds * part_$i;
    //#else
    dq_$i += ds * k_$i;
    //#end
    //#end
  }
  //#if SHARE
  if (lane >= tile.y) { return; }
  //#end
  let at = params.dq_offset + row * params.ld_dq + place.head * params.dq_stride;
  //#unroll i 0 CHUNK4
  store(at, place.chunk * CHUNK4 + $(i)u, dq_$i);
  //#end
}
