/** The choice of a memory layout, and the plan of --dry_run. */
import assert from "node:assert/strict";
import { modelSpec } from "../../../engine/models/families.ts";
import { MODEL_SHAPES } from "../../../bench/model_shapes.ts";
import { resolveSettings } from "../../../pipeline/settings/finetune.ts";
import { assumedLengths, dryRun, planStorages } from "../../../pipeline/run/dry_run.ts";
import {
  chooseMemory,
  memoryLayouts,
  memoryLimit,
  type Workload,
} from "../../../pipeline/run/memory_plan.ts";
import { dryRunText } from "../../../pipeline/report/report.ts";
import { workloadOf } from "../../../pipeline/run/workload.ts";
import { sharedGpu } from "../../gpu_device.ts";

const target = { isSoftware: false, maxBindingBytes: 2 ** 31 - 256 };
const spec = modelSpec(MODEL_SHAPES["llama-3.2-1b"]);
const settings = resolveSettings({});
const work: Workload = workloadOf(assumedLengths(settings, 1024), settings);
const GIB = 2 ** 30;

const choose = (limit?: number, change = {}) =>
  chooseMemory(target, spec, { ...settings, ...change }, work, limit);

Deno.test("chooseMemory: the fastest layout that fits, bf16 alone only where f32 doesn't fit at all", () => {
  const free = choose();
  assert.deepEqual([free.dtype, free.maxTokens, free.keepActivations], ["f32", 4096, true]);
  assert.deepEqual(choose(free.plan.totalBytes), free);
  let last = Infinity;
  const seen: string[] = [];
  for (let limit = free.plan.totalBytes / GIB; limit > 16.3; limit -= 0.25) {
    const { dtype, master, maxTokens, keepActivations, plan, capacity } = choose(limit * GIB);
    assert.ok(plan.totalBytes <= limit * GIB, `${limit} GiB`);
    assert.ok(capacity.train.tokens <= Math.max(maxTokens, work.longest.tokens));
    if (dtype === "f32") assert.ok(plan.totalBytes <= last);
    last = plan.totalBytes;
    const name = `${dtype} ${master} ${maxTokens} ${keepActivations}`;
    if (seen.at(-1) !== name) seen.push(name);
  }
  assert.equal(new Set(seen).size, seen.length, "a smaller limit never goes back to a larger layout");
  assert.deepEqual(seen.map((name) => name.split(" ")[0]).lastIndexOf("f32") < seen.length - 1, true);
  assert.match(seen.at(-1)!, /^bf16 none/);
});

Deno.test("chooseMemory: a given storage is kept", () => {
  assert.deepEqual([choose(undefined, { dtype: "bf16" })].map(({ dtype, master }) => [dtype, master]), [[
    "bf16",
    "f32",
  ]]);
  assert.throws(() => choose(17 * GIB, { dtype: "f32" }), { name: "OutOfMemoryError" });
  assert.equal(choose(17 * GIB, { dtype: "bf16", master: "none" }).master, "none");
});

Deno.test("chooseMemory: recompute chooses among layouts, by itself only where memory asks for it", () => {
  const most = choose().plan.totalBytes;
  const always = choose(undefined, { recompute: "always" });
  assert.deepEqual([always.maxTokens, always.keepActivations], [4096, false]);
  assert.ok(always.plan.totalBytes < most);
  assert.deepEqual(choose(undefined, { recompute: "never" }), choose());
  const layoutsSeen = { auto: new Set<string>(), always: new Set<string>(), never: new Set<string>() };
  const bf16 = { dtype: "bf16", master: "none" } as const;
  for (const recompute of ["auto", "always", "never"] as const) {
    for (const choice of memoryLayouts(target, spec, { ...settings, recompute }, work, bf16)) {
      layoutsSeen[recompute].add(`${choice.maxTokens} ${choice.keepActivations}`);
      const found = choose(choice.plan.totalBytes, { ...bf16, recompute });
      assert.ok(found.plan.totalBytes <= choice.plan.totalBytes);
      if (recompute !== "auto") assert.equal(found.keepActivations, recompute === "never");
    }
  }
  const { auto, always: twice, never: once } = layoutsSeen;
  assert.ok(twice.isDisjointFrom(once) && auto.isSubsetOf(twice.union(once)));
  assert.ok(twice.isSubsetOf(auto), "auto gives up nothing that would fit");
});

Deno.test("chooseMemory: an impossible run says by part what it needs and what would make it possible", () => {
  const told = (limit: number, change: object) => {
    try {
      choose(limit, change);
    } catch (error) {
      return (error as Error).message;
    }
    assert.fail("it fits");
  };
  const f32 = told(17 * GIB, { dtype: "f32", averaging: "final" });
  assert.match(
    f32,
    /^training needs at least 23\.\d+ GiB, but may take 17\.000 GiB: weights 4\.604 GiB, gradients/,
  );
  assert.match(f32, /--dtype bf16 --master none \(18\.\d+ GiB, not enough alone\)/);
  assert.match(f32, /together --dtype bf16 --master none, --averaging none \(16\.\d+ GiB, which fits\)/);
  const never = told(17 * GIB, { dtype: "bf16", master: "none", recompute: "never", averaging: "final" });
  assert.match(never, /activations of blocks .*What would help: --recompute auto \(18\.\d+ GiB, not/);
  assert.match(never, /together --recompute auto, --averaging none \(16\.\d+ GiB, which fits\)/);
  const least = told(GIB, {});
  assert.doesNotMatch(least, /--dtype|--averaging/);
  assert.match(least, /What would help: a device with 16\.\d+ GiB, or a smaller model$/);
});

Deno.test("memoryLimit: the flag, the system's memory on a software adapter, unknown on others", () => {
  assert.equal(memoryLimit(target, resolveSettings({ max_memory: 2.5 })), 2.5 * GIB);
  assert.equal(memoryLimit(target, settings), undefined);
  const free = memoryLimit({ isSoftware: true }, settings)!;
  assert.ok(free > 1 << 20 && free < 2 ** 50, `${free}`);
});

Deno.test("every published shape has a plan that its parameters explain", () => {
  for (const [name, config] of Object.entries(MODEL_SHAPES)) {
    const spec = modelSpec(config);
    const { storages, choice } = planStorages(target, spec, settings, assumedLengths(settings, 64));
    const bytes = (index: number) => storages[index].plan.totalBytes;
    const weights = storages[0].plan.parts.find((part) => part.name === "weights")!.bytes;
    assert.ok(bytes(0) > 4 * weights && bytes(0) < 4 * weights + 55 * GIB, name);
    assert.ok(Math.abs(bytes(0) - bytes(1)) < 1 << 21, name);
    assert.ok(Math.abs(bytes(0) - bytes(2) - weights / 2) < 1 << 22, name);
    assert.equal(choice!.dtype, "f32", name);
  }
});

Deno.test("dryRun: the demo model's plan from its config alone, in words", async () => {
  const gpu = await sharedGpu();
  const plan = await dryRun({ max_memory: 8 }, { gpu });
  assert.equal(plan.parameters, 1_049_728);
  assert.equal(plan.fingerprints, 64);
  const text = dryRunText(plan);
  assert.match(text, /^model: the demo model \(llama, 1,049,728 parameters\)$/m);
  assert.match(text, /^memory that the run may take: 8\.00 GiB$/m);
  assert.match(text, /^weights +4\.00 MiB +2\.00 MiB +2\.00 MiB$/m);
  assert.match(text, /^fits +yes +yes +yes$/m);
  assert.match(text, /^a run would take \d+ MiB: weights in f32, micro-batches of at most 4096 tokens$/m);
  const recomputed = dryRunText(await dryRun({ max_memory: 8, recompute: "always" }, { gpu }));
  assert.match(text, /^activation checkpointing +off +off +off$/m);
  assert.match(recomputed, /^activation checkpointing +on +on +on$/m);
  assert.match(recomputed, /^a run would take .*, activation checkpointing$/m);
  const impossible = await dryRun({ max_memory: 0.01 }, { gpu });
  assert.equal(impossible.choice, undefined);
  assert.match(dryRunText(impossible), /^fits +no +no +no$/m);
  assert.match(dryRunText(impossible), /^training needs at least .* GiB, but may take 0\.010 GiB/m);
});
