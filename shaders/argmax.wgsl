//#include "vectors.wgsl"
// Greedy choice of each row over vocabulary chunks: (value, token) of the largest logit, the lowest token on ties.
// A NaN anywhere in the row gives token 0xffffffff, since comparisons would hide it.
struct Params { rows: u32, columns: u32, first_column: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<Vector>;
@group(0) @binding(2) var<storage, read_write> best: array<vec2u>;

const NOTHING = 0xffffffffu;

fn is_nan(value: f32) -> bool { return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u; }

// The better of two candidates; NaN wins over everything.
fn better(x: vec2u, y: vec2u) -> vec2u {
  if (x.y == NOTHING || y.y == NOTHING) { return vec2u(0u, NOTHING); }
  let a = bitcast<f32>(x.x);
  let b = bitcast<f32>(y.x);
  if (b > a || (b == a && y.y < x.y)) { return y; }
  return x;
}

//#if THREADS > 1
var<workgroup> scratch: array<vec2u, ROWS * THREADS>;
//#end

@compute @workgroup_size(THREADS, ROWS)
fn argmax(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_id) local: vec3u) {
  let row = (group.x + group.y * groups.x) * ROWS + local.y;
  let clamped = min(row, params.rows - 1u);
  let columns = params.columns / VECTOR_WIDTH;
  let base = clamped * columns;
  // Lanes beyond the columns start from column 0 like lane 0, which changes nothing.
  var token = select(0u, local.x, local.x < columns) * VECTOR_WIDTH;
  //#if VEC
  var top = logits[base + token / VECTOR_WIDTH].x;
  //#else
  var top = logits[base + token];
  //#end
  var has_nan = false;
  // Tokens ascend, so that the lowest one wins ties.
  for (var column = local.x; column < columns; column += THREADS) {
    let vector = logits[base + column];
    //#unroll e 0 1+3*VEC
    //#if VEC
    let value_$e = vector[$e];
    //#else
    let value_$e = vector;
    //#end
    has_nan = has_nan || is_nan(value_$e);
    let higher_$e = value_$e > top;
    top = select(top, value_$e, higher_$e);
    token = select(token, column * VECTOR_WIDTH + $(e)u, higher_$e);
    //#end
  }
  var mine = vec2u(bitcast<u32>(top), select(params.first_column + token, NOTHING, has_nan));
  //#if THREADS > 1
  let at = local.y * THREADS + local.x;
  scratch[at] = mine;
  workgroupBarrier();
  for (var half = THREADS / 2u; half > 0u; half /= 2u) {
    if (local.x < half) { scratch[at] = better(scratch[at], scratch[at + half]); }
    workgroupBarrier();
  }
  mine = scratch[local.y * THREADS];
  //#end
  if (row >= params.rows || local.x != 0u) { return; }
  if (params.first_column != 0u) { mine = better(best[row], mine); }
  best[row] = mine;
}
