// Weights as they are stored. f32: one a word. BF16: two a word, the even one in the low half. LOWER: a second plane holds
// the signed distance of the f32 bits from the bf16 that is their upper half, rounded with ties away from zero.
// Without LOWER a new bf16 is rounded stochastically, by bits that depend on key and element only.
//#if BF16
alias Word = u32;
//#else
alias Word = f32;
//#end

//#if BF16
fn upper_value(word: u32, element: u32) -> f32 {
  return bitcast<f32>(select(word & 0xffff0000u, word << 16u, element % 2u == 0u));
}

//#if LOWER
// The signed half of a word that belongs to an element.
fn lower_half(word: u32, element: u32) -> i32 {
  return select(bitcast<i32>(word) >> 16u, bitcast<i32>(word << 16u) >> 16u, element % 2u == 0u);
}

fn joined(upper: u32, lower: u32, element: u32) -> f32 {
  return bitcast<f32>(bitcast<u32>(upper_value(upper, element)) + bitcast<u32>(lower_half(lower, element)));
}
//#end

fn master_bits(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  // A NaN whose bits would round over to −0 must stay one.
  return select(bits, 0x7fc00000u, (bits & 0x7fffffffu) > 0x7f800000u);
}

//#if !LOWER
// PCG output function on a counter: 16 random bits for an element.
fn random_half(key: u32, element: u32) -> u32 {
  var state = (element ^ key) * 747796405u + 2891336453u;
  state = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  state = ((state >> 22u) ^ state) + key;
  state = (state ^ (state >> 16u)) * 0x7feb352du;
  return (state ^ (state >> 15u)) >> 16u;
}
//#end

// Bits of a new value as bf16 in the upper half; the lower half is what is left to its master, if it has one.
fn rounded_bits(value: f32, key: u32, element: u32) -> u32 {
  let bits = master_bits(value);
  //#if LOWER
  return bits + 0x8000u;
  //#else
  // Infinity and NaN are kept as they are.
  return select(bits + random_half(key, element), bits, (bits & 0x7f800000u) == 0x7f800000u);
  //#end
}
//#end
