// largest[s] = bits of the largest |x| of slab s of a matrix. Bits of magnitudes are in their order, NaN above all, so the
// maximum is the same in any order and no NaN is lost.
struct Params { rows: u32, columns: u32, ld: u32, offset: u32 }

@group(0) @binding(0) var<uniform> params: Params;
// BF16: two a word, the even one in its low half
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> largest: array<u32>;

var<workgroup> maxima: array<u32, 64>;

fn magnitude(at: u32) -> u32 {
  //#if BF16
  return select(x[at / 2u] & 0x7fff0000u, x[at / 2u] << 16u, at % 2u == 0u) & 0x7fffffffu;
  //#else
  return x[at] & 0x7fffffffu;
  //#end
}

@compute @workgroup_size(64)
fn largest_magnitude(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  var found = 0u;
  for (var i = group.x * 64u + lane; i < params.rows * params.columns; i += SLABS * 64u) {
    found = max(found, magnitude(params.offset + i / params.columns * params.ld + i % params.columns));
  }
  maxima[lane] = found;
  workgroupBarrier();
  for (var step = 32u; step > 0u; step /= 2u) {
    if (lane < step) { maxima[lane] = max(maxima[lane], maxima[lane + step]); }
    workgroupBarrier();
  }
  if (lane == 0u) { largest[group.x] = maxima[0]; }
}
