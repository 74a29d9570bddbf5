// dtable[token] += scale · Σ dx[n] over the positions n of that token, in order. The host sorts positions into buckets:
// bucket i is (token, first, last) of `order`, so a token is summed by one invocation a column and nothing races.
// A shard takes the tokens first_row … first_row + shard_rows − 1.
struct Params { buckets: u32, columns: u32, first_row: u32, shard_rows: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> buckets: array<vec4u>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read> dx: array<f32>;
@group(0) @binding(4) var<storage, read_write> dtable: array<f32>;

@compute @workgroup_size(64)
fn embedding_backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                      @builtin(local_invocation_index) lane: u32) {
  let slabs = (params.columns + 63u) / 64u;
  let linear = group.x + group.y * groups.x;
  let bucket = linear / slabs;
  let column = linear % slabs * 64u + lane;
  if (bucket >= params.buckets || column >= params.columns) { return; }
  let entry = buckets[bucket];
  if (entry.x < params.first_row || entry.x - params.first_row >= params.shard_rows) { return; }
  let at = (entry.x - params.first_row) * params.columns + column;
  var sum = dtable[at];
  for (var i = entry.y; i < entry.z; i++) { sum += params.scale * dx[order[i] * params.columns + column]; }
  dtable[at] = sum;
}
