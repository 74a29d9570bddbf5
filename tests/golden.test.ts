import assert from "node:assert/strict";
import {
  assertClose,
  assertFinalParameter,
  assertGradient,
  assertMaxAbs,
  assertNear,
  assertRelL2,
  assertSameBits,
  batch,
  floats,
  GOLDEN_MODELS,
  keptIndices,
  loadGolden,
  maxAbs,
  maxAbsDiff,
  relL2,
} from "./golden.ts";
import { Random } from "./random.ts";
import { encodeSafetensors, parseSafetensors, widen } from "./safetensors.ts";

Deno.test("comparisons fail on NaN on either side, and name tensor, index, expected and found", () => {
  for (const [found, expected] of [[[1, NaN, 3], [1, 2, 3]], [[1, 2, 3], [1, NaN, 3]]]) {
    assert.ok(Number.isNaN(maxAbsDiff(found, expected)));
    assert.ok(Number.isNaN(relL2(found, expected)));
    const where = new RegExp(`w: .*\\[1\\] expected ${expected[1]}, found ${found[1]}`);
    assert.throws(() => assertMaxAbs("w", found, expected, 1e9), where);
    assert.throws(() => assertClose("w", found, expected, { relative: 1e9 }), where);
    assert.throws(() => assertRelL2("w", found, expected, 1e9), where);
    assert.throws(() => assertNear("w", found[1], expected[1], 1e9), /w: expected/);
  }
  assert.ok(Number.isNaN(maxAbs([1, NaN, 2])));
  assert.throws(() => assertMaxAbs("w", [1], [1, 2], 1), /w: expected 2 elements, found 1/);
});

Deno.test("comparisons pass up to the tolerance and report the worst element beyond it", () => {
  assertMaxAbs("w", [1, 2.5], [1, 2], 0.5);
  assertClose("w", [11, 0.1], [10, 0], { relative: 0.1, absolute: 0.1 });
  assert.throws(
    () => assertMaxAbs("w", [1.5, 2, 7], [1, 2, 3], 0.25),
    /2 of 3 elements.*worst \[2\] expected 3, found 7; first \[0\]/,
  );
  assert.equal(relL2([3, 4], [3, 4]), 0);
  assert.equal(relL2([1], [0]), Infinity);
  assert.throws(() => assertRelL2("w", [1], [0], 1));
  assertSameBits("w", Float32Array.of(1, NaN), Float32Array.of(1, NaN));
  assert.throws(() => assertSameBits("w", Float32Array.of(0), Float32Array.of(-0)), /w\[0\]/);
});

Deno.test("golden asserts pass the golden itself and catch one wrong element", () => {
  const golden = loadGolden("llama");
  const name = "model.layers.1.self_attn.k_proj.weight";
  const gradient = floats(golden, `grad/${name}`).slice();
  const final = floats(golden, `train.final/${name}`).slice();
  assertGradient(golden, name, gradient);
  assertFinalParameter(golden, name, final);
  gradient[17] += 1e-4 * maxAbs(gradient);
  assert.throws(() => assertGradient(golden, name, gradient), /llama grad.*k_proj.*\[17\]/);
  final[keptIndices(golden, name)[5]] += 1e-4;
  assert.throws(() => assertFinalParameter(golden, name, final), /llama train.final.*\[5\]/);
  const long = loadGolden("phi3_longrope");
  const norm = floats(long, "long.grad/model.norm.weight");
  assertGradient(long, "model.norm.weight", norm, "long.grad");
  assert.throws(() => assertGradient(long, "model.norm.weight", norm), /phi3_longrope grad/);
});

Deno.test("every golden loads: its parameters and no other tensors, batches of real tokens only", () => {
  const types = new Set<string>();
  for (const name of GOLDEN_MODELS) {
    const golden = loadGolden(name);
    const { golden: info, weights } = golden;
    types.add(info.weights_dtype);
    assert.deepEqual([...weights.keys()], info.train.parameter_order, name);
    assert.equal(
      [...weights.values()].reduce((sum, { data }) => sum + data.length, 0),
      info.parameters,
      name,
    );
    for (const { data } of weights.values()) assert.ok(maxAbs(data) < 100);
    for (const side of ["right", "left", "long"] as const) {
      assert.equal(side in info.batches, side !== "long" || name === "phi3_longrope");
      if (!(side in info.batches)) continue;
      const examples = batch(golden, side);
      const { B, T, real_positions, supervised } = info.batches[side];
      assert.equal(examples.length, B);
      assert.ok(Math.max(...examples.map(({ ids }) => ids.length)) <= T);
      assert.equal(examples.flatMap(({ ids }) => ids).length, real_positions);
      assert.equal(
        examples.flatMap(({ labels }) => labels).filter((label) => label !== -100).length,
        supervised,
      );
    }
  }
  assert.deepEqual([...types].sort(), ["BF16", "F16", "F32"]);
});

Deno.test("safetensors: what is written is read back, and 16-bit types widen exactly", () => {
  const data = new Random(17).normal(6);
  const file = encodeSafetensors([["a", { shape: [2, 3], data }], ["b", {
    shape: [1],
    data: data.subarray(4, 5),
  }]]);
  const tensors = parseSafetensors(file);
  assert.deepEqual([...tensors.keys()], ["a", "b"]);
  assert.deepEqual(tensors.get("a")!.shape, [2, 3]);
  assertSameBits("a", widen("a", tensors.get("a")!), data);
  assertSameBits("b", widen("b", tensors.get("b")!), data.slice(4, 5));
  const half = (dtype: string, ...bits: number[]) =>
    Array.from(
      widen("h", { dtype, shape: [bits.length], bytes: new Uint8Array(Uint16Array.from(bits).buffer) }),
    );
  assert.deepEqual(half("BF16", 0x3f80, 0xc020, 0x0001), [1, -2.5, 2 ** -133]);
  assert.deepEqual(half("F16", 0x3c00, 0xc100, 0x0001), [1, -2.5, 2 ** -24]);
  assert.throws(() => half("I16", 1), /expected F32, F16 or BF16, found I16/);
});

Deno.test("random numbers repeat for a seed and have the moments they should", () => {
  assertSameBits("normal", new Random(5).normal(101), new Random(5).normal(101));
  assert.notEqual(new Random(5).next(), new Random(6).next());
  const normal = new Random(18).normal(20000, 2, 1);
  const mean = normal.reduce((sum, x) => sum + x, 0) / normal.length;
  const variance = normal.reduce((sum, x) => sum + (x - mean) ** 2, 0) / normal.length;
  assertNear("mean", mean, 1, 0.05);
  assertNear("variance", variance, 4, 0.15);
  const integers = new Random(19).integers(1000, -2, 3);
  assert.deepEqual([...new Set(integers)].sort((a, b) => a - b), [-2, -1, 0, 1, 2]);
  const uniform = new Random(20).uniform(1000, -1, 3);
  assert.ok(uniform.every((x) => x >= -1 && x <= 3));
  assertNear("sum", new Random(21).distribution(50).reduce((sum, x) => sum + x, 0), 1, 1e-12);
});
