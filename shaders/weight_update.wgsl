// One pass over stored weights, an invocation a vector, or a word of two bf16. The kernel that includes this declares
// `weight`, with LOWER `lower`, and gives new values: fn new_value(i: u32, before: Vector) -> Vector, i counting vectors.
//#if AVERAGE
// (1 − λ) · before + λ · initial, as a step from the nearer side: λ = 0 changes no bit, λ = 1 gives the initial value.
fn averaged(i: u32, before: Vector) -> Vector {
  //#if !BF16
  let goal = initial[i];
  //#else
  //#if VEC
  let word = i;
  //#else
  let word = i / 2u;
  //#end
  //#if LOWER
  let goal = value_of(initial[word], initial_lower[word], i);
  //#else
  let goal = value_of(initial[word], i);
  //#end
  //#end
  let step = goal - before;
  return select(
    before + params.lambda * step,
    goal - (1.0 - params.lambda) * step,
    params.lambda > 0.5,
  );
}
//#end

fn update_weights(index: u32) {
  //#if !BF16
  if (index < params.count / VECTOR_WIDTH) { weight[index] = new_value(index, weight[index]); }
  //#else
  //#if VEC
  if (index >= params.count / VECTOR_WIDTH) { return; }
  //#if LOWER
  let value = new_value(index, value_of(weight[index], lower[index], 0u));
  // The distance of the master's bits from the rounded ones, modulo 2^16.
  let m = master_bits(value);
  lower[index] = vec2u((m.x & 0xffffu) | (m.y << 16u), (m.z & 0xffffu) | (m.w << 16u));
  //#else
  let value = new_value(index, value_of(weight[index], 0u));
  //#end
  let bits = rounded_bits(value, params.key, params.first_element + VECTOR_WIDTH * index + vec4u(0u, 1u, 2u, 3u));
  weight[index] = vec2u((bits.x >> 16u) | (bits.y & 0xffff0000u), (bits.z >> 16u) | (bits.w & 0xffff0000u));
  //#else
  if (2u * index >= params.count) { return; }
  let upper = weight[index];
  var new_upper = upper;
  //#if LOWER
  let rest = lower[index];
  var new_lower = rest;
  //#end
  //#unroll e 0 2
  if (2u * index + $(e)u < params.count) {
    let i = 2u * index + $(e)u;
    //#if LOWER
    let value = new_value(i, value_of(upper, rest, i));
    new_lower = insertBits(new_lower, master_bits(value), $(16*e)u, 16u);
    //#else
    let value = new_value(i, value_of(upper, i));
    //#end
    let bits = rounded_bits(value, params.key, params.first_element + i);
    new_upper = insertBits(new_upper, bits >> 16u, $(16*e)u, 16u);
  }
  //#end
  weight[index] = new_upper;
  //#if LOWER
  lower[index] = new_lower;
  //#end
  //#end
  //#end
}
