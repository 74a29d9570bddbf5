//#include "vectors.wgsl"
// Weights as they are stored. f32: one a word. BF16: two a word, the even one in the low half. LOWER: a second plane holds
// the signed distance of the f32 bits from the bf16 that is their upper half, rounded with ties away from zero.
// Without LOWER a new bf16 is rounded stochastically, by bits that depend on key and element only.
//#if VEC
alias Bits = vec4u;
//#else
alias Bits = u32;
//#end
//#if !BF16
alias Word = Vector;
//#else
//#if VEC
alias Word = vec2u; // four elements are two words
//#else
alias Word = u32; // of two; `element` says which one is meant
//#end
//#end

//#if BF16
//#if VEC
fn upper_bits(words: Word, element: u32) -> Bits {
  return vec4u(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u);
}

// The signed halves, as numbers modulo 2^32.
fn lower_bits(words: Word, element: u32) -> Bits {
  return bitcast<vec4u>(bitcast<vec4i>(vec4u(words.x << 16u, words.x, words.y << 16u, words.y)) >> vec4u(16u));
}
//#else
fn upper_bits(word: Word, element: u32) -> Bits {
  return select(word & 0xffff0000u, word << 16u, element % 2u == 0u);
}

fn lower_bits(word: Word, element: u32) -> Bits {
  return bitcast<u32>(bitcast<i32>(select(word, word << 16u, element % 2u == 0u)) >> 16u);
}
//#end

//#if LOWER
fn value_of(upper: Word, lower: Word, element: u32) -> Vector {
  return bitcast<Vector>(upper_bits(upper, element) + lower_bits(lower, element));
}
//#else
fn value_of(upper: Word, element: u32) -> Vector { return bitcast<Vector>(upper_bits(upper, element)); }
//#end

fn master_bits(value: Vector) -> Bits {
  let bits = bitcast<Bits>(value);
  // A NaN whose bits would round over to −0 must stay one.
  return select(bits, Bits(0x7fc00000u), (bits & Bits(0x7fffffffu)) > Bits(0x7f800000u));
}

//#if !LOWER
// PCG output function on a counter: 16 random bits for an element.
fn random_half(key: u32, element: Bits) -> Bits {
  var state = (element ^ Bits(key)) * 747796405u + 2891336453u;
  state = ((state >> ((state >> Bits(28u)) + 4u)) ^ state) * 277803737u;
  state = ((state >> Bits(22u)) ^ state) + key;
  state = (state ^ (state >> Bits(16u))) * 0x7feb352du;
  return (state ^ (state >> Bits(15u))) >> Bits(16u);
}
//#end

// Bits of a new value as bf16 in the upper half; the lower half is what is left to its master, if it has one.
fn rounded_bits(value: Vector, key: u32, element: Bits) -> Bits {
  let bits = master_bits(value);
  //#if LOWER
  return bits + 0x8000u;
  //#else
  // Infinity and NaN are kept as they are.
  return select(bits + random_half(key, element), bits, (bits & Bits(0x7f800000u)) == Bits(0x7f800000u));
  //#end
}
//#end
