// The target of a row. HARD: the label `begin`. DENSE: the distribution soft_probs[begin + v] over the whole
// vocabulary, `begin` a multiple of 4. TOP: `count` entries (soft_ids ascending, soft_probs) from `begin`, and `rest` for
// all other tokens together. The loss of a row is KL(target ‖ softmax(logits)), its gradient weighs `weight`; for HARD that is the
// cross-entropy. The constants HAS_DENSE and HAS_TOP say which rows there may be beside HARD ones.
struct RowTarget { kind: u32, begin: u32, count: u32, weight: f32, rest: f32 }
const HARD = 0u;
const DENSE = 1u;
const TOP = 2u;
const LOWEST = -3.0e38;

struct Params { rows: u32, columns: u32, first_column: u32, cap: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> targets: array<RowTarget>;
@group(0) @binding(2) var<storage, read> soft_ids: array<u32>;
@group(0) @binding(3) var<storage, read> soft_probs: array<Vector>;

//#if VEC
alias Tokens = vec4u;
alias Flags = vec4<bool>;
fn tokens_from(token: u32) -> Tokens { return token + vec4u(0u, 1u, 2u, 3u); }
fn largest(value: Vector) -> f32 { return max(max(value.x, value.y), max(value.z, value.w)); }
fn probability(entry: u32) -> f32 { return soft_probs[entry / 4u][entry % 4u]; }
//#else
alias Tokens = u32;
alias Flags = bool;
fn tokens_from(token: u32) -> Tokens { return token; }
fn largest(value: Vector) -> f32 { return value; }
fn probability(entry: u32) -> f32 { return soft_probs[entry]; }
//#end

// A walk over the entries of a TOP row: the next one and its token, NO_TOKEN behind the last.
struct Walk { entry: u32, end: u32, token: u32 }
const NO_TOKEN = 0xffffff00u; // tokens a little above it don't wrap around

fn walk_at(entry: u32, end: u32) -> Walk {
  if (entry >= end) { return Walk(entry, end, NO_TOKEN); }
  return Walk(entry, end, soft_ids[entry]);
}

// The walk from the first entry that isn't below `token`.
fn walk_from(want: RowTarget, token: u32) -> Walk {
  if (want.kind != TOP) { return Walk(0u, 0u, NO_TOKEN); }
  var low = want.begin;
  var high = want.begin + want.count;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (soft_ids[middle] < token) { low = middle + 1u; } else { high = middle; }
  }
  return walk_at(low, want.begin + want.count);
}

// The part of a vector's tokens that the target lists, and (in the GRADIENT) how much of each.
struct Listed {
  is: Flags,
  //#if GRADIENT
  q: Vector,
  //#end
}

// Vectors are asked in ascending order. A row's vectors and entries together stay below the 65,535 iterations that lavapipe
// allows an invocation: a chunk has 8,192 columns.
fn listed(want: RowTarget, token: u32, walk: ptr<function, Walk>) -> Listed {
  let tokens = tokens_from(token);
  var found: Listed;
  found.is = Flags(want.kind == HARD) & (tokens == Tokens(want.begin));
  //#if GRADIENT
  found.q = select(Vector(0.0), Vector(1.0), found.is);
  //#end
  //#if HAS_DENSE
  if (want.kind == DENSE) {
    found.is = Flags(true);
    //#if GRADIENT
    found.q = soft_probs[(want.begin + token) / VECTOR_WIDTH];
    //#end
  }
  //#end
  //#if HAS_TOP
  while ((*walk).token < token + VECTOR_WIDTH) {
    let here = tokens == Tokens((*walk).token);
    found.is = found.is | here;
    //#if GRADIENT
    found.q = select(found.q, Vector(probability((*walk).entry)), here);
    //#end
    *walk = walk_at((*walk).entry + 1u, (*walk).end);
  }
  //#end
  return found;
}
