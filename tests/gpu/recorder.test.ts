import assert from "node:assert/strict";
import { Pool, Slot } from "../../engine/gpu/pool.ts";
import { type Binding, foldGroups, Recorder } from "../../engine/gpu/recorder.ts";
import { sumByKernel } from "../../engine/gpu/profiler.ts";
import { GROWTH_BYTES, ReadbackBuffer, readSlot } from "../../engine/gpu/transfer.ts";
import { freshGpu, sharedGpu } from "../gpu_device.ts";
import { addAgain, addValue } from "./kernels.ts";

const gpu = await sharedGpu();
const few = await freshGpu({ limits: { maxComputeWorkgroupsPerDimension: 3 } });

Deno.test("recorder: bindings must be complete, known, and not overlap where one is written", () => {
  const recorder = new Recorder<void>(gpu);
  const [x, y] = [new Slot(512, "x"), new Slot(512, "y")];
  const record = (bindings: Record<string, Binding>) => () =>
    recorder.dispatch(addValue.variant(), bindings, () => null);
  assert.throws(record({ x }), { name: "TypeError", message: /add_value\(\): binding "y" is missing/ });
  assert.throws(record({ x, y, z: x }), { name: "TypeError", message: /no binding "z" in its WGSL/ });
  assert.throws(record({ x, y: x }), { name: "TypeError", message: /"x" and "y" are the same buffer "x"/ });
  const window = { slot: y, byteOffset: 256, bytes: 256 };
  assert.throws(record({ x: window, y }), { name: "TypeError", message: /same buffer "y"/ });
  assert.deepEqual(recorder.variants, []);
  record({ x, y })();
  assert.equal(recorder.variants.length, 1);
});

Deno.test("recorder: sizes and params are those of each run, a null launch is skipped, windows are bound", async () => {
  interface Sizes {
    count: number;
    value: number;
    skip: boolean;
  }
  const recorder = new Recorder<Sizes>(gpu);
  const x = recorder.pool.acquire(1024, "x");
  const y = recorder.pool.acquire(256, "y");
  const seen: string[] = [];
  gpu.onDispatch = ({ kernel }, { params }) => seen.push(`${kernel.name} ${params.count}`);
  const window = { slot: x, byteOffset: 256, bytes: 256 };
  recorder.dispatch(
    addValue.variant(),
    { x: window, y },
    ({ count, value }) => ({ params: { count, value }, groups: 1 }),
  );
  recorder.dispatch(
    addAgain.variant(),
    { x: window, y },
    ({ count, skip }) => skip ? null : { params: { count, value: 1000 }, groups: 1 },
  );
  const recording = recorder.finish(gpu);
  gpu.write(x.buffer, Float32Array.from({ length: 256 }, (_, i) => i));
  gpu.write(y.buffer, new Float32Array(64));
  const read = async (sizes: Sizes) => {
    const [bytes] = await recording.run(sizes, [{ slot: y, bytes: 16 }]);
    return [...new Float32Array(bytes.buffer)];
  };
  assert.deepEqual(await read({ count: 3, value: 0.5, skip: true }), [64.5, 65.5, 66.5, 0]);
  assert.deepEqual(await read({ count: 1, value: 7, skip: true }), [71, 65.5, 66.5, 0]);
  assert.deepEqual(await read({ count: 2, value: 7, skip: false }), [1064, 1065, 66.5, 0]);
  assert.deepEqual(seen, ["add_value 3", "add_value 1", "add_value 2", "add_again 2"]);
  gpu.onDispatch = undefined;
  assert.throws(() => recording.submit({ count: -1, value: 0, skip: true }), RangeError);
  recording.dispose();
  await gpu.check();
});

Deno.test("recorder: a binding over the device's limit is refused by name", async () => {
  const small = await freshGpu({ limits: { maxStorageBufferBindingSize: 1024 } });
  const recorder = new Recorder<void>(small);
  const x = recorder.pool.acquire(2048, "x");
  const y = recorder.pool.acquire(1024, "y");
  recorder.dispatch(addValue.variant(), { x, y }, () => null);
  assert.throws(() => recorder.finish(small), {
    name: "RangeError",
    message: /"x" \(x\) is 2048 bytes, but .* binds at most 1024/,
  });
  assert.equal(small.memory.allocatedBytes, 0);
  const windows = new Recorder<void>(small);
  const slot = windows.pool.acquire(2048, "x");
  const bindings = { x: { slot, byteOffset: 1024, bytes: 1024 }, y: windows.pool.acquire(1024, "y") };
  windows.dispatch(addValue.variant(), bindings, () => null);
  windows.finish(small);
  await small.check();
});

Deno.test("pool: the tightest free slot, else the largest made larger, else a new one", () => {
  const { pool } = new Recorder<void>(gpu);
  const [a, b, c] = [pool.acquire(100, "a"), pool.acquire(300, "b"), pool.acquire(200, "c")];
  for (const slot of [a, b, c]) pool.release(slot);
  assert.throws(() => pool.release(b), { name: "TypeError", message: 'slot "b" released twice' });
  assert.equal(pool.acquire(150, "x"), c);
  assert.equal(pool.acquire(400, "y"), b);
  assert.equal(b.bytes, 400);
  assert.equal(pool.acquire(50, "z"), a);
  assert.equal(a.bytes, 100);
  const d = pool.acquire(1, "d");
  assert.deepEqual(pool.slots, [a, b, c, d]);
  assert.equal(pool.totalBytes, 112 + 400 + 208 + 16);
  assert.throws(() => d.buffer, { name: "TypeError", message: 'the buffer "d" was not made yet' });
});

Deno.test("memory: the plan's total is what realizing it allocates, and disposing gives it back", async () => {
  const before = gpu.memory.allocatedBytes;
  const recorder = new Recorder<void>(gpu);
  const [x, y] = [recorder.pool.acquire(1000, "x"), recorder.pool.acquire(7, "y")];
  recorder.dispatch(addValue.variant(), { x, y }, () => ({ params: { count: 1, value: 0 }, groups: 1 }));
  const planned = recorder.pool.totalBytes;
  for (const slot of recorder.pool.slots) slot.realize(gpu);
  assert.equal(gpu.memory.allocatedBytes - before, planned);
  assert.equal(x.buffer.size + y.buffer.size, planned);
  const recording = recorder.finish(gpu);
  assert.equal(gpu.memory.allocatedBytes - before, recorder.memoryBytes);
  gpu.resetPeak();
  await recording.run(undefined, [{ slot: x, bytes: 1000 }]);
  // beside the pool: one 256-byte block of params, and the readback
  assert.equal(gpu.memory.allocatedBytes - before, planned + 256 + GROWTH_BYTES);
  recording.dispose();
  assert.equal(gpu.memory.allocatedBytes, before);
  assert.equal(gpu.memory.peakBytes - before, planned + 256 + GROWTH_BYTES);
  gpu.resetPeak();
  assert.equal(gpu.memory.peakBytes, before);
});

Deno.test("limits: asked for at the adapter's maxima, rounded down to 256, lowered by force", () => {
  assert.ok(gpu.limits.maxBufferSize > 2 ** 28);
  assert.equal(gpu.limits.maxBufferSize % 256, 0);
  assert.equal(few.limits.maxComputeWorkgroupsPerDimension, 3);
  assert.equal(few.limits.maxBufferSize, gpu.limits.maxBufferSize);
});

Deno.test("foldGroups: two dimensions beyond the limit of one, never fewer groups than asked for", () => {
  const limit = 65535;
  assert.deepEqual(foldGroups(0, limit), [0, 1, 1]);
  assert.deepEqual(foldGroups(limit, limit), [limit, 1, 1]);
  assert.deepEqual(foldGroups(limit + 1, limit), [32768, 2, 1]);
  for (const count of [limit + 1, limit * 2 + 1, 1e9, limit * limit]) {
    const [x, y, z] = foldGroups(count, limit);
    assert.ok(x <= limit && y <= limit && z === 1 && x * y >= count && x * (y - 1) < count);
  }
  assert.throws(() => foldGroups(limit * limit + 1, limit), {
    name: "RangeError",
    message: /don't fit two dimensions/,
  });
  assert.deepEqual(foldGroups([5, 6, 7], limit), [5, 6, 7]);
  assert.throws(() => foldGroups([5, limit + 1, 1], limit), {
    name: "RangeError",
    message: /^65536 workgroups/,
  });
});

Deno.test("a grid of more than 65,535 workgroups reaches every element, and none twice", async () => {
  const count = 65536 * 64 + 5;
  const recorder = new Recorder<void>(gpu);
  const x = recorder.pool.acquire(count * 4, "x");
  const y = recorder.pool.acquire(count * 4, "y");
  recorder.dispatch(addValue.variant(), { x, y }, () => ({
    params: { count, value: 2 },
    groups: Math.ceil(count / 64),
  }));
  const recording = recorder.finish(gpu);
  gpu.write(x.buffer, Float32Array.from({ length: count }, (_, i) => i & 0xffff));
  recording.submit();
  const found = new Float32Array((await readSlot(gpu, y, 0, count * 4)).buffer);
  for (let i = 0; i < count; i++) {
    if (found[i] !== (i & 0xffff) + 2) assert.fail(`element ${i} is ${found[i]}`);
  }
  recording.dispose();
});

Deno.test("readback: several slots of odd sizes in one mapping, and a larger one later", async () => {
  const slots = [3, 16, 1, 50].map((bytes, i) => {
    const slot = new Slot(bytes, `slot ${i}`).realize(gpu);
    gpu.write(slot.buffer, Uint8Array.from({ length: Math.ceil(bytes / 4) * 4 }, (_, at) => i * 60 + at));
    return { slot, bytes };
  });
  const readback = new ReadbackBuffer(gpu);
  const expected = (i: number, from: number, bytes: number) =>
    Array.from({ length: bytes }, (_, at) => i * 60 + from + at);
  for (const reads of [slots.slice(0, 2), slots, [], slots.slice(2)]) {
    const found = await readback.read(reads);
    assert.deepEqual(
      found.map((bytes) => [...bytes]),
      reads.map(({ bytes }) => expected(slots.findIndex((s) => s.bytes === bytes), 0, bytes)),
    );
  }
  const [part] = await readback.read([{ ...slots[3], byteOffset: 8, bytes: 5 }]);
  assert.deepEqual([...part], expected(3, 8, 5));
  readback.dispose();
  for (const { slot } of slots) slot.dispose();
});

Deno.test("readSlot: windows larger than one piece come back whole", async () => {
  const bytes = (8 << 20) * 2 + 12;
  const slot = new Slot(bytes, "large").realize(gpu);
  const words = new Uint32Array(bytes / 4).map((_, i) => Math.imul(i, 2654435761));
  gpu.write(slot.buffer, words);
  const before = gpu.memory.allocatedBytes;
  gpu.resetPeak();
  assert.deepEqual(new Uint32Array((await readSlot(gpu, slot, 0, bytes)).buffer), words);
  assert.equal(gpu.memory.peakBytes - before, 8 << 20);
  const window = await readSlot(gpu, slot, 8, (8 << 20) + 4);
  assert.deepEqual(new Uint32Array(window.buffer), words.subarray(2, 2 + window.length / 4));
  assert.equal((await readSlot(gpu, slot, 4, 0)).length, 0);
  assert.equal(gpu.memory.allocatedBytes, before);
  slot.dispose();
});

Deno.test("profile: times and counts by kernel name, without the skipped ones", async () => {
  const recorder = new Recorder<void>(gpu);
  const x = recorder.pool.acquire(1 << 20, "x");
  const y = recorder.pool.acquire(1 << 20, "y");
  const launch = () => ({ params: { count: 1 << 18, value: 1 }, groups: 1 << 12 });
  recorder.dispatch(addValue.variant(), { x, y }, launch, () => 100);
  recorder.dispatch(addValue.variant(), { x, y }, launch, () => 23);
  recorder.dispatch(addAgain.variant(), { x, y }, launch);
  recorder.dispatch(addAgain.variant(), { x, y }, () => null, () => 7);
  const recording = recorder.finish(gpu);
  const before = gpu.memory.allocatedBytes;
  const spans = await recording.profile();
  assert.ok(spans.every(({ begin }, i) => i === 0 ? begin === 0 : begin >= spans[i - 1].begin));
  const times = sumByKernel(spans);
  assert.deepEqual(
    times.map(({ name, dispatches, flops }) => `${name} ${dispatches} ${flops}`).sort(),
    ["add_again 1 0", "add_value 2 123"],
  );
  assert.ok(times.every(({ milliseconds }) => milliseconds > 0 && milliseconds < 60_000));
  assert.equal(gpu.memory.allocatedBytes, before);
  recording.dispose();
});

Deno.test("segments: each is submitted when it is asked for, the copies after the last", async () => {
  const recorder = new Recorder<{ value: number }>(gpu);
  const [x, y, out] = ["x", "y", "out"].map((label) => recorder.pool.acquire(256, label));
  const launch = ({ value }: { value: number }) => ({ params: { count: 64, value }, groups: 1 });
  recorder.segment("first");
  recorder.dispatch(addValue.variant(), { x, y }, launch);
  recorder.segment("empty");
  recorder.segment("second");
  recorder.dispatch(addValue.variant(), { x: y, y: x }, launch);
  const recording = recorder.finish(gpu);
  gpu.write(x.buffer, new Float32Array(64));
  const steps = recording.segments({ value: 3 }, [{ from: { slot: x }, to: { slot: out }, bytes: 256 }]);
  const firstOf = async (slot: typeof x) => new Float32Array((await readSlot(gpu, slot, 0, 4)).buffer)[0];
  assert.equal(steps.next().value, "first");
  assert.deepEqual([await firstOf(x), await firstOf(y), await firstOf(out)], [0, 3, 0]);
  assert.equal(steps.next().value, "empty");
  assert.equal(steps.next().value, "second");
  assert.deepEqual([await firstOf(x), await firstOf(y), await firstOf(out)], [6, 3, 6]);
  assert.equal(steps.next().done, true);
  recording.dispose();
});

Deno.test("segments: a dispatch before the first one is refused", () => {
  const recorder = new Recorder<void>(gpu);
  const [x, y] = [recorder.pool.acquire(256, "x"), recorder.pool.acquire(256, "y")];
  recorder.dispatch(addValue.variant(), { x, y }, () => null);
  recorder.segment("late");
  const recording = recorder.finish(gpu);
  assert.throws(() => recording.segments().next(), {
    name: "TypeError",
    message: "dispatches outside of any segment",
  });
  recording.dispose();
});

Deno.test("pool: recordings that share one live in its largest slots, and the last frees them", async () => {
  const before = gpu.memory.allocatedBytes;
  const pool = new Pool();
  const launch = (count: number) => () => ({ params: { count, value: 1 }, groups: Math.ceil(count / 64) });
  const record = (count: number) => {
    const recorder = new Recorder<void>(gpu, pool);
    const [x, y] = [pool.acquire(count * 4, "x"), pool.acquire(count * 4, "y")];
    recorder.dispatch(addValue.variant(), { x, y }, launch(count));
    return { recording: recorder.finish(gpu), x, y };
  };
  const small = record(64);
  const large = record(256);
  assert.deepEqual([large.x, large.y], [small.x, small.y]);
  assert.equal(pool.totalBytes, 2 * 1024);
  for (const { recording, x, y } of [small, large, small]) {
    gpu.write(x.buffer, new Float32Array(64).fill(5));
    const [bytes] = await recording.run(undefined, [{ slot: y, bytes: 4 }]);
    assert.equal(new Float32Array(bytes.buffer)[0], 6);
  }
  small.recording.dispose();
  assert.ok(large.x.isRealized);
  large.recording.dispose();
  assert.equal(pool.slots.length, 0);
  assert.equal(gpu.memory.allocatedBytes, before);
});

Deno.test("pool: a recording that can't be made leaves a shared pool as it was, and the others right", async () => {
  const small = await freshGpu({ limits: { maxBufferSize: 1 << 16 } });
  const pool = new Pool();
  const record = (count: number) => {
    const recorder = new Recorder<void>(small, pool);
    const [x, y] = [pool.acquire(count * 4, "x"), pool.acquire(count * 4, "y")];
    pool.acquire(256, "more");
    recorder.dispatch(addValue.variant(), { x, y }, () => ({ params: { count: 64, value: 1 }, groups: 1 }));
    return { recording: recorder.finish(small), x, y };
  };
  const kept = record(64);
  const before = { bytes: small.memory.allocatedBytes, planned: pool.totalBytes };
  for (let i = 0; i < 2; i++) assert.throws(() => record(1 << 15), { name: "OutOfMemoryError" });
  assert.deepEqual({ bytes: small.memory.allocatedBytes, planned: pool.totalBytes }, before);
  small.write(kept.x.buffer, new Float32Array(64).fill(5));
  const [bytes] = await kept.recording.run(undefined, [{ slot: kept.y, bytes: 4 }]);
  assert.equal(new Float32Array(bytes.buffer)[0], 6);
  kept.recording.dispose();
  assert.equal(small.memory.allocatedBytes, 0);
});
