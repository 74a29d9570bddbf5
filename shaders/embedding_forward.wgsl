//#include "elements.wgsl"
// y[n] = scale · table[ids[n]] for the tokens whose rows this shard holds: first_row … first_row + shard_rows − 1.
// BF16: two neighbouring elements share a word, the even one in its low half.
struct Params { rows: u32, columns: u32, first_row: u32, shard_rows: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
//#if BF16
@group(0) @binding(2) var<storage, read> table: array<u32>;
//#else
@group(0) @binding(2) var<storage, read> table: array<f32>;
//#end
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn embedding_forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let element = element_of(id, groups);
  let row = element / params.columns;
  if (row >= params.rows) { return; }
  let token = ids[row];
  if (token < params.first_row || token - params.first_row >= params.shard_rows) { return; }
  let at = (token - params.first_row) * params.columns + element % params.columns;
  //#if BF16
  let word = table[at / 2u];
  y[element] = params.scale * bitcast<f32>(select(word & 0xffff0000u, word << 16u, at % 2u == 0u));
  //#else
  y[element] = params.scale * table[at];
  //#end
}
