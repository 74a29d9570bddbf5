// Greedy choice of each row over vocabulary chunks: (value, token) of the largest logit, the lowest token on ties.
// A NaN anywhere in the row gives token 0xffffffff, since comparisons would hide it.
struct Params { rows: u32, columns: u32, first_column: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
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
  let base = clamped * params.columns;
  // Lanes beyond the columns start from column 0 like lane 0, which changes nothing.
  let first = select(0u, local.x, local.x < params.columns);
  var mine = vec2u(bitcast<u32>(logits[base + first]), params.first_column + first);
  if (is_nan(logits[base + first])) { mine.y = NOTHING; }
  for (var column = local.x; column < params.columns; column += THREADS) {
    let value = logits[base + column];
    var candidate = vec2u(bitcast<u32>(value), params.first_column + column);
    if (is_nan(value)) { candidate.y = NOTHING; }
    mine = better(mine, candidate);
  }
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
