import assert from "node:assert/strict";
import { bytesOf, dtypeBytes, narrow, widen } from "../../engine/tensor/dtype.ts";
import { someValues } from "./support.ts";

const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);

Deno.test("all f16 patterns widen as the platform's Float16Array does and come back bit-equal", () => {
  const wide = widen("F16", bytesOf(patterns));
  const expected = new Float16Array(patterns.buffer);
  for (let i = 0; i < 65536; i++) {
    assert.ok(Object.is(wide[i], expected[i]), `pattern ${i}: ${wide[i]}, expected ${expected[i]}`);
  }
  assert.deepEqual(narrow("F16", wide), bytesOf(patterns));
});

Deno.test("all bf16 patterns widen to f32's upper half and come back bit-equal", () => {
  const wide = widen("BF16", bytesOf(patterns));
  const bits = new Uint32Array(wide.buffer);
  for (let i = 0; i < 65536; i++) assert.equal(bits[i], i * 65536);
  assert.deepEqual(narrow("BF16", wide), bytesOf(patterns));
});

Deno.test("f16 narrowing rounds as Float16Array does, at every tie and its neighbours and at random", () => {
  const finite = widen("F16", bytesOf(patterns.subarray(0, 0x7c00)));
  const probes: number[] = [];
  for (let i = 0; i + 1 < finite.length; i++) {
    const tie = new Float32Array([(finite[i] + finite[i + 1]) / 2]);
    const bits = new Uint32Array(tie.buffer);
    for (const step of [-1, 0, 1]) {
      bits[0] += step;
      probes.push(tie[0], -tie[0]);
      bits[0] -= step;
    }
  }
  const overflow = [65504, 65519.996, 65520, 65535, 65536, 1e30, Infinity, 2 ** -25, 2 ** -26, 1e-45, 0];
  const values = Float32Array.from([
    ...probes,
    ...overflow,
    ...overflow.map((x) => -x),
    ...someValues(10000),
  ]);
  const expected = new Float16Array(values);
  const found = new Uint16Array(narrow("F16", values).buffer);
  const wanted = new Uint16Array(expected.buffer);
  for (let i = 0; i < values.length; i++) assert.equal(found[i], wanted[i], `${values[i]}`);
});

Deno.test("bf16 narrowing rounds to nearest, ties to even, overflows to infinity", () => {
  const cases: [number, number][] = [
    [0x3f808000, 0x3f80], // tie, even below
    [0x3f818000, 0x3f82], // tie, even above
    [0x3f807fff, 0x3f80],
    [0x3f808001, 0x3f81],
    [0xbf818000, 0xbf82],
    [0x7f7f7fff, 0x7f7f],
    [0x7f7f8000, 0x7f80], // beyond the largest: infinity
    [0xff7fffff, 0xff80],
    [0x00008000, 0x0000], // subnormal ties
    [0x00018000, 0x0002],
    [0x80000001, 0x8000],
    [0x7f800001, 0x7fc0], // NaN whose payload would be cut off
    [0xffffffff, 0xffff],
  ];
  const values = new Float32Array(Uint32Array.from(cases, ([bits]) => bits).buffer);
  const found = new Uint16Array(narrow("BF16", values).buffer);
  cases.forEach(([bits, want], i) => assert.equal(found[i], want, bits.toString(16)));
});

Deno.test("a NaN stays one whatever its payload", () => {
  const bits = Uint32Array.of(0x7f800001, 0x7fc00000, 0xffc00001, 0x7f801fff, 0xffffffff);
  const values = new Float32Array(bits.buffer);
  for (const dtype of ["F16", "BF16"] as const) {
    assert.ok(widen(dtype, narrow(dtype, values)).every(Number.isNaN), dtype);
  }
  assert.deepEqual(new Uint32Array(narrow("F32", values).buffer), bits);
});

Deno.test("widen and narrow take unaligned bytes and buffers to reuse, and copy F32", () => {
  const values = someValues(7);
  for (const dtype of ["F32", "F16", "BF16"] as const) {
    const stored = narrow(dtype, values);
    const shifted = new Uint8Array(stored.byteLength + 1);
    shifted.set(stored, 1);
    const out = new Float32Array(9).fill(5);
    const wide = widen(dtype, shifted.subarray(1), out);
    assert.deepEqual(wide, widen(dtype, stored));
    assert.equal(wide.buffer, out.buffer);
    assert.deepEqual([wide.length, out[7], out[8]], [7, 5, 5]);
    const reused = new Uint8Array(40);
    assert.deepEqual(narrow(dtype, values, reused), stored);
    assert.notEqual(stored.buffer, values.buffer);
  }
});

Deno.test("wrong sizes and unknown types are errors that say so", () => {
  assert.throws(
    () => widen("F32", new Uint8Array(6)),
    /RangeError: widen F32: expected a multiple of 4.*found 6/,
  );
  assert.throws(() => widen("F16", new Uint8Array(6), new Float32Array(2)), /needs 3 elements, found 2/);
  assert.throws(() => narrow("BF16", new Float32Array(3), new Uint8Array(5)), /needs 6 bytes.*found 5/);
  assert.throws(() => dtypeBytes("F12"), /TypeError: unknown dtype "F12"/);
  assert.throws(() => dtypeBytes("toString"), TypeError);
  assert.deepEqual(["BOOL", "BF16", "F32", "I64"].map(dtypeBytes), [1, 2, 4, 8]);
});
