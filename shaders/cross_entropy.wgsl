//#include "rows.wgsl"
//#include "vectors.wgsl"
//#include "cross_entropy_io.wgsl"
// logits is [rows, columns]: the vocabulary chunk that starts at first_column.
// stats of a row over the chunks so far: (max, Σ exp(z − max) of listed tokens, the same of the others, label's logit).
// A TOP row has no label; its others are summed relative to their own max, kept in its place, since all of them together
// may be less likely than the smallest f32.
//#if GRADIENT
@group(0) @binding(4) var<storage, read> stats: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> logits: array<Vector>;
@group(0) @binding(6) var<storage, read_write> row_loss: array<f32>;

// Second pass: overwrites the chunk with dloss/dlogits and adds the chunk's part of the row's loss. CAP: the logits are
// z = cap·tanh(l / cap), and the gradient is that of l.
@compute @workgroup_size(THREADS, ROWS)
fn cross_entropy_gradient(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                          @builtin(local_invocation_id) local: vec3u) {
  let row = row_of(group, groups, local);
  let inside = row < params.rows;
  let clamped = min(row, params.rows - 1u);
  let base = clamped * params.columns / VECTOR_WIDTH;
  let want = targets[clamped];
  let stat = stats[clamped];
  var others = stat.z;
  //#if HAS_TOP
  // d/dz of a TOP row's others is e·(others_share − rest / Σe), e = exp(z − their max).
  let is_top = want.kind == TOP;
  if (is_top) { others *= exp(stat.w - stat.x); }
  //#end
  let log_total = log(stat.y + others);
  //#if HAS_TOP
  let others_scale = exp(stat.w - stat.x - log_total) - select(0.0, want.rest / stat.z, want.rest > 0.0);
  //#end
  var loss = 0.0;
  if (inside) {
    var walk = walk_from(want, params.first_column + local.x * VECTOR_WIDTH);
    for (var column = local.x; column < params.columns / VECTOR_WIDTH; column += THREADS) {
      let value = logits[base + column];
      let wanted = listed(want, params.first_column + column * VECTOR_WIDTH, &walk);
      //#if HAS_TOP
      let other = Flags(is_top) & !wanted.is;
      let log_p = value - select(Vector(stat.x), Vector(stat.w), other) - select(Vector(log_total), Vector(0.0), other);
      let p = exp(log_p);
      var gradient = select(p - wanted.q, p * others_scale, other);
      //#else
      let log_p = value - stat.x - log_total;
      var gradient = exp(log_p) - wanted.q;
      //#end
      //#if HAS_DENSE || HAS_TOP
      let distance = wanted.q * (log(wanted.q) - log_p);
      loss = plus(loss, select(Vector(0.0), distance, wanted.is & (wanted.q > Vector(0.0))));
      //#else
      loss = plus(loss, select(Vector(0.0), -log_p, wanted.is));
      //#end
      //#if CAP
      let bend = value / params.cap;
      gradient *= 1.0 - bend * bend;
      //#end
      logits[base + column] = want.weight * gradient;
    }
  }
  loss = row_sum(loss, local);
  if (!inside || local.x != 0u) { return; }
  if (params.first_column == 0u) {
    if (want.rest > 0.0) { loss += want.rest * (log(want.rest) - (log(stat.z) + stat.w - stat.x - log_total)); }
    row_loss[row] = loss;
  } else {
    row_loss[row] += loss;
  }
}
//#else
@group(0) @binding(4) var<storage, read> logits: array<Vector>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec4f>;

fn logit(row: u32, column: u32) -> f32 {
  let at = row * params.columns + column;
  //#if VEC
  return logits[at / 4u][at % 4u];
  //#else
  return logits[at];
  //#end
}

// First pass, online over the chunks. A NaN logit is lost in max() but comes out through the sums.
@compute @workgroup_size(THREADS, ROWS)
fn cross_entropy_stats(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                       @builtin(local_invocation_id) local: vec3u) {
  let row = row_of(group, groups, local);
  let clamped = min(row, params.rows - 1u);
  let base = clamped * params.columns / VECTOR_WIDTH;
  let want = targets[clamped];
  let is_top = want.kind == TOP;
  var highest = Vector(LOWEST);
  //#if HAS_TOP
  var others_highest = Vector(LOWEST);
  let begin = walk_from(want, params.first_column + local.x * VECTOR_WIDTH);
  var walk = begin;
  //#else
  var walk = Walk(0u, 0u, NO_TOKEN);
  //#end
  for (var column = local.x; column < params.columns / VECTOR_WIDTH; column += THREADS) {
    let value = logits[base + column];
    highest = max(highest, value);
    //#if HAS_TOP
    let wanted = listed(want, params.first_column + column * VECTOR_WIDTH, &walk);
    others_highest = max(others_highest, select(value, Vector(LOWEST), wanted.is));
    //#end
  }
  var top = row_max(largest(highest), local);
  //#if HAS_TOP
  var others_top = row_max(largest(others_highest), local);
  //#else
  var others_top = LOWEST;
  //#end
  var before = vec4f(top, 0.0, 0.0, select(0.0, LOWEST, is_top));
  if (params.first_column != 0u) {
    before = stats[clamped];
    top = max(top, before.x);
  }
  others_top = select(top, max(others_top, before.w), is_top);
  var sum_listed = 0.0;
  var sum_others = 0.0;
  //#if HAS_TOP
  walk = begin;
  //#end
  for (var column = local.x; column < params.columns / VECTOR_WIDTH; column += THREADS) {
    let wanted = listed(want, params.first_column + column * VECTOR_WIDTH, &walk);
    let e = exp(logits[base + column] - select(Vector(others_top), Vector(top), wanted.is));
    sum_listed = plus(sum_listed, select(Vector(0.0), e, wanted.is));
    sum_others = plus(sum_others, select(e, Vector(0.0), wanted.is));
  }
  sum_listed = row_sum(sum_listed, local);
  sum_others = row_sum(sum_others, local);
  if (row >= params.rows || local.x != 0u) { return; }
  let shrink = exp(before.x - top);
  let others_shrink = exp(select(before.x, before.w, is_top) - others_top);
  var label = select(before.w, others_top, is_top);
  if (want.kind == HARD && want.begin >= params.first_column && want.begin - params.first_column < params.columns) {
    label = logit(row, want.begin - params.first_column);
  }
  stats[row] = vec4f(top, before.y * shrink + sum_listed, before.z * others_shrink + sum_others, label);
}
//#end
