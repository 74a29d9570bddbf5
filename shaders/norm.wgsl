//#include "rows.wgsl"
//#include "vectors.wgsl"
// RMSNorm, or LayerNorm where LAYER: y = n · (shift + weight) + bias, n = (x − mean) · rstd. A row holds `heads` vectors of
// `columns` that are normalised one by one; vector v is head v % heads of row v / heads.
//#if LAYER
const STATS = 2u; // (mean, rstd) of each vector
//#else
const STATS = 1u; // rstd
//#end
//#if FORWARD
struct Params {
  rows: u32, heads: u32, columns: u32, epsilon: f32, shift: f32,
  ld_x: u32, x_offset: u32, x_stride: u32, ld_y: u32, y_offset: u32, y_stride: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Vector>;
@group(0) @binding(2) var<storage, read> weight: array<Vector>;
@group(0) @binding(3) var<storage, read_write> y: array<Vector>;
@group(0) @binding(4) var<storage, read_write> stats: array<f32>;
//#if BIAS
@group(0) @binding(5) var<storage, read> bias: array<Vector>;
//#end
//#if RESIDUAL
@group(0) @binding(6) var<storage, read> residual: array<Vector>; // laid out as y
//#end
//#else
struct Params {
  rows: u32, heads: u32, columns: u32, shift: f32, accumulate: u32, slab: u32,
  ld_x: u32, x_offset: u32, x_stride: u32, ld_dy: u32, dy_offset: u32, dy_stride: u32,
  ld_dx: u32, dx_offset: u32, dx_stride: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Vector>;
@group(0) @binding(2) var<storage, read> stats: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<Vector>;
//#end

// Where a vector begins in a matrix of heads, in numbers.
fn start_of(vector: u32, ld: u32, offset: u32, stride: u32) -> u32 {
  return offset + vector / params.heads * ld + vector % params.heads * stride;
}

//#if FORWARD
@compute @workgroup_size(THREADS, ROWS)
fn norm_forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                @builtin(local_invocation_id) local: vec3u) {
  let vector = row_of(group, groups, local);
  let vectors = params.rows * params.heads;
  let inside = min(vector, vectors - 1u);
  let from_x = start_of(inside, params.ld_x, params.x_offset, params.x_stride) / VECTOR_WIDTH;
  var sum = 0.0;
  //#if LAYER
  for (var column = local.x; column < params.columns / VECTOR_WIDTH; column += THREADS) { sum = plus(sum, x[from_x + column]); }
  let mean = row_sum(sum, local) / f32(params.columns);
  sum = 0.0;
  //#end
  for (var column = local.x; column < params.columns / VECTOR_WIDTH; column += THREADS) {
    //#if LAYER
    let value = x[from_x + column] - mean;
    //#else
    let value = x[from_x + column];
    //#end
    sum = plus(sum, value * value);
  }
  let r = 1.0 / sqrt(row_sum(sum, local) / f32(params.columns) + params.epsilon);
  if (vector >= vectors) { return; }
  let to_y = start_of(vector, params.ld_y, params.y_offset, params.y_stride) / VECTOR_WIDTH;
  for (var column = local.x; column < params.columns / VECTOR_WIDTH; column += THREADS) {
    //#if LAYER
    var value = (x[from_x + column] - mean) * r * (params.shift + weight[column]);
    //#else
    var value = x[from_x + column] * r * (params.shift + weight[column]);
    //#end
    //#if BIAS
    value += bias[column];
    //#end
    //#if RESIDUAL
    value += residual[to_y + column];
    //#end
    y[to_y + column] = value;
  }
  if (local.x != 0u) { return; }
  //#if LAYER
  stats[2u * vector] = mean;
  //#end
  stats[STATS * vector + STATS - 1u] = r;
}
//#end
//#if INPUT_GRADIENT
// dx (+)= rstd · (g − mean(g) − n · mean(g·n)), g = dy·(shift + weight); without mean(g) where not LAYER
@group(0) @binding(4) var<storage, read> weight: array<Vector>;
@group(0) @binding(5) var<storage, read_write> dx: array<Vector>;

@compute @workgroup_size(THREADS, ROWS)
fn norm_backward_input(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                       @builtin(local_invocation_id) local: vec3u) {
  let vector = row_of(group, groups, local);
  let vectors = params.rows * params.heads;
  let inside = min(vector, vectors - 1u);
  let from_x = start_of(inside, params.ld_x, params.x_offset, params.x_stride) / VECTOR_WIDTH;
  let from_dy = start_of(inside, params.ld_dy, params.dy_offset, params.dy_stride) / VECTOR_WIDTH;
  let r = stats[STATS * inside + STATS - 1u];
  //#if LAYER
  let center = stats[2u * inside];
  var total = 0.0;
  //#end
  var sum = 0.0;
  for (var column = local.x; column < params.columns / VECTOR_WIDTH; column += THREADS) {
    let g = dy[from_dy + column] * (params.shift + weight[column]);
    //#if LAYER
    sum = plus(sum, g * ((x[from_x + column] - center) * r));
    total = plus(total, g);
    //#else
    sum = plus(sum, g * (x[from_x + column] * r));
    //#end
  }
  let mean = row_sum(sum, local) / f32(params.columns);
  //#if LAYER
  let mean_g = row_sum(total, local) / f32(params.columns);
  //#end
  if (vector >= vectors) { return; }
  let to_dx = start_of(vector, params.ld_dx, params.dx_offset, params.dx_stride) / VECTOR_WIDTH;
  for (var column = local.x; column < params.columns / VECTOR_WIDTH; column += THREADS) {
    let g = dy[from_dy + column] * (params.shift + weight[column]);
    //#if LAYER
    var value = r * (g - mean_g - (x[from_x + column] - center) * r * mean);
    //#else
    var value = r * (g - x[from_x + column] * r * mean);
    //#end
    if (params.accumulate != 0u) { value += dx[to_dx + column]; }
    dx[to_dx + column] = value;
  }
}
//#end
//#if WEIGHT_GRADIENT
// First stage of Σ dy·n: a slab of vectors for each column; column_sums.wgsl adds the slabs in order.
@group(0) @binding(4) var<storage, read_write> partial: array<Vector>;

@compute @workgroup_size(64)
fn norm_backward_weight(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let columns = params.columns / VECTOR_WIDTH;
  let column = group.x * 64u + lane;
  if (column >= columns) { return; }
  let first = group.y * params.slab;
  let last = min(first + params.slab, params.rows * params.heads);
  // Walking on is cheaper than start_of, which divides; a negative step wraps around, and back.
  var head = first % params.heads;
  var at_x = start_of(first, params.ld_x, params.x_offset, params.x_stride) / VECTOR_WIDTH + column;
  var at_dy = start_of(first, params.ld_dy, params.dy_offset, params.dy_stride) / VECTOR_WIDTH + column;
  var sum = Vector(0.0);
  for (var vector = first; vector < last; vector++) {
    let r = stats[STATS * vector + STATS - 1u];
    //#if LAYER
    sum += dy[at_dy] * ((x[at_x] - stats[2u * vector]) * r);
    //#else
    sum += dy[at_dy] * (x[at_x] * r);
    //#end
    head++;
    at_x += params.x_stride / VECTOR_WIDTH;
    at_dy += params.dy_stride / VECTOR_WIDTH;
    if (head == params.heads) {
      head = 0u;
      at_x += params.ld_x / VECTOR_WIDTH - params.heads * (params.x_stride / VECTOR_WIDTH);
      at_dy += params.ld_dy / VECTOR_WIDTH - params.heads * (params.dy_stride / VECTOR_WIDTH);
    }
  }
  partial[group.y * columns + column] = sum;
}
//#end
