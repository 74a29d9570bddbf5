import assert from "node:assert/strict";
import { adamw } from "../../engine/ops/adamw.ts";
import { average } from "../../engine/ops/average.ts";
import { globalNorm } from "../../engine/ops/global_norm.ts";
import type { Slot } from "../../engine/gpu/pool.ts";
import { Recorder } from "../../engine/gpu/recorder.ts";
import type { Stored } from "../../engine/tensor/stored.ts";
import {
  assertClose,
  assertMaxAbs,
  assertNear,
  assertRelL2,
  floats,
  loadOptimizerGolden,
} from "../golden.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { float64 } from "../reference/linear_algebra.ts";
import * as reference from "../reference/optimizer.ts";
import { coverageTest } from "./full_tiles.ts";
import { assertWithin, OpTest, TARGETS, U } from "./support.ts";

const gpu = await sharedGpu();
const stored = (weight: Slot): Stored => ({ storage: "f32", weight });
const EXACT = { key: 0, firstElement: 0 };

for (const target of TARGETS) {
  const golden = loadOptimizerGolden();
  const cases = Object.entries(golden.cases).flatMap(([name, settings]) =>
    [false, true].map((together) => ({ name, settings, together }))
  );
  for (const { name, settings, together } of cases) {
    const passes = together ? "one pass" : "two passes";
    Deno.test(`AdamW, clipping and averaging (${target.label}): case ${name} of the golden in ${passes}`, async () => {
      const recorder = new Recorder<number>(target);
      const initial = [0, 1, 2].map((i) => floats(golden, `p0.${i}`));
      const slots = initial.map((p, i) => {
        const slot = (label: string) => recorder.pool.acquire(p.byteLength, `${label} ${i}`);
        return {
          gradient: slot("gradient"),
          initial: slot("initial"),
          weight: slot("weight"),
          moment1: slot("m"),
          moment2: slot("v"),
        };
      });
      const clip = recorder.pool.acquire(8, "clip");
      const counted = slots.map(({ gradient }, i) => ({
        slot: gradient,
        count: initial[i].length,
        tensorCount: initial[i].length,
        slab: 64,
      }));
      globalNorm(recorder, counted, settings.max_grad_norm ?? 0, clip);
      slots.forEach(({ gradient, weight, moment1, moment2, initial: start }, i) => {
        const count = initial[i].length;
        const planes = { initial: stored(start), parameter: stored(weight) };
        const lambda = settings.average_lambda;
        adamw(
          recorder,
          count,
          settings.weight_decay[i],
          { gradient, clip, moment1, moment2, parameter: planes.parameter, ...(together ? planes : {}) },
          (s) => ({
            lambda,
            step: s + 1,
            learningRate: settings.lr[s],
            betas: settings.betas,
            epsilon: settings.eps,
          }),
        );
        if (!together) average(recorder, count, planes, () => ({ lambda, rounding: EXACT }));
      });
      const recording = recorder.finish(gpu);
      slots.forEach(({ initial: start, weight, moment1, moment2 }, i) => {
        gpu.write(start.buffer, initial[i]);
        gpu.write(weight.buffer, initial[i]);
        // The first step must not read moments: nothing has cleared them.
        for (const { buffer } of [moment1, moment2]) {
          gpu.write(buffer, new Float32Array(buffer.size / 4).fill(NaN));
        }
      });
      const parts = initial.map((p) => new Float64Array(p.length));
      for (let s = 0; s < 6; s++) {
        const row = (tensor: string, i: number) =>
          floats(golden, tensor).subarray(s * initial[i].length, (s + 1) * initial[i].length);
        slots.forEach(({ gradient }, i) => gpu.write(gradient.buffer, row(`grad.${i}`, i)));
        const read = await recording.run(s, [
          { slot: clip, bytes: 8 },
          ...slots.flatMap(({ weight, moment1, moment2 }, i) =>
            [weight, moment1, moment2].map((slot) => ({ slot, bytes: initial[i].byteLength }))
          ),
        ]);
        const [norm, ...found] = read.map(({ buffer }) => new Float32Array(buffer));
        const expected = settings.grad_norm[s];
        const elements = initial.reduce((sum, { length }) => sum + length, 0);
        assertNear(`step ${s} norm`, norm[0], expected, (4 + Math.sqrt(elements)) * U * expected);
        initial.forEach((_, i) => {
          const [weight, m, v] = found.slice(i * 3, i * 3 + 3);
          assertMaxAbs(`step ${s} param ${i}`, weight, row(`${name}.param.${i}`, i), 2e-6);
          // m is a sum that may cancel, so its bound goes with its parts: eight roundings, and twelve of the clip factor.
          const factor = reference.clipFactor(expected, settings.max_grad_norm);
          const gradient = row(`grad.${i}`, i);
          parts[i] = parts[i].map((x, j) => 0.9 * x + 0.1 * factor * Math.abs(gradient[j]));
          assertWithin(`step ${s} m ${i}`, m, row(`${name}.m.${i}`, i), parts[i].map((x) => 20 * U * x));
          assertRelL2(`step ${s} m ${i}`, m, row(`${name}.m.${i}`, i), 1e-5);
          assertClose(`step ${s} v ${i}`, v, row(`${name}.v.${i}`, i), { relative: 1e-5 });
        });
      }
      recording.dispose();
    });
  }

  Deno.test(`global norm (${target.label}): tensors of every size together, clipped, not clipped, off`, async () => {
    const random = new Random(60);
    // 64 slabs and more, one element, a slab ± 1
    for (const counts of [[64 * 4096 + 1, 4097, 1], [1], [4095, 4096, 31], [8 * 4096 * 2]]) {
      for (const maxNorm of [0, 1, 1e6]) {
        const gradients = counts.map((count) => random.normal(count, 0.1));
        using test = new OpTest(gpu, target);
        const result = test.output("result", 2);
        const slots = gradients.map((data) => ({
          slot: test.input("gradient", data),
          count: data.length,
          tensorCount: data.length,
          slab: 4096,
        }));
        globalNorm(test.recorder, slots, maxNorm, result);
        await test.run();
        const norm = reference.globalNorm(gradients.map(float64));
        const factor = reference.clipFactor(norm, maxNorm);
        // Runs of 4,096 squares: √4,096 roundings of partial sums that are half as large on average, halved by the root.
        const tolerance = (4 + 64 / 4) * U;
        assertWithin(`${counts} ${maxNorm}`, test.floats(result), [norm, factor], [
          tolerance * norm,
          tolerance * factor,
        ]);
        if (maxNorm !== 1 || norm < 1) assert.equal(test.floats(result)[1], 1);
      }
    }
  });

  for (const rest of [31, 32]) {
    Deno.test(`global norm (${target.label}): pieces of whole slabs give the bits of the whole, ${rest}`, async () => {
      const data = new Random(63).normal(70 * 192 + rest);
      using test = new OpTest(gpu, target);
      const [whole, split] = [test.output("whole", 2), test.output("split", 2)];
      const part = (first: number, end: number) => {
        const slice = data.slice(first, end);
        return {
          slot: test.input("gradient", slice),
          count: slice.length,
          tensorCount: data.length,
          slab: 192,
        };
      };
      const cuts = [0, 13 * 192, 50 * 192, data.length];
      const parts = [part(0, data.length), ...cuts.slice(1).map((end, i) => part(cuts[i], end))];
      globalNorm(test.recorder, parts.slice(0, 1), 1, whole);
      globalNorm(test.recorder, parts.slice(1), 1, split);
      await test.run();
      assert.deepEqual(test.words(split), test.words(whole));
    });
  }

  Deno.test(`clipping (${target.label}) never hides a NaN or infinite gradient`, async () => {
    for (const bad of [NaN, Infinity, -Infinity, 1e30]) {
      for (const maxNorm of [0, 1]) {
        const gradient = new Random(61).normal(131);
        gradient[130] = bad;
        using test = new OpTest(gpu, target);
        const clip = test.output("clip", 2);
        const slot = test.input("gradient", gradient);
        const weight = test.inout("weight", new Float32Array(131).fill(1));
        globalNorm(test.recorder, [{ slot, count: 131, tensorCount: 131, slab: 64 }], maxNorm, clip);
        const slots = {
          gradient: slot,
          clip,
          parameter: stored(weight),
          moment1: test.output("m", 131),
          moment2: test.output("v", 131),
        };
        adamw(test.recorder, 131, 0, slots, () => ({
          step: 1,
          learningRate: 0.1,
          betas: [0.9, 0.999],
          epsilon: 1e-8,
        }));
        await test.run();
        const [norm, factor] = test.floats(clip);
        const found = test.floats(weight);
        const name = `${bad}, max norm ${maxNorm}`;
        assert.ok(!Number.isFinite(norm), `${name}: norm ${norm}`);
        if (Number.isNaN(bad)) {
          // as torch: a NaN norm spoils every weight
          assert.ok(Number.isNaN(factor) && found.every(Number.isNaN), name);
        } else {
          assert.equal(factor, maxNorm ? 0 : 1, name);
          if (!Number.isFinite(bad)) assert.ok(Number.isNaN(found[130]), `${name}: weight ${found[130]}`);
          // without clipping the other weights step as if nothing had happened
          else if (!maxNorm) assert.ok(found.slice(0, 130).every((w) => Math.abs(w - 1) > 0.09), name);
        }
      }
    }
  });

  for (const count of [131, 260]) {
    Deno.test(`AdamW (${target.label}): ${count} elements and many steps against the reference, only its elements`, async () => {
      const random = new Random(62);
      const [p, g, m] = [random.normal(count + 9), random.normal(count + 9), random.normal(count + 9, 0.1)];
      const v = random.uniform(count + 9, 1e-4, 1e-2);
      g[9] = 0;
      m[9] = 0;
      v[9] = 0;
      for (const [step, weightDecay] of [[1, 0.1], [2, 0], [1000, 0.01]]) {
        using test = new OpTest(gpu, target);
        const slots = {
          gradient: test.input("gradient", g),
          clip: test.input("clip", Float32Array.of(3, 0.25)),
          parameter: stored(test.inout("weight", p)),
          moment1: test.inout("m", m),
          moment2: test.inout("v", v),
        };
        const options = { step, learningRate: 0.01, betas: [0.9, 0.999], epsilon: 1e-8 } as const;
        adamw(test.recorder, count, weightDecay, slots, () => options);
        await test.run();
        const expected = float64(p);
        const moments = step === 1 ? reference.zeroMoments(count + 9) : { m: float64(m), v: float64(v) };
        reference.adamw(expected, float64(g).map((x) => x * 0.25), moments, { ...options, weightDecay });
        const kept = (values: Float64Array, before: Float32Array) =>
          values.map((x, i) => i < count ? x : before[i]);
        // m and v: four roundings of their parts; the step: eight of |step|, two of |p|.
        const size = (i: number) => Math.abs(expected[i] - p[i]) + 0.01 * weightDecay * Math.abs(p[i]);
        const parts = (i: number) => 0.9 * Math.abs(m[i]) + 0.025 * Math.abs(g[i]);
        assertWithin(
          "weight",
          test.floats(slots.parameter.weight),
          kept(expected, p),
          expected.map((x, i) =>
            U * (3 * Math.abs(x) + 10 * size(i) + 0.6 * parts(i) / Math.sqrt(moments.v[i] + 1e-30))
          ),
        );
        assertWithin("m", test.floats(slots.moment1), kept(moments.m, m), p.map((_, i) => 4 * U * parts(i)));
        assertWithin("v", test.floats(slots.moment2), kept(moments.v, v), moments.v.map((x) => 4 * U * x));
      }
    });
  }
}

coverageTest(gpu, "optimizer", (check) => Deno.test("optimizer: every kernel ran on a full tile", check));
