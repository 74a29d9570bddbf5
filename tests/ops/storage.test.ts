/** Updates of weights that are stored as bf16, with and without the rest of an f32 master. */
import assert from "node:assert/strict";
import { adamw } from "../../engine/ops/adamw.ts";
import { average } from "../../engine/ops/average.ts";
import { roundingKey } from "../../engine/ops/weight_io.ts";
import type { Slot } from "../../engine/gpu/pool.ts";
import { joinMaster, splitMaster } from "../../engine/tensor/split.ts";
import type { Storage, Stored } from "../../engine/tensor/stored.ts";
import { assertSameBits } from "../compare.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { nearestBf16, stochasticBf16 } from "../reference/storage.ts";
import { coverageTest } from "./full_tiles.ts";
import { OpTest, TARGETS } from "./support.ts";

const gpu = await sharedGpu();

const halves = (data: Uint16Array | Int16Array) => {
  const words = new Uint32Array(Math.ceil(data.length / 2));
  new Uint8Array(words.buffer).set(new Uint8Array(data.buffer));
  return words;
};

/** Puts numbers into a test's slots as `storage` keeps them. */
function store(test: OpTest, storage: Storage, values: Float32Array<ArrayBuffer>, label = "w"): Stored {
  if (storage === "f32") return { storage, weight: test.inout(label, values) };
  const [upper, lower] = [new Uint16Array(values.length), new Int16Array(values.length)];
  splitMaster(values, upper, lower);
  const weight = test.inout(label, halves(upper));
  return storage === "bf16" ? { storage, weight } : {
    storage,
    weight,
    lower: test.inout(`${label} lower`, halves(lower)),
  };
}

/** The numbers that a test's slots hold after a run. */
function stored(test: OpTest, { storage, weight, lower }: Stored, count: number): Float32Array {
  if (storage === "f32") return test.floats(weight);
  const upper = new Uint16Array(test.words(weight).buffer).subarray(0, count);
  return joinMaster(upper, lower && new Int16Array(test.words(lower).buffer).subarray(0, count));
}

/** The bf16 numbers that are computed with. */
function computedWith(test: OpTest, { weight }: Stored, count: number): Float32Array {
  return joinMaster(new Uint16Array(test.words(weight).buffer).subarray(0, count));
}

Deno.test("splitMaster and joinMaster: exact for every kind of number", () => {
  const special = Uint32Array.of(
    ...[0, 0x80000000, 1, 0x80000001, 0x7fffff, 0x00800000, 0x3f800000, 0x3f808000, 0x3f807fff, 0x3f808001],
    ...[0xbf808000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000],
  );
  const values = Float32Array.of(...new Float32Array(special.buffer), ...new Random(1).normal(1001));
  const [upper, lower] = [new Uint16Array(values.length), new Int16Array(values.length)];
  splitMaster(values, upper, lower);
  assertSameBits("joined", joinMaster(upper, lower), values);
  const finite = values.slice(15);
  assert.deepEqual(joinMaster(upper.subarray(15)), finite.map(nearestBf16));
  splitMaster(
    new Float32Array(Uint32Array.of(0x7fffffff, 0xffffffff).buffer),
    upper.subarray(0, 2),
    lower.subarray(0, 2),
  );
  assert.ok(joinMaster(upper.subarray(0, 2)).every(Number.isNaN), "a NaN that is computed with stays one");
  assert.throws(() => splitMaster(values, upper, new Int16Array(3)), { name: "RangeError" });
});

for (const target of TARGETS) {
  for (const count of [1, 2, 131, 260]) {
    Deno.test(`AdamW and averaging (${target.label}): one pass gives the bits of two, ${count}`, async () => {
      const random = new Random(count);
      const [p, p0, g] = [random.normal(count), random.normal(count), random.normal(count)];
      if (count > 100) p[77] = NaN;
      if (count > 100) g[78] = NaN;
      for (const storage of ["f32", "split"] as const) {
        for (const lambda of [0, 0.25, 0.75, 1]) {
          using test = new OpTest(gpu, target);
          const numbers = { learningRate: 0.01, betas: [0.9, 0.999], epsilon: 1e-8 } as const;
          const results = [true, false].map((together) => {
            const label = `${storage} ${together}`;
            const parameter = store(test, storage, p, label);
            const initial = store(test, storage, p0, `${label} initial`);
            const slots = {
              gradient: test.input("g", g),
              clip: test.input("clip", Float32Array.of(1, 0.5)),
              moment1: test.output("m", count),
              moment2: test.output("v", count),
              parameter,
            };
            const rounding = { key: 0, firstElement: 0 };
            for (const step of [1, 2]) {
              const averaged = together && step === 2 ? { initial } : {};
              adamw(
                test.recorder,
                count,
                0.1,
                { ...slots, ...averaged },
                () => ({ step, lambda, ...numbers }),
              );
            }
            if (!together) {
              average(test.recorder, count, { initial, parameter }, () => ({ lambda, rounding }));
            }
            return { parameter, slots };
          });
          await test.run();
          const [one, two] = results;
          const words = (slot: Slot) => test.words(slot);
          for (const moment of ["moment1", "moment2"] as const) {
            assert.deepEqual(words(one.slots[moment]), words(two.slots[moment]), moment);
          }
          assert.deepEqual(words(one.parameter.weight), words(two.parameter.weight), `${storage} ${lambda}`);
          if (storage === "split") assert.deepEqual(words(one.parameter.lower!), words(two.parameter.lower!));
          const values = stored(test, one.parameter, count);
          if (count > 100) assert.ok([77, 78].every((i) => Number.isNaN(values[i])));
        }
      }
    });

    Deno.test(`AdamW and averaging (${target.label}): a split master takes the f32 steps bit by bit, ${count}`, async () => {
      const random = new Random(count);
      const [p, p0, g] = [random.normal(count), random.normal(count), random.normal(count)];
      if (count > 100) p[77] = NaN;
      using test = new OpTest(gpu, target);
      const results = (["f32", "split"] as const).map((storage) => {
        const parameter = store(test, storage, p, storage);
        const initial = store(test, storage, p0, `${storage} initial`);
        const slots = {
          gradient: test.input("g", g),
          clip: test.input("clip", Float32Array.of(1, 0.5)),
          moment1: test.output("m", count),
          moment2: test.output("v", count),
          parameter,
        };
        const numbers = { learningRate: 0.01, betas: [0.9, 0.999], epsilon: 1e-8 } as const;
        adamw(test.recorder, count, 0.1, slots, () => ({ step: 1, ...numbers }));
        adamw(test.recorder, count, 0.1, slots, () => ({ step: 2, ...numbers }));
        const averaging = { lambda: 0.25, rounding: { key: 0, firstElement: 0 } };
        average(test.recorder, count, { initial, parameter }, () => averaging);
        return parameter;
      });
      await test.run();
      const [whole, split] = results.map((result) => stored(test, result, count));
      whole.forEach((value, i) => {
        if (Number.isNaN(value)) assert.ok(Number.isNaN(split[i]));
        else assert.equal(split[i], value, `element ${i}`);
      });
      const upper = computedWith(test, results[1], count);
      upper.forEach((value, i) => {
        if (Number.isNaN(whole[i])) assert.ok(Number.isNaN(value));
        else assert.equal(value, nearestBf16(whole[i]), `bf16 of element ${i}`);
      });
    });
  }

  for (const count of [203, 260]) {
    Deno.test(`stochastic rounding (${target.label}): the reference's bits, by seed, step, tensor and element, ${count}`, async () => {
      const before = new Random(5).normal(count).map(nearestBf16) as Float32Array<ArrayBuffer>;
      before[3] = Infinity;
      before[4] = NaN;
      before[5] = 0;
      using test = new OpTest(gpu, target);
      // No gradient: the step is the decay alone, one rounding in f32.
      const keep = Math.fround(1 - 0.01 * 0.3);
      const run = (key: number, firstElement: number) => {
        const parameter = store(test, "bf16", before);
        adamw(test.recorder, count, 0.3, {
          gradient: test.input("g", new Float32Array(count)),
          clip: test.input("clip", Float32Array.of(1, 1)),
          moment1: test.output("m", count),
          moment2: test.output("v", count),
          parameter,
        }, () => ({
          step: 1,
          learningRate: 0.01,
          betas: [0.9, 0.999],
          epsilon: 1e-8,
          rounding: { key, firstElement },
        }));
        return { parameter, key, firstElement };
      };
      const runs = [
        run(roundingKey(1, 1, 0), 0),
        run(roundingKey(1, 2, 0), 0),
        run(roundingKey(1, 1, 0), 64),
      ];
      const goal = new Random(6).normal(count).map(nearestBf16) as Float32Array<ArrayBuffer>;
      const [averaged, initial] = [store(test, "bf16", before), store(test, "bf16", goal)];
      const rounding = { key: 77, firstElement: 8 };
      average(test.recorder, count, { initial, parameter: averaged }, () => ({ lambda: 0.5, rounding }));
      // In one pass with the update the mean is rounded once.
      const [together, start] = [store(test, "bf16", before), store(test, "bf16", goal)];
      const moments = { moment1: test.output("m", count), moment2: test.output("v", count) };
      adamw(test.recorder, count, 0.3, {
        gradient: test.input("g", new Float32Array(count)),
        clip: test.input("c", Float32Array.of(1, 1)),
        ...moments,
        parameter: together,
        initial: start,
      }, () => ({
        step: 1,
        learningRate: 0.01,
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        lambda: 0.5,
        rounding,
      }));
      await test.run();
      const means = stored(test, averaged, count);
      const once = stored(test, together, count);
      before.forEach((value, i) => {
        if (!Number.isFinite(value)) return;
        const mean = Math.fround(value + Math.fround(goal[i] - value) / 2);
        assert.equal(means[i], stochasticBf16(mean, rounding.key, rounding.firstElement + i), `mean ${i}`);
        const decayed = Math.fround(value * keep);
        const both = Math.fround(decayed + Math.fround(goal[i] - decayed) / 2);
        assert.equal(once[i], stochasticBf16(both, rounding.key, rounding.firstElement + i), `once ${i}`);
      });
      for (const { parameter, key, firstElement } of runs) {
        const found = stored(test, parameter, count);
        before.forEach((value, i) => {
          const expected = Number.isFinite(value)
            ? stochasticBf16(Math.fround(value * keep), key, firstElement + i)
            : value;
          assert.ok(Object.is(found[i], expected), `element ${i}: expected ${expected}, found ${found[i]}`);
        });
      }
      assert.notDeepEqual(stored(test, runs[0].parameter, count), stored(test, runs[1].parameter, count));
    });
  }
}

Deno.test("stochastic rounding: unbiased, and keys of neighbouring steps and tensors are unrelated", () => {
  // 2^16 elements a tenth of the way between two bf16 numbers: the count that goes up is binomial, here within 4.5 σ.
  const trials = 1 << 16;
  for (const [seed, step, tensor] of [[0, 1, 0], [0, 1, 1], [0, 2, 0], [42, 1, 0]]) {
    const key = roundingKey(seed, step, tensor);
    for (const share of [0.1, 0.5, 0.9]) {
      const value = Math.fround(1 + share * 2 ** -7);
      let up = 0;
      for (let i = 0; i < trials; i++) up += Number(stochasticBf16(value, key, i) > 1);
      const sigma = Math.sqrt(trials * share * (1 - share));
      assert.ok(Math.abs(up - trials * share) < 4.5 * sigma, `${key}: ${up} of ${trials} at ${share}`);
    }
  }
  const keys = new Set<number>();
  for (let step = 1; step <= 100; step++) for (let t = 0; t < 100; t++) keys.add(roundingKey(7, step, t));
  assert.equal(keys.size, 10_000);
  // Two keys agree on a coin's side half of the time.
  const [a, b] = [roundingKey(0, 1, 0), roundingKey(0, 1, 1)];
  let agree = 0;
  for (let i = 0; i < trials; i++) {
    agree += Number(stochasticBf16(1.00390625, a, i) === stochasticBf16(1.00390625, b, i));
  }
  assert.ok(Math.abs(agree - trials / 2) < 4.5 * Math.sqrt(trials / 4), `${agree}`);
});

coverageTest(gpu, "storage", (check) => Deno.test("storage: every kernel ran on a full tile", check));
