//#include "gemm_io.wgsl"

// For software adapters with subgroups of at least 8: as gemm_register.wgsl, but A, which all lanes of a workgroup share,
// is read once: each lane loads an eighth of it and the values go round by shuffles. lavapipe loads lane by lane, some 40
// instructions a vec4, so this leaves TM + 8·TN of them for TM·TN·32 products instead of 8·(TM + TN).
@compute @workgroup_size(8)
fn gemm_shuffle(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row0 = group.y * TM;
  // Lanes beyond N stay: they hold parts of A.
  let column0 = (group.x * 8u + lane) * TN;
  //#unroll i 0 TM
  //#unroll j 0 TN/4
  var acc_$(i)_$(j) = ZERO;
  //#end
  //#end
  // Loops that pick a row's accumulators by comparison: lavapipe compiles each load and store in the text for some 10 ms.
  //#unroll g 0 TM/8
  let rows_$g = min(max(params.M, row0 + $(8*g)u) - (row0 + $(8*g)u), 8u);
  for (var r = 0u; r < select(0u, rows_$g, has_start()); r++) {
    //#unroll j 0 TN/4
    let start_$j = load_start(row0 + $(8*g)u + r, column0 + $(4*j)u);
    //#unroll i 0 8
    acc_$(8*g+i)_$(j) = select(acc_$(8*g+i)_$(j), start_$j, r == $(i)u);
    //#end
    //#end
  }
  //#end
  //#if !A_T
  //#unroll i 0 TM/8
  let row_$i = min(row0 + $(8*i)u + lane, params.M - 1u);
  //#end
  //#end
  //#if B_T
  //#unroll j 0 TN
  let column_$j = min(column0 + $(j)u, params.N - 1u);
  //#end
  //#else
  //#unroll j 0 TN/4
  let column_$j = min(column0 + $(4*j)u, (params.N - 1u) / 4u * 4u);
  //#end
  //#end
  for (var k = 0u; k < params.K; k += 4u) {
    // A_T: TM/4 vec4s at each of four ks, counted through. Otherwise: lane l has row 8·i + l.
    //#unroll i 0 TM/8
    //#if A_T
    let k_a_$i = k + ($(8*i)u + lane) / $(TM/4)u;
    let m_$i = min(row0 + ($(8*i)u + lane) % $(TM/4)u * 4u, (params.M - 1u) / 4u * 4u);
    let a_$i = select(ZERO, load_a(min(k_a_$i, params.K - 1u), m_$i), k_a_$i < params.K);
    //#else
    let a_$i = load_a(row_$i, k);
    //#end
    //#end
    //#if B_T
    //#unroll j 0 TN
    let b_$j = load_b(column_$j, k);
    //#end
    //#unroll kk 0 4
    //#unroll j 0 TN/4
    let b_$(kk)_$(j) = vec4f(b_$(4*j)[$kk], b_$(4*j+1)[$kk], b_$(4*j+2)[$kk], b_$(4*j+3)[$kk]);
    //#end
    //#end
    //#else
    //#unroll kk 0 4
    let k_b_$kk = min(k + $(kk)u, params.K - 1u);
    //#unroll j 0 TN/4
    let b_$(kk)_$(j) = load_b(k_b_$kk, column_$j);
    //#end
    //#end
    //#end
    //#unroll i 0 TM
    //#unroll kk 0 4
    //#if A_T
    let s_$(i)_$(kk) = subgroupShuffle(a_$((TM/4*kk+i/4)/8)[$(i%4)], $((TM/4*kk+i/4)%8)u);
    //#else
    let s_$(i)_$(kk) = subgroupShuffle(a_$(i/8)[$kk], $(i%8)u);
    //#end
    //#unroll j 0 TN/4
    acc_$(i)_$(j) = fma(vec4f(s_$(i)_$(kk)), b_$(kk)_$(j), acc_$(i)_$(j));
    //#end
    //#end
    //#end
  }
  //#unroll g 0 TM/8
  for (var r = 0u; r < rows_$g; r++) {
    //#unroll j 0 TN/4
    var out_$j = acc_$(8*g)_$(j);
    //#unroll i 1 8
    out_$j = select(out_$j, acc_$(8*g+i)_$(j), r == $(i)u);
    //#end
    store(row0 + $(8*g)u + r, column0 + $(4*j)u, out_$j);
    //#end
  }
  //#end
}
