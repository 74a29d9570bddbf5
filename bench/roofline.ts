/** What the adapter can do at best: f32 multiply-adds, copying, and what a dispatch, a submit and a readback cost. */
import type { Gpu } from "../engine/gpu/context.ts";
import { defineKernel } from "../engine/gpu/kernel.ts";
import { Recorder, type Recording } from "../engine/gpu/recorder.ts";
import { Slot } from "../engine/gpu/pool.ts";
import { copySlot } from "../engine/gpu/transfer.ts";
import { openGpu } from "../pipeline/gpu/open.ts";
import type { Benchmark, BenchOptions, BenchResult } from "./benchmark.ts";
import { median, significant } from "./statistics.ts";

/**
 * Independent vec4 chains of multiply-adds of an invocation. How many an adapter needs to hide their latency, and how many
 * registers hold, differs: lavapipe runs 3 (12 of AVX2's 16 registers) four times as fast as 8, a GPU wants more.
 */
const CHAINS = [2, 3, 4, 8];
/** Multiply-adds of a chain in the loop's body, and loops. */
const UNROLLED = 64;
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
  //#unroll i 0 CHAINS
  var x_$i = vec4f(f32(id.x), 1.0, 2.0, $(i).0);
  //#end
  for (var loop_index = 0u; loop_index < params.loops; loop_index++) {
    //#unroll r 0 UNROLLED
    //#unroll i 0 CHAINS
    x_$i = fma(x_$i, f, vec4f(0.5));
    //#end
    //#end
  }
  var sum = x_0;
  //#unroll i 1 CHAINS
  sum += x_$i;
  //#end
  y[id.x] = dot(sum, vec4f(1.0));
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

/** Median milliseconds of a recording's dispatches: by the device's clock, or without one the wall's less `waitMs`. */
async function deviceMs(gpu: Gpu, timed: Timed, rounds: number, waitMs: number): Promise<number> {
  if (!gpu.hasTimestamps) return Math.max(1e-6, await sample(timed, rounds) - waitMs);
  const times: number[] = [];
  for (let round = -1; round < rounds; round++) {
    const spans = await timed.recording.profile(null);
    if (round >= 0) times.push(spans.reduce((sum, { milliseconds }) => sum + milliseconds, 0));
  }
  return median(times);
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

const empty = (gpu: Gpu, count: number) =>
  record(gpu, (recorder) => {
    const y = recorder.pool.acquire(16, "y");
    for (let i = 0; i < count; i++) {
      recorder.dispatch(emptyKernel.variant(), { y }, () => ({ params: { value: 1 }, groups: 1 }));
    }
    return y;
  });

const invocations = (gpu: Gpu) => 64 * (gpu.isSoftware ? 256 : 65_535);
const copiedBytes = (gpu: Gpu) => Math.min(gpu.isSoftware ? 64 << 20 : 512 << 20, gpu.maxBindingBytes);

/** What other benchmarks are held against. */
export interface AdapterRates {
  /** f32 multiply-adds, each two operations. */
  fmaGflops: number;
  /** Bytes read and written by a kernel that copies. */
  copyGBs: number;
  /** A submit of one empty dispatch and a readback of 4 bytes. */
  waitMs: number;
}

/** Measures an adapter's own rates, in a second or so. */
export async function measureRates(gpu: Gpu, rounds = 5): Promise<AdapterRates> {
  const count = copiedBytes(gpu) / 16;
  const fma = CHAINS.map((chains) =>
    record(gpu, (recorder) => {
      const y = recorder.pool.acquire(invocations(gpu) * 4, "y");
      const launch = { params: { loops: LOOPS, factor: 0.999 }, groups: invocations(gpu) / 64 };
      recorder.dispatch(fmaKernel.variant({ CHAINS: chains, UNROLLED }), { y }, () => launch);
      return y;
    })
  );
  const copy = record(gpu, (recorder) => {
    const [x, y] = [recorder.pool.acquire(count * 16, "x"), recorder.pool.acquire(count * 16, "y")];
    recorder.dispatch(
      copyKernel.variant(),
      { x, y },
      () => ({ params: { count }, groups: Math.ceil(count / 64) }),
    );
    return y;
  });
  const one = empty(gpu, 1);
  try {
    const waitMs = await sample(one, rounds * 3);
    const fmaMs: number[] = [];
    for (const each of fma) fmaMs.push(await deviceMs(gpu, each, rounds, waitMs));
    const copyMs = await deviceMs(gpu, copy, rounds, waitMs);
    await gpu.check();
    const rates = fmaMs.map((ms, i) => 2 * invocations(gpu) * LOOPS * UNROLLED * 4 * CHAINS[i] / ms / 1e6);
    return {
      fmaGflops: Math.max(...rates),
      copyGBs: 2 * count * 16 / copyMs / 1e6,
      waitMs,
    };
  } finally {
    for (const { recording } of [...fma, copy, one]) recording.dispose();
  }
}

/** "12 %" of a rate. */
export function shareOf(value: number, rate: number): string {
  return `${significant(100 * value / rate, 2)} %`;
}

async function run({ rounds }: BenchOptions): Promise<BenchResult> {
  using gpu = await openGpu();
  const dispatches = 500;
  const bytes = copiedBytes(gpu);
  const { fmaGflops, copyGBs, waitMs } = await measureRates(gpu, rounds);
  const [one, many] = [empty(gpu, 1), empty(gpu, dispatches)];
  const buffers = ["x", "y"].map((label) => new Slot(bytes, label).realize(gpu));
  try {
    const manyMs = await sample(many, rounds);
    const submits = 200;
    const began = performance.now();
    for (let i = 0; i < submits; i++) one.recording.submit(null);
    const submitMs = (performance.now() - began) / submits;
    await gpu.flush();
    const transfers: number[] = [];
    for (let round = -1; round < rounds; round++) {
      const began = performance.now();
      copySlot(gpu, { slot: buffers[0] }, { slot: buffers[1] }, bytes);
      await gpu.flush();
      if (round >= 0) transfers.push(performance.now() - began);
    }
    const data = {
      fmaGflops,
      kernelCopyGBs: copyGBs,
      bufferCopyGBs: 2 * bytes / median(transfers) / 1e6,
      dispatchMicroseconds: 1000 * (manyMs - waitMs) / (dispatches - 1),
      submitMicroseconds: 1000 * submitMs,
      readbackMilliseconds: waitMs,
    };
    const format = (value: number) => String(significant(value, 3));
    return {
      method:
        `Medians of ${rounds} rounds. Multiply-adds: the best of ${
          CHAINS.join(", ")
        } independent chains of vec4 an ` +
        `invocation, ${invocations(gpu)} invocations. Copying counts bytes read and written, ${
          bytes >> 20
        } MiB each. A dispatch is one of ` +
        `${dispatches} empty ones in a pass; a submit is the host's time for one; a readback is one empty dispatch and 4 bytes.`,
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
    for (const { recording } of [one, many]) recording.dispose();
    for (const buffer of buffers) buffer.dispose();
  }
}

/** `deno task bench roofline`. */
export const rooflineBenchmark: Benchmark = { name: "roofline", what: "the adapter's own limits", run };
