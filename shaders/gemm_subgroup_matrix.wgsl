//#include "gemm_io.wgsl"

// For matrix units (tensor cores): operands are scaled by a power of two that brings their largest magnitude to 2^14 … 2^15,
// rounded to f16 on the way into workgroup memory, and multiplied by the unit with sums in f32. A unit multiplies
// UNIT_M×UNIT_K by UNIT_K×UNIT_N; each of a workgroup's 2×2 subgroups keeps FRAGMENTS_M×FRAGMENTS_N pieces of C.
const TK = 32u;
const SUBGROUP_M = FRAGMENTS_M * UNIT_M;
const SUBGROUP_N = FRAGMENTS_N * UNIT_N;
const TILE_M = 2u * SUBGROUP_M;
const TILE_N = 2u * SUBGROUP_N;
const THREADS = 4u * SUBGROUP;
const PIECE = UNIT_M * UNIT_N;

// Tiles keep the storage's fast axis; 8 more halves a row keep 16-byte alignment and spread rows over banks.
//#if A_T
const STRIDE_A = TILE_M + 8u;
var<workgroup> tile_a: array<f16, TK * STRIDE_A>;
//#else
const STRIDE_A = TK + 8u;
var<workgroup> tile_a: array<f16, TILE_M * STRIDE_A>;
//#end
//#if B_T
const STRIDE_B = TK + 8u;
var<workgroup> tile_b: array<f16, TILE_N * STRIDE_B>;
//#else
const STRIDE_B = TILE_N + 8u;
var<workgroup> tile_b: array<f16, TK * STRIDE_B>;
//#end
var<workgroup> pieces: array<f32, 4u * PIECE>;

// Partial maxima of |A| and |B| as bits, from largest_magnitude.wgsl.
@group(0) @binding(6) var<storage, read> largest_a: array<u32>;
@group(0) @binding(7) var<storage, read> largest_b: array<u32>;
var<workgroup> largest: array<atomic<u32>, 2>;

// Exponent of the power of two that brings a magnitude to 2^14 … 2^15; 0 for what isn't finite and must come out so.
fn scale_exponent(magnitude: u32) -> i32 {
  let biased = i32(magnitude >> 23u);
  return select(min(141 - biased, 126), 0, biased == 255);
}

fn power_of_two(exponent: i32) -> f32 { return bitcast<f32>(u32(exponent + 127) << 23u); }

fn put_a(at: u32, value: vec4f) {
  //#unroll i 0 4
  tile_a[at + $(i)u] = f16(value[$i]);
  //#end
}

fn put_b(at: u32, value: vec4f) {
  //#unroll i 0 4
  tile_b[at + $(i)u] = f16(value[$i]);
  //#end
}

// Beyond K operands are zero; other rows are clamped, since their outputs are never stored.
fn stage_a(row0: u32, k0: u32, scale: f32, lane: u32) {
  for (var i = lane; i < TK * TILE_M / 4u; i += THREADS) {
    //#if A_T
    let k = k0 + i / (TILE_M / 4u);
    let m = i % (TILE_M / 4u) * 4u;
    let value = load_a(min(k, params.K - 1u), min(row0 + m, (params.M - 1u) / 4u * 4u));
    put_a((k - k0) * STRIDE_A + m, select(ZERO, value * scale, k < params.K));
    //#else
    let k = k0 + i % (TK / 4u) * 4u;
    let m = i / (TK / 4u);
    let value = load_a(min(row0 + m, params.M - 1u), select(0u, k, k < params.K));
    put_a(m * STRIDE_A + k - k0, select(ZERO, value * scale, k < params.K));
    //#end
  }
}

fn stage_b(column0: u32, k0: u32, scale: f32, lane: u32) {
  for (var i = lane; i < TK * TILE_N / 4u; i += THREADS) {
    //#if B_T
    let k = k0 + i % (TK / 4u) * 4u;
    let n = i / (TK / 4u);
    let value = load_b(min(column0 + n, params.N - 1u), select(0u, k, k < params.K));
    put_b(n * STRIDE_B + k - k0, select(ZERO, value * scale, k < params.K));
    //#else
    let k = k0 + i / (TILE_N / 4u);
    let n = i % (TILE_N / 4u) * 4u;
    let value = load_b(min(k, params.K - 1u), min(column0 + n, (params.N - 1u) / 4u * 4u));
    put_b((k - k0) * STRIDE_B + n, select(ZERO, value * scale, k < params.K));
    //#end
  }
}

@compute @workgroup_size(THREADS)
fn gemm_subgroup_matrix(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
                        @builtin(subgroup_id) subgroup: u32,
                        @builtin(subgroup_invocation_id) subgroup_lane: u32) {
  for (var i = lane; i < SLABS; i += THREADS) {
    atomicMax(&largest[0], largest_a[i]);
    atomicMax(&largest[1], largest_b[i]);
  }
  workgroupBarrier();
  let exponent_a = scale_exponent(atomicLoad(&largest[0]));
  let exponent_b = scale_exponent(atomicLoad(&largest[1]));

  let tile_row = group.y * TILE_M;
  let tile_column = group.x * TILE_N;
  let row0 = subgroup / 2u * SUBGROUP_M;
  let column0 = subgroup % 2u * SUBGROUP_N;
  //#unroll i 0 FRAGMENTS_M
  //#unroll j 0 FRAGMENTS_N
  var acc_$(i)_$(j): subgroup_matrix_result<f32, UNIT_N, UNIT_M>;
  //#end
  //#end
  for (var k0 = 0u; k0 < params.K; k0 += TK) {
    stage_a(tile_row, k0, power_of_two(exponent_a), lane);
    stage_b(tile_column, k0, power_of_two(exponent_b), lane);
    workgroupBarrier();
    for (var k = 0u; k < TK; k += UNIT_K) {
      //#unroll i 0 FRAGMENTS_M
      //#if A_T
      let a_$i = subgroupMatrixLoad<subgroup_matrix_left<f16, UNIT_K, UNIT_M>, col_major>(
        &tile_a, k * STRIDE_A + row0 + $(i)u * UNIT_M, STRIDE_A);
      //#else
      let a_$i = subgroupMatrixLoad<subgroup_matrix_left<f16, UNIT_K, UNIT_M>, row_major>(
        &tile_a, (row0 + $(i)u * UNIT_M) * STRIDE_A + k, STRIDE_A);
      //#end
      //#end
      //#unroll j 0 FRAGMENTS_N
      //#if B_T
      let b_$j = subgroupMatrixLoad<subgroup_matrix_right<f16, UNIT_N, UNIT_K>, col_major>(
        &tile_b, (column0 + $(j)u * UNIT_N) * STRIDE_B + k, STRIDE_B);
      //#else
      let b_$j = subgroupMatrixLoad<subgroup_matrix_right<f16, UNIT_N, UNIT_K>, row_major>(
        &tile_b, k * STRIDE_B + column0 + $(j)u * UNIT_N, STRIDE_B);
      //#end
      //#end
      //#unroll i 0 FRAGMENTS_M
      //#unroll j 0 FRAGMENTS_N
      acc_$(i)_$(j) = subgroupMatrixMultiplyAccumulate(a_$i, b_$j, acc_$(i)_$(j));
      //#end
      //#end
    }
    workgroupBarrier();
  }

  // Which lane has what of a piece is the unit's own affair: it goes through memory. A loop that picks the piece by
  // comparison, as software drivers compile every load and store in the text for long.
  let mine = subgroup * PIECE;
  for (var piece = 0u; piece < FRAGMENTS_M * FRAGMENTS_N; piece++) {
    //#unroll i 0 FRAGMENTS_M
    //#unroll j 0 FRAGMENTS_N
    if (piece == $(i*FRAGMENTS_N+j)u) { subgroupMatrixStore<row_major>(&pieces, mine, acc_$(i)_$(j), UNIT_N); }
    //#end
    //#end
    workgroupBarrier();
    for (var at = subgroup_lane * 4u; at < PIECE; at += SUBGROUP * 4u) {
      let row = tile_row + row0 + piece / FRAGMENTS_N * UNIT_M + at / UNIT_N;
      let column = tile_column + column0 + piece % FRAGMENTS_N * UNIT_N + at % UNIT_N;
      let p = mine + at;
      let sum = vec4f(pieces[p], pieces[p + 1u], pieces[p + 2u], pieces[p + 3u]);
      // One after the other: their product may be beyond f32.
      let product = sum * power_of_two(-exponent_a) * power_of_two(-exponent_b);
      store(row, column, load_start(row, column) + product);
    }
    workgroupBarrier();
  }
}
