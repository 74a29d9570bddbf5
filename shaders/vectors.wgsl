// What one load takes: a vec4 of neighbours, where VEC says that everything is a multiple of four, or one number.
// lavapipe spends some 40 instructions on a load, of either size.
//#if VEC
alias Vector = vec4f;
const VECTOR_WIDTH = 4u;

// sum + all of a vector, in their order: as many roundings, and the same bits, as number by number.
fn plus(sum: f32, value: Vector) -> f32 { return sum + value.x + value.y + value.z + value.w; }
//#else
alias Vector = f32;
const VECTOR_WIDTH = 1u;

fn plus(sum: f32, value: Vector) -> f32 { return sum + value; }
//#end
