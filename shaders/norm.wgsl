//#include "rows.wgsl"
//#if WEIGHT_GRADIENT
// weight gradient, first stage: a slab of rows for each column; column_sums.wgsl adds the slabs in order.
struct Params { rows: u32, columns: u32, slab: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> rstd: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(64)
fn rms_norm_backward_weight(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = group.x * 64u + lane;
  if (column >= params.columns) { return; }
  let first = group.y * params.slab;
  let last = min(first + params.slab, params.rows);
  var sum = 0.0;
  for (var row = first; row < last; row++) {
    let at = row * params.columns + column;
    sum += dy[at] * (x[at] * rstd[row]);
  }
  partial[group.y * params.columns + column] = sum;
}
//#end
//#if FORWARD
struct Params { rows: u32, columns: u32, epsilon: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>;

@compute @workgroup_size(THREADS, ROWS)
fn rms_norm_forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                    @builtin(local_invocation_id) local: vec3u) {
  let row = row_of(group, groups, local);
  let base = min(row, params.rows - 1u) * params.columns;
  var sum = 0.0;
  for (var column = local.x; column < params.columns; column += THREADS) {
    let value = x[base + column];
    sum += value * value;
  }
  let r = 1.0 / sqrt(row_sum(sum, local) / f32(params.columns) + params.epsilon);
  if (row >= params.rows) { return; }
  for (var column = local.x; column < params.columns; column += THREADS) {
    y[base + column] = x[base + column] * r * weight[column];
  }
  if (local.x == 0u) { rstd[row] = r; }
}
//#end
//#if INPUT_GRADIENT
// dx (+)= rstd · (dn − n · mean(dn · n)), n = x·rstd, dn = dy·weight
struct Params { rows: u32, columns: u32, accumulate: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> rstd: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(THREADS, ROWS)
fn rms_norm_backward_input(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                           @builtin(local_invocation_id) local: vec3u) {
  let row = row_of(group, groups, local);
  let inside = min(row, params.rows - 1u);
  let base = inside * params.columns;
  let r = rstd[inside];
  var sum = 0.0;
  for (var column = local.x; column < params.columns; column += THREADS) {
    sum += dy[base + column] * weight[column] * (x[base + column] * r);
  }
  let mean = row_sum(sum, local) / f32(params.columns);
  if (row >= params.rows) { return; }
  for (var column = local.x; column < params.columns; column += THREADS) {
    let value = r * (dy[base + column] * weight[column] - x[base + column] * r * mean);
    if (params.accumulate == 0u) { dx[base + column] = value; } else { dx[base + column] += value; }
  }
}
//#end
