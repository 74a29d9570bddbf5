// Four dimensions of a head from q, kv or dout; beyond D they are zero.
//#if VEC
fn load_q(at: u32, i: u32) -> vec4f { return q[at / 4u + i]; }
fn load_kv(at: u32, i: u32) -> vec4f { return kv[at / 4u + i]; }
//#else
fn load_q(at: u32, i: u32) -> vec4f {
  var value = vec4f(0.0, 0.0, 0.0, 0.0);
  for (var e = 0u; e < 4u; e++) { if (4u * i + e < D) { value[e] = q[at + 4u * i + e]; } }
  return value;
}
fn load_kv(at: u32, i: u32) -> vec4f {
  var value = vec4f(0.0, 0.0, 0.0, 0.0);
  for (var e = 0u; e < 4u; e++) { if (4u * i + e < D) { value[e] = kv[at + 4u * i + e]; } }
  return value;
}
//#end
//#if BACKWARD
//#if VEC
fn load_dout(at: u32, i: u32) -> vec4f { return dout[at / 4u + i]; }
//#else
fn load_dout(at: u32, i: u32) -> vec4f {
  var value = vec4f(0.0, 0.0, 0.0, 0.0);
  for (var e = 0u; e < 4u; e++) { if (4u * i + e < D) { value[e] = dout[at + 4u * i + e]; } }
  return value;
}
//#end
//#end
fn store(at: u32, i: u32, value: vec4f) {
  //#if VEC
  if (i < D4) { result[at / 4u + i] = value; }
  //#else
  for (var e = 0u; e < 4u; e++) { if (4u * i + e < D) { result[at + 4u * i + e] = value[e]; } }
  //#end
}
