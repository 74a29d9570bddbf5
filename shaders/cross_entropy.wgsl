//#include "rows.wgsl"
//#include "cross_entropy_io.wgsl"
// logits is [rows, columns]: the vocabulary chunk that starts at first_column.
// stats of a row over the chunks so far: (max, Σ exp(z − max) of listed tokens, the same of the others, label's logit).
// A TOP row has no label; its others are summed relative to their own max, kept in its place, since all of them together
// may be less likely than the smallest f32.
//#if GRADIENT
@group(0) @binding(4) var<storage, read> stats: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> logits: array<f32>;
@group(0) @binding(6) var<storage, read_write> row_loss: array<f32>;

// Second pass: overwrites the chunk with dloss/dlogits and adds the chunk's part of the row's loss. CAP: the logits are
// z = cap·tanh(l / cap), and the gradient is that of l.
@compute @workgroup_size(THREADS, ROWS)
fn cross_entropy_gradient(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                          @builtin(local_invocation_id) local: vec3u) {
  let row = row_of(group, groups, local);
  let inside = row < params.rows;
  let clamped = min(row, params.rows - 1u);
  let base = clamped * params.columns;
  let want = targets[clamped];
  let stat = stats[clamped];
  var others = stat.z;
  if (want.kind == TOP) { others *= exp(stat.w - stat.x); }
  let log_total = log(stat.y + others);
  var loss = 0.0;
  if (inside) {
    var cursor = list_cursor(want, params.first_column + local.x);
    for (var column = local.x; column < params.columns; column += THREADS) {
      let log_p = logits[base + column] - stat.x - log_total;
      let p = exp(log_p);
      let entry = listed(want, params.first_column + column, &cursor);
      var gradient = p;
      if (entry != NOT_LISTED) {
        var q = 1.0;
        if (want.kind != HARD) { q = soft_probs[entry]; }
        gradient = p - q;
        if (q > 0.0) { loss += q * (log(q) - log_p); }
      } else if (want.rest > 0.0) {
        gradient = p - want.rest * exp(logits[base + column] - stat.w) / stat.z;
      }
      //#if CAP
      let bend = logits[base + column] / params.cap;
      gradient *= 1.0 - bend * bend;
      //#end
      logits[base + column] = want.weight * gradient;
    }
  }
  loss = row_sum(loss, local);
  if (!inside || local.x != 0u) { return; }
  if (params.first_column == 0u) {
    if (want.rest > 0.0) { loss += want.rest * (log(want.rest) - (log(stat.z) + stat.w - stat.x - log_total)); }
    row_loss[row] = want.weight * loss;
  } else {
    row_loss[row] += want.weight * loss;
  }
}
//#else
@group(0) @binding(4) var<storage, read> logits: array<f32>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec4f>;

// First pass, online over the chunks. A NaN logit is lost in max() but comes out through the sums.
@compute @workgroup_size(THREADS, ROWS)
fn cross_entropy_stats(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                       @builtin(local_invocation_id) local: vec3u) {
  let row = row_of(group, groups, local);
  let clamped = min(row, params.rows - 1u);
  let base = clamped * params.columns;
  let want = targets[clamped];
  let is_top = want.kind == TOP;
  var top = logits[base];
  var others_top = LOWEST;
  let begin = list_cursor(want, params.first_column + local.x);
  var cursor = begin;
  for (var column = local.x; column < params.columns; column += THREADS) {
    let value = logits[base + column];
    top = max(top, value);
    if (is_top && listed(want, params.first_column + column, &cursor) == NOT_LISTED) {
      others_top = max(others_top, value);
    }
  }
  top = row_max(top, local);
  others_top = row_max(others_top, local);
  var before = vec4f(top, 0.0, 0.0, select(0.0, LOWEST, is_top));
  if (params.first_column != 0u) {
    before = stats[clamped];
    top = max(top, before.x);
  }
  others_top = select(top, max(others_top, before.w), is_top);
  var sum_listed = 0.0;
  var sum_others = 0.0;
  cursor = begin;
  for (var column = local.x; column < params.columns; column += THREADS) {
    let value = logits[base + column];
    if (listed(want, params.first_column + column, &cursor) != NOT_LISTED) {
      sum_listed += exp(value - top);
    } else {
      sum_others += exp(value - others_top);
    }
  }
  sum_listed = row_sum(sum_listed, local);
  sum_others = row_sum(sum_others, local);
  if (row >= params.rows || local.x != 0u) { return; }
  let shrink = exp(before.x - top);
  let others_shrink = exp(select(before.x, before.w, is_top) - others_top);
  var label = select(before.w, others_top, is_top);
  if (want.kind == HARD && want.begin >= params.first_column && want.begin - params.first_column < params.columns) {
    label = logits[base + want.begin - params.first_column];
  }
  stats[row] = vec4f(top, before.y * shrink + sum_listed, before.z * others_shrink + sum_others, label);
}
//#end
