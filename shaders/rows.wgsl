// Row reductions: a workgroup holds ROWS rows of THREADS invocations each; sums run in a fixed order.
// Software adapters use 8 rows of one invocation, which needs no barrier.
//#if THREADS > 1
var<workgroup> row_scratch: array<f32, ROWS * THREADS>;

fn row_sum(value: f32, local: vec3u) -> f32 {
  let base = local.y * THREADS;
  workgroupBarrier();
  row_scratch[base + local.x] = value;
  workgroupBarrier();
  for (var half = THREADS / 2u; half > 0u; half /= 2u) {
    if (local.x < half) { row_scratch[base + local.x] += row_scratch[base + local.x + half]; }
    workgroupBarrier();
  }
  return row_scratch[base];
}

fn row_max(value: f32, local: vec3u) -> f32 {
  let base = local.y * THREADS;
  workgroupBarrier();
  row_scratch[base + local.x] = value;
  workgroupBarrier();
  for (var half = THREADS / 2u; half > 0u; half /= 2u) {
    if (local.x < half) {
      row_scratch[base + local.x] = max(row_scratch[base + local.x], row_scratch[base + local.x + half]);
    }
    workgroupBarrier();
  }
  return row_scratch[base];
}
//#else
fn row_sum(value: f32, local: vec3u) -> f32 { return value; }
fn row_max(value: f32, local: vec3u) -> f32 { return value; }
//#end

// The row of an invocation; grids beyond one dimension's limit are folded into y.
fn row_of(group: vec3u, groups: vec3u, local: vec3u) -> u32 {
  return (group.x + group.y * groups.x) * ROWS + local.y;
}
