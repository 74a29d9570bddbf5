//#include "attention_io.wgsl"
@group(0) @binding(1) var<storage, read> tiles: array<vec4u>; // (first query row, rows, first key token, –)
@group(0) @binding(2) var<storage, read> query_tokens: array<u32>;
@group(0) @binding(3) var<storage, read> q: array<Vector>;
@group(0) @binding(4) var<storage, read> kv: array<Vector>;
@group(0) @binding(5) var<storage, read_write> result: array<Vector>; // [query rows, heads·D]
@group(0) @binding(6) var<storage, read_write> lse: array<f32>; // [query rows, heads]: log Σ exp(scores)

//#include "attention_load.wgsl"

@compute @workgroup_size(TILE)
fn attention_forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                     @builtin(local_invocation_index) lane: u32) {
  let place = place_of(group, groups, params.heads);
  if (place.tile >= params.tiles) { return; }
  let tile = tiles[place.tile];
  //#include "attention_rows.wgsl"
  let q_at = params.q_offset + row * params.ld_q + place.head * params.q_stride;
  let kv_head = place.head / (params.heads / params.kv_heads);
  //#unroll i 0 D4
  let q_$i = load_q(q_at, $(i)u);
  //#end
  //#unroll i 0 CHUNK4
  var out_$i = vec4f(0.0, 0.0, 0.0, 0.0);
  //#end
  var top = -3.0e38;
  var sum = 0.0;
  for (var key = first; key <= last; key++) {
    let k_at = params.k_offset + key * params.ld_kv + kv_head * params.kv_stride;
    let v_at = params.v_offset + key * params.ld_kv + kv_head * params.kv_stride;
    //#if SHARE
    //#unroll j 0 (D4+7)/8
    let own_k_$j = load_kv(k_at, min($(8*j)u + lane, D4 - 1u));
    //#end
    let own_v = load_kv(v_at, min(place.chunk * CHUNK4 + lane, D4 - 1u));
    //#unroll i 0 D4
    let k_$i = subgroupShuffle(own_k_$(i/8), $(i%8)u);
    //#end
    //#unroll i 0 CHUNK4
    let v_$i = subgroupShuffle(own_v, $(i)u);
    //#end
    if (!sees(token, key)) { continue; }
    //#else
    //#unroll i 0 D4
    let k_$i = load_kv(k_at, $(i)u);
    //#end
    //#unroll i 0 CHUNK4
    let v_$i = load_kv(v_at, min(place.chunk * CHUNK4 + $(i)u, D4 - 1u));
    //#end
    //#end
    var score = 0.0;
    //#unroll i 0 D4
    score += dot(q_$i, k_$i);
    //#end
    //#if CAP
    score = capped(score);
    //#else
    score *= params.scale;
    //#end
    let next = max(top, score);
    let shrink = exp(top - next);
    let p = exp(score - next);
    sum = sum * shrink + p;
    top = next;
    //#unroll i 0 CHUNK4
    out_$i = out_$i * shrink + p * v_$i;
    //#end
  }
  //#if SHARE
  if (lane >= tile.y) { return; }
  //#end
  let out_at = (row * params.heads + place.head) * D;
  //#unroll i 0 CHUNK4
  store(out_at, place.chunk * CHUNK4 + $(i)u, out_$i / sum);
  //#end
  if (place.chunk == 0u) { lse[row * params.heads + place.head] = top + log(sum); }
}
