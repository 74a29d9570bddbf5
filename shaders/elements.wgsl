// Index of an invocation in a folded one-dimensional grid of 64-wide workgroups.
fn element_of(id: vec3u, groups: vec3u) -> u32 {
  return id.x + id.y * groups.x * 64u;
}
