//#include "gemm_io.wgsl"

// For GPUs: a workgroup of THREADS_N×THREADS_M invocations computes a tile of (THREADS_M·TM)×(THREADS_N·TN) outputs
// from k-major tiles of TK in workgroup memory; each invocation keeps TM×TN accumulators.
const TILE_M = THREADS_M * TM;
const TILE_N = THREADS_N * TN;
const THREADS = THREADS_M * THREADS_N;

var<workgroup> tile_a: array<vec4f, TK * TILE_M / 4u>;
var<workgroup> tile_b: array<vec4f, TK * TILE_N / 4u>;

// Rows along K beyond its end count as zero; other rows are clamped, since their outputs are never stored.
fn stage_a(row0: u32, k0: u32, lane: u32) {
  //#if A_T
  for (var i = lane; i < TK * TILE_M / 4u; i += THREADS) {
    let k = k0 + i / (TILE_M / 4u);
    let m = min(row0 + i % (TILE_M / 4u) * 4u, (params.M - 1u) / 4u * 4u);
    tile_a[i] = select(ZERO, load_a(min(k, params.K - 1u), m), k < params.K);
  }
  //#else
  // Four rows at four ks: read along K, transposed into k-major order.
  for (var i = lane; i < TK * TILE_M / 16u; i += THREADS) {
    let k = k0 + i % (TK / 4u) * 4u;
    let m4 = i / (TK / 4u);
    let inside = k < params.K;
    let k_inside = select(0u, k, inside);
    let r0 = select(ZERO, load_a(min(row0 + m4 * 4u, params.M - 1u), k_inside), inside);
    let r1 = select(ZERO, load_a(min(row0 + m4 * 4u + 1u, params.M - 1u), k_inside), inside);
    let r2 = select(ZERO, load_a(min(row0 + m4 * 4u + 2u, params.M - 1u), k_inside), inside);
    let r3 = select(ZERO, load_a(min(row0 + m4 * 4u + 3u, params.M - 1u), k_inside), inside);
    let at = (k - k0) * (TILE_M / 4u) + m4;
    tile_a[at] = vec4f(r0.x, r1.x, r2.x, r3.x);
    tile_a[at + TILE_M / 4u] = vec4f(r0.y, r1.y, r2.y, r3.y);
    tile_a[at + 2u * (TILE_M / 4u)] = vec4f(r0.z, r1.z, r2.z, r3.z);
    tile_a[at + 3u * (TILE_M / 4u)] = vec4f(r0.w, r1.w, r2.w, r3.w);
  }
  //#end
}

fn stage_b(column0: u32, k0: u32, lane: u32) {
  //#if B_T
  for (var i = lane; i < TK * TILE_N / 16u; i += THREADS) {
    let k = k0 + i % (TK / 4u) * 4u;
    let n4 = i / (TK / 4u);
    let inside = k < params.K;
    let k_inside = select(0u, k, inside);
    let r0 = select(ZERO, load_b(min(column0 + n4 * 4u, params.N - 1u), k_inside), inside);
    let r1 = select(ZERO, load_b(min(column0 + n4 * 4u + 1u, params.N - 1u), k_inside), inside);
    let r2 = select(ZERO, load_b(min(column0 + n4 * 4u + 2u, params.N - 1u), k_inside), inside);
    let r3 = select(ZERO, load_b(min(column0 + n4 * 4u + 3u, params.N - 1u), k_inside), inside);
    let at = (k - k0) * (TILE_N / 4u) + n4;
    tile_b[at] = vec4f(r0.x, r1.x, r2.x, r3.x);
    tile_b[at + TILE_N / 4u] = vec4f(r0.y, r1.y, r2.y, r3.y);
    tile_b[at + 2u * (TILE_N / 4u)] = vec4f(r0.z, r1.z, r2.z, r3.z);
    tile_b[at + 3u * (TILE_N / 4u)] = vec4f(r0.w, r1.w, r2.w, r3.w);
  }
  //#else
  for (var i = lane; i < TK * TILE_N / 4u; i += THREADS) {
    let k = k0 + i / (TILE_N / 4u);
    let n = min(column0 + i % (TILE_N / 4u) * 4u, (params.N - 1u) / 4u * 4u);
    tile_b[i] = select(ZERO, load_b(min(k, params.K - 1u), n), k < params.K);
  }
  //#end
}

@compute @workgroup_size(THREADS_N, THREADS_M)
fn gemm_tiled(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u,
              @builtin(local_invocation_index) lane: u32) {
  let row0 = group.y * TILE_M + local.y * TM;
  // An invocation's columns come in groups of four, THREADS_N apart, so that neighbours read neighbouring vec4s.
  let column0 = group.x * TILE_N + local.x * 4u;
  //#unroll i 0 TM
  //#unroll j 0 TN/4
  var acc_$(i)_$(j) = load_start(row0 + $(i)u, column0 + $(j)u * THREADS_N * 4u);
  //#end
  //#end
  for (var k0 = 0u; k0 < params.K; k0 += TK) {
    stage_a(group.y * TILE_M, k0, lane);
    stage_b(group.x * TILE_N, k0, lane);
    workgroupBarrier();
    //#unroll k 0 TK
    {
      //#unroll i 0 TM/4
      let a_$i = tile_a[$(k)u * (TILE_M / 4u) + local.y * $(TM/4)u + $(i)u];
      //#end
      //#unroll j 0 TN/4
      let b_$j = tile_b[$(k)u * (TILE_N / 4u) + local.x + $(j)u * THREADS_N];
      //#end
      //#unroll i 0 TM
      //#unroll j 0 TN/4
      acc_$(i)_$(j) = fma(vec4f(a_$(i/4)[$(i%4)]), b_$(j), acc_$(i)_$(j));
      //#end
      //#end
    }
    //#end
    workgroupBarrier();
  }
  //#unroll i 0 TM
  //#unroll j 0 TN/4
  store(row0 + $(i)u, column0 + $(j)u * THREADS_N * 4u, acc_$(i)_$(j));
  //#end
  //#end
}
