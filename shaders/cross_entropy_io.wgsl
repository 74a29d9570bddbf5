// What a supervised row wants. HARD: the label `begin`. DENSE: the distribution soft_probs[begin + v] over the whole
// vocabulary. TOP: `count` entries (soft_ids ascending, soft_probs) from `begin`, and `rest` for all other tokens
// together. The loss of a row is weight · KL(wanted ‖ softmax(logits)), which for HARD is the cross-entropy.
struct RowTarget { kind: u32, begin: u32, count: u32, weight: f32, rest: f32 }
const HARD = 0u;
const DENSE = 1u;
const TOP = 2u;
const LOWEST = -3.0e38;

struct Params { rows: u32, columns: u32, first_column: u32, cap: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> targets: array<RowTarget>;
@group(0) @binding(2) var<storage, read> soft_ids: array<u32>;
@group(0) @binding(3) var<storage, read> soft_probs: array<f32>;

const NOT_LISTED = 0xffffffffu;

// Where a walk over the tokens from `token` upward begins in the list of a TOP row: its first entry not below.
fn list_cursor(want: RowTarget, token: u32) -> u32 {
  var low = want.begin;
  var high = want.begin + want.count;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (soft_ids[middle] < token) { low = middle + 1u; } else { high = middle; }
  }
  return low;
}

// Index of a token's own probability, or NOT_LISTED when it belongs to the rest. Tokens are asked in ascending order,
// one after the other where THREADS is 1: lavapipe ends every loop once an invocation's iterations add up to 65,535, so
// there must be no loop inside the one over a chunk's columns.
fn listed(want: RowTarget, token: u32, cursor: ptr<function, u32>) -> u32 {
  if (want.kind == HARD) { return select(NOT_LISTED, 0u, token == want.begin); }
  if (want.kind == DENSE) { return want.begin + token; }
  let end = want.begin + want.count;
  //#if THREADS > 1
  while (*cursor < end && soft_ids[*cursor] < token) { *cursor += 1u; }
  //#else
  if (*cursor < end && soft_ids[*cursor] < token) { *cursor += 1u; }
  //#end
  if (*cursor < end && soft_ids[*cursor] == token) { return *cursor; }
  return NOT_LISTED;
}
