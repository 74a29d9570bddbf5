//#include "rows.wgsl"
//#include "cross_entropy_io.wgsl"
// logits is [rows, columns]: the vocabulary chunk that starts at first_column.
// stats of a row over the chunks so far: (max, Σ exp(z − max) of listed tokens, the same of the others, label's logit).
//#if GRADIENT
@group(0) @binding(4) var<storage, read> stats: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> logits: array<f32>;
@group(0) @binding(6) var<storage, read_write> row_loss: array<f32>;

// Second pass: overwrites the chunk with dloss/dlogits and adds the chunk's part of the row's loss.
@compute @workgroup_size(THREADS, ROWS)
fn cross_entropy_gradient(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
                          @builtin(local_invocation_id) local: vec3u) {
  let row = row_of(group, groups, local);
  let inside = row < params.rows;
  let clamped = min(row, params.rows - 1u);
  let base = clamped * params.columns;
  let want = targets[clamped];
  let stat = stats[clamped];
  let total = stat.y + stat.z;
  let log_total = log(total);
  // rest/p_rest scales the other tokens' gradient; with no rest they only feel the softmax.
  var others = 1.0;
  if (want.rest > 0.0) { others = 1.0 - want.rest * total / stat.z; }
  var loss = 0.0;
  if (inside) {
    for (var column = local.x; column < params.columns; column += THREADS) {
      let log_p = logits[base + column] - stat.x - log_total;
      let p = exp(log_p);
      let entry = listed(want, params.first_column + column);
      var gradient = p * others;
      if (entry != NOT_LISTED) {
        var q = 1.0;
        if (want.kind != HARD) { q = soft_probs[entry]; }
        gradient = p - q;
        if (q > 0.0) { loss += q * (log(q) - log_p); }
      }
      logits[base + column] = want.weight * gradient;
    }
  }
  loss = row_sum(loss, local);
  if (!inside || local.x != 0u) { return; }
  if (params.first_column == 0u) {
    if (want.rest > 0.0) { loss += want.rest * (log(want.rest) - log(stat.z) + log_total); }
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
  var top = logits[base];
  for (var column = local.x; column < params.columns; column += THREADS) { top = max(top, logits[base + column]); }
  top = row_max(top, local);
  var before = vec4f(top, 0.0, 0.0, 0.0);
  if (params.first_column != 0u) {
    before = stats[clamped];
    top = max(top, before.x);
  }
  var sum_listed = 0.0;
  var sum_others = 0.0;
  for (var column = local.x; column < params.columns; column += THREADS) {
    let e = exp(logits[base + column] - top);
    if (listed(want, params.first_column + column) != NOT_LISTED) { sum_listed += e; } else { sum_others += e; }
  }
  sum_listed = row_sum(sum_listed, local);
  sum_others = row_sum(sum_others, local);
  if (row >= params.rows || local.x != 0u) { return; }
  let shrink = exp(before.x - top);
  var label = before.w;
  if (want.kind == HARD && want.begin >= params.first_column && want.begin - params.first_column < params.columns) {
    label = logits[base + want.begin - params.first_column];
  }
  stats[row] = vec4f(top, before.y * shrink + sum_listed, before.z * shrink + sum_others, label);
}
//#end
