/** What the adapter can do at best: f32 multiply-adds, copying, and what a dispatch, a submit and a readback cost. */
import type { Gpu } from "../engine/gpu/context.ts";
import { defineKernel } from "../engine/gpu/kernel.ts";
import { Recorder, type Recording } from "../engine/gpu/recorder.ts";
import type { Slot } from "../engine/gpu/pool.ts";
import { copySlot } from "../engine/gpu/transfer.ts";
import { openGpu } from "../pipeline/gpu.ts";
import type { Benchmark, BenchOptions, BenchResult } from "./benchmark.ts";
import { median, significant } from "./statistics.ts";

/** Multiply-adds of one invocation's inner loop: 8 independent vec4 chains, 16 rounds unrolled. */
const FMA_PER_LOOP = 8 * 4 * 16;
const LOOPS = 64;

const fmaKernel = defineKernel({
  name: "roofline_fma",
  file: "bench/roofline.ts",
  source: `struct Params { loops: u32, factor: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn roofline_fma(@builtin(global_invocation_id) id: vec3u) {
  let f = vec4f(params.factor);
  //#unroll i 0 8
  var x_$i = vec4f(f32(id.x), 1.0, 2.0, $(i).0);
  //#end
  for (var loop_index = 0u; loop_index < params.loops; loop_index++) {
    //#unroll r 0 16
    //#unroll i 0 8
    x_$i = fma(x_$i, f, vec4f(0.5));
    //#end
    //#end
  }
  y[id.x] = dot(x_0 + x_1 + x_2 + x_3, x_4 + x_5 + x_6 + x_7);
}
`,
});

const copyKernel = defineKernel({
  name: "roofline_copy",
  file: "bench/roofline.ts",
  source: `struct Params { count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(64)
fn roofline_copy(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < params.count) { y[i] = x[i]; }
}
`,
});

const emptyKernel = defineKernel({
  name: "roofline_empty",
  file: "bench/roofline.ts",
  source: `struct Params { value: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(1)
fn roofline_empty() { y[0] = params.value; }
`,
});

/** A recording and the slot whose first word says that it ran. */
interface Timed {
  recording: Recording<null>;
  output: Slot;
}

function record(gpu: Gpu, fill: (recorder: Recorder<null>) => Slot): Timed {
  const recorder = new Recorder<null>(gpu);
  const output = fill(recorder);
  return { recording: recorder.finish(gpu), output };
}

/** Median milliseconds of a recording, its readback of 4 bytes included. */
async function sample({ recording, output }: Timed, rounds: number): Promise<number> {
  const times: number[] = [];
  for (let round = -1; round < rounds; round++) {
    const began = performance.now();
    await recording.run(null, [{ slot: output, bytes: 4 }]);
    if (round >= 0) times.push(performance.now() - began);
  }
  return median(times);
}

async function run({ rounds }: BenchOptions): Promise<BenchResult> {
  using gpu = await openGpu();
  const groups = gpu.isSoftware ? 256 : 65_535;
  const dispatches = 500;
  const bytes = Math.min(gpu.isSoftware ? 64 << 20 : 512 << 20, gpu.maxBindingBytes);
  const fma = record(gpu, (recorder) => {
    const y = recorder.pool.acquire(groups * 64 * 4, "y");
    recorder.dispatch(
      fmaKernel.variant(),
      { y },
      () => ({ params: { loops: LOOPS, factor: 0.999 }, groups }),
    );
    return y;
  });
  const copy = record(gpu, (recorder) => {
    const [x, y] = [recorder.pool.acquire(bytes, "x"), recorder.pool.acquire(bytes, "y")];
    const count = bytes / 16;
    recorder.dispatch(
      copyKernel.variant(),
      { x, y },
      () => ({ params: { count }, groups: Math.ceil(count / 64) }),
    );
    return y;
  });
  const empty = (count: number) =>
    record(gpu, (recorder) => {
      const y = recorder.pool.acquire(16, "y");
      for (let i = 0; i < count; i++) {
        recorder.dispatch(emptyKernel.variant(), { y }, () => ({ params: { value: 1 }, groups: 1 }));
      }
      return y;
    });
  const [one, many] = [empty(1), empty(dispatches)];
  const timed = [fma, copy, one, many];
  try {
    const [fmaMs, copyMs, oneMs, manyMs] = [
      ...[await sample(fma, rounds), await sample(copy, rounds), await sample(one, rounds * 3)],
      await sample(many, rounds),
    ];
    const submits = 200;
    const began = performance.now();
    for (let i = 0; i < submits; i++) one.recording.submit(null);
    const submitMs = (performance.now() - began) / submits;
    await gpu.flush();
    const transferBegan = performance.now();
    copySlot(gpu, { slot: copy.recording.pool.slots[0] }, { slot: copy.output }, bytes);
    await gpu.flush();
    const transferMs = performance.now() - transferBegan;
    const data = {
      fmaGflops: 2 * groups * 64 * LOOPS * FMA_PER_LOOP / Math.max(1e-6, fmaMs - oneMs) / 1e6,
      kernelCopyGBs: 2 * bytes / Math.max(1e-6, copyMs - oneMs) / 1e6,
      bufferCopyGBs: 2 * bytes / transferMs / 1e6,
      dispatchMicroseconds: 1000 * (manyMs - oneMs) / (dispatches - 1),
      submitMicroseconds: 1000 * submitMs,
      readbackMilliseconds: oneMs,
    };
    const format = (value: number) => String(significant(value, 3));
    return {
      method:
        `Medians of ${rounds} rounds. Multiply-adds: 8 independent chains of vec4 an invocation, ${
          groups * 64
        } ` +
        `invocations. Copying counts bytes read and written, ${
          bytes >> 20
        } MiB each. A dispatch is one of ${dispatches} ` +
        `empty ones in a pass; a submit is the host's time for one; a readback is one empty dispatch and 4 bytes.`,
      tables: [{
        title: "Limits of the adapter",
        columns: ["", ""],
        rows: [
          ["f32 multiply-adds, GFLOP/s", format(data.fmaGflops)],
          ["copying in a kernel, GB/s", format(data.kernelCopyGBs)],
          ["copying a buffer, GB/s", format(data.bufferCopyGBs)],
          ["a dispatch, µs", format(data.dispatchMicroseconds)],
          ["a submit, µs of the host", format(data.submitMicroseconds)],
          ["a submit and a readback, ms", format(data.readbackMilliseconds)],
        ],
      }],
      data,
    };
  } finally {
    for (const { recording } of timed) recording.dispose();
  }
}

/** `deno task bench roofline`. */
export const rooflineBenchmark: Benchmark = { name: "roofline", what: "the adapter's own limits", run };
