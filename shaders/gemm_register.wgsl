//#include "gemm_io.wgsl"

// For software adapters: workgroup memory is only memory there, so each invocation keeps TM×TN outputs in registers
// and loads straight from storage. A workgroup is one 8-wide vector of invocations side by side along N.
@compute @workgroup_size(8)
fn gemm_register(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row0 = group.y * TM;
  let column0 = (group.x * 8u + lane) * TN;
  if (column0 >= params.N) { return; }
  //#unroll i 0 TM
  //#unroll j 0 TN/4
  var acc_$(i)_$(j) = load_start(row0 + $(i)u, column0 + $(4*j)u);
  //#end
  //#end
  //#if !A_T
  //#unroll i 0 TM
  let row_$i = min(row0 + $(i)u, params.M - 1u);
  //#end
  //#end
  //#if B_T
  //#unroll j 0 TN
  let column_$j = min(column0 + $(j)u, params.N - 1u);
  //#end
  //#end
  for (var k = 0u; k < params.K; k += 4u) {
    //#if A_T
    //#unroll kk 0 4
    let k_$kk = min(k + $(kk)u, params.K - 1u);
    let inside_$kk = k + $(kk)u < params.K;
    //#unroll i 0 TM/4
    let a_$(kk)_$(i) = select(ZERO, load_a(k_$kk, min(row0 + $(4*i)u, (params.M - 1u) / 4u * 4u)), inside_$kk);
    //#end
    //#end
    //#else
    //#unroll i 0 TM
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
    //#if A_T
    let kb_$kk = k_$kk;
    //#else
    let kb_$kk = min(k + $(kk)u, params.K - 1u);
    //#end
    //#unroll j 0 TN/4
    let b_$(kk)_$(j) = load_b(kb_$kk, min(column0 + $(4*j)u, (params.N - 1u) / 4u * 4u));
    //#end
    //#end
    //#end
    //#unroll kk 0 4
    //#unroll i 0 TM
    //#unroll j 0 TN/4
    //#if A_T
    acc_$(i)_$(j) = fma(vec4f(a_$(kk)_$(i/4)[$(i%4)]), b_$(kk)_$(j), acc_$(i)_$(j));
    //#else
    acc_$(i)_$(j) = fma(vec4f(a_$(i)[$kk]), b_$(kk)_$(j), acc_$(i)_$(j));
    //#end
    //#end
    //#end
    //#end
  }
  //#unroll i 0 TM
  //#unroll j 0 TN/4
  store(row0 + $(i)u, column0 + $(4*j)u, acc_$(i)_$(j));
  //#end
  //#end
}
