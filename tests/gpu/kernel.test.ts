import assert from "node:assert/strict";
import { defineKernel, paramsBytes, writeParams } from "../../engine/gpu/kernel.ts";

const source = `//#include "params.wgsl"
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(1)
var<storage, read> x: array<vec4f>;
@compute @workgroup_size(WIDTH)
fn parsed() {
  //#if WIDE
  wide
  //#end
}`;
const includes = {
  "params.wgsl": `struct Params {
  count: u32, // elements, not bytes
  shift: i32,
  scale: f32, first: u32,
  last: u32
}
@group(0) @binding(0) var<uniform> params: Params;`,
};
const parsed = defineKernel({ name: "parsed", file: "parsed.wgsl", source, includes });
const variant = parsed.variant({ WIDTH: 64, WIDE: false });
const values = { count: 5, shift: -3, scale: 0.5, first: 0xffffffff, last: 0 };

Deno.test("kernel: bindings and params are read from the WGSL", () => {
  assert.deepEqual(variant.bindings, [
    { index: 1, access: "read", name: "x" },
    { index: 2, access: "read_write", name: "result" },
  ]);
  assert.deepEqual(variant.params.map(({ name, type }) => `${name}: ${type}`), [
    ...["count: u32", "shift: i32", "scale: f32", "first: u32", "last: u32"],
  ]);
  assert.equal(paramsBytes(variant), 32);
});

Deno.test("kernel: constants become WGSL constants and drive the template", () => {
  assert.ok(variant.source.code.startsWith("const WIDE: bool = false;\nconst WIDTH: u32 = 64u;\n"));
  assert.ok(!variant.source.code.includes("wide\n"));
  assert.ok(parsed.variant({ WIDTH: 64, WIDE: true }).source.code.includes("wide\n"));
  assert.equal(variant.source.origin.length, variant.source.code.split("\n").length);
});

Deno.test("kernel: variants are made once a set of constants, whatever their order; true is not 1", () => {
  assert.equal(parsed.variant({ WIDE: false, WIDTH: 64 }), variant);
  assert.notEqual(parsed.variant({ WIDE: 0, WIDTH: 64 }), variant);
  assert.notEqual(parsed.variant({ WIDE: 0, WIDTH: 64 }).key, variant.key);
});

Deno.test("kernel: params are written by name, in the struct's order", () => {
  const view = new DataView(new ArrayBuffer(64));
  writeParams(variant, { last: 0, first: 0xffffffff, scale: 0.5, shift: -3, count: 5 }, view, 16);
  assert.deepEqual(
    [view.getUint32(16, true), view.getInt32(20, true), view.getFloat32(24, true), view.getUint32(28, true)],
    [5, -3, 0.5, 0xffffffff],
  );
});

Deno.test("kernel: params that are missing, unknown or of the wrong type are rejected by name", () => {
  const view = new DataView(new ArrayBuffer(64));
  const write = (changed: Record<string, unknown>) => () =>
    writeParams(variant, { ...values, ...changed } as Record<string, number>, view, 0);
  assert.throws(write({ scale: undefined }), {
    name: "TypeError",
    message: /parsed\(.*"scale" is undefined/,
  });
  assert.throws(write({ scale: "1" }), { name: "TypeError", message: /"scale" is 1, expected a number/ });
  assert.throws(write({ count: true }), { name: "TypeError", message: /"count" is true/ });
  assert.throws(write({ width: 3 }), { name: "TypeError", message: /no param "width" in its WGSL/ });
  for (
    const [name, value, type] of [
      ...[["count", -1, "u32"], ["count", 0.5, "u32"], ["count", NaN, "u32"], ["count", 2 ** 32, "u32"]],
      ...[["shift", 2 ** 31, "i32"], ["shift", -(2 ** 31) - 1, "i32"]],
    ] as [string, number, string][]
  ) {
    assert.throws(write({ [name]: value }), {
      name: "RangeError",
      message: `kernel ${variant.key}: param "${name}" is ${value}, expected a ${type}`,
    });
  }
});

Deno.test("kernel: a source without Params, or with a field that isn't a 4-byte number, is rejected with its file", () => {
  const make = (name: string, source: string) => () =>
    defineKernel({ name, file: "odd.wgsl", source }).variant();
  assert.throws(make("odd1", "fn odd1() {}"), { name: "TypeError", message: 'odd.wgsl: no "struct Params"' });
  assert.throws(make("odd2", "struct Params { size: vec2u }"), {
    name: "TypeError",
    message: 'odd.wgsl: Params field "size: vec2u" is not u32, i32 or f32',
  });
});

Deno.test("kernel: a name can be taken only once", () => {
  const again = () => defineKernel({ name: "parsed", file: "other.wgsl", source });
  assert.throws(again, { name: "TypeError", message: /"parsed" is defined twice/ });
});
