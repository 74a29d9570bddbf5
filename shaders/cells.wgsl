// A cell is what one load takes: four neighbours, where VEC says that everything is a multiple of four, or one number.
// lavapipe spends some 40 instructions on a load, of either size.
//#if VEC
alias Cell = vec4f;
const CELL = 4u;

// sum + all of a cell, in their order: as many roundings, and the same bits, as number by number.
fn plus(sum: f32, value: Cell) -> f32 { return sum + value.x + value.y + value.z + value.w; }
//#else
alias Cell = f32;
const CELL = 1u;

fn plus(sum: f32, value: Cell) -> f32 { return sum + value; }
//#end
