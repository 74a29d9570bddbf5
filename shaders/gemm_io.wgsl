// C[M,N] (+)= A·B, shared by both GEMMs. A is [M,K] (A_T: [K,M]), B is [K,N] (B_T: [N,K]), all row-major with a
// leading dimension and an offset in elements. VEC: every leading dimension, offset and vector axis is a multiple of 4.
struct Params {
  M: u32, N: u32, K: u32,
  lda: u32, a_offset: u32,
  ldb: u32, b_offset: u32,
  ldc: u32, c_offset: u32,
  // 0: C = A·B, 1: C += A·B, 2: C = initial + A·B (initial shares C's ld and offset)
  start: u32,
  // BIAS: C's column 0 is element bias_offset of the bias
  bias_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// B_BF16: b holds bf16, two neighbours in a word, the even one in its low half.
//#if VEC
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
//#if B_BF16
@group(0) @binding(2) var<storage, read> b: array<vec2u>;
//#else
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
//#end
@group(0) @binding(3) var<storage, read> initial: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> c: array<vec4f>;
//#else
@group(0) @binding(1) var<storage, read> a: array<f32>;
//#if B_BF16
@group(0) @binding(2) var<storage, read> b: array<u32>;
//#else
@group(0) @binding(2) var<storage, read> b: array<f32>;
//#end
@group(0) @binding(3) var<storage, read> initial: array<f32>;
@group(0) @binding(4) var<storage, read_write> c: array<f32>;
//#end

//#if BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>;
//#end

const ZERO = vec4f(0.0, 0.0, 0.0, 0.0);

// Four elements along the storage's fast axis. Rows beyond `rows` are clamped (their results are never stored) unless
// the row runs along K, where they must count as zero; elements beyond the fast axis are zero.
//#if VEC
fn load_a(row: u32, column: u32) -> vec4f {
  return a[(params.a_offset + row * params.lda + column) / 4u];
}

fn load_b(row: u32, column: u32) -> vec4f {
  //#if B_BF16
  let pairs = b[(params.b_offset + row * params.ldb + column) / 4u];
  return bitcast<vec4f>(vec4u(pairs.x << 16u, pairs.x & 0xffff0000u, pairs.y << 16u, pairs.y & 0xffff0000u));
  //#else
  return b[(params.b_offset + row * params.ldb + column) / 4u];
  //#end
}
//#else
fn a_at(row: u32, column: u32, columns: u32) -> f32 {
  if (column >= columns) { return 0.0; }
  return a[params.a_offset + row * params.lda + column];
}

fn b_at(row: u32, column: u32, columns: u32) -> f32 {
  if (column >= columns) { return 0.0; }
  let at = params.b_offset + row * params.ldb + column;
  //#if B_BF16
  return bitcast<f32>(select(b[at / 2u] & 0xffff0000u, b[at / 2u] << 16u, at % 2u == 0u));
  //#else
  return b[at];
  //#end
}

fn load_a(row: u32, column: u32) -> vec4f {
  //#if A_T
  let columns = params.M;
  //#else
  let columns = params.K;
  //#end
  return vec4f(a_at(row, column, columns), a_at(row, column + 1u, columns),
               a_at(row, column + 2u, columns), a_at(row, column + 3u, columns));
}

fn load_b(row: u32, column: u32) -> vec4f {
  //#if B_T
  let columns = params.K;
  //#else
  let columns = params.N;
  //#end
  return vec4f(b_at(row, column, columns), b_at(row, column + 1u, columns),
               b_at(row, column + 2u, columns), b_at(row, column + 3u, columns));
}
//#end

// Whether accumulators start from something.
fn has_start() -> bool { return BIAS || params.start != 0u; }

// What the accumulators of four columns start from: splitting K over several calls then never changes the bits.
fn load_start(row: u32, column: u32) -> vec4f {
  if (!has_start() || row >= params.M || column >= params.N) { return ZERO; }
  let at = params.c_offset + row * params.ldc + column;
  var value = ZERO;
  //#if VEC
  if (params.start == 1u) { value = c[at / 4u]; }
  if (params.start == 2u) { value = initial[at / 4u]; }
  //#else
  let count = min(4u, params.N - column);
  for (var i = 0u; i < count; i++) {
    if (params.start == 1u) { value[i] = c[at + i]; }
    if (params.start == 2u) { value[i] = initial[at + i]; }
  }
  //#end
  //#if BIAS
  let bias_at = params.bias_offset + column;
  //#unroll i 0 4
  if (column + $(i)u < params.N) { value[$i] += bias[bias_at + $(i)u]; }
  //#end
  //#end
  return value;
}

fn store(row: u32, column: u32, value: vec4f) {
  if (row >= params.M || column >= params.N) { return; }
  let at = params.c_offset + row * params.ldc + column;
  //#if VEC
  c[at / 4u] = value;
  //#else
  let count = min(4u, params.N - column);
  for (var i = 0u; i < count; i++) { c[at + i] = value[i]; }
  //#end
}
