//#include "elements.wgsl"
//#include "weight_io.wgsl"
//#include "weight_update.wgsl"
struct Params { count: u32, lambda: f32, key: u32, first_element: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> initial: array<Word>;
@group(0) @binding(2) var<storage, read_write> weight: array<Word>;
//#if LOWER
@group(0) @binding(3) var<storage, read> initial_lower: array<Word>;
@group(0) @binding(4) var<storage, read_write> lower: array<Word>;
//#end

fn new_value(i: u32, before: Vector) -> Vector {
  return averaged(i, before);
}

@compute @workgroup_size(64)
fn average(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  update_weights(element_of(id, groups));
}
