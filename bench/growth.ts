/** How the optimizer step's time and memory grow with tokens, width, layers and vocabulary, each alone. */
import { join } from "node:path";
import type { Gpu } from "../engine/gpu/context.ts";
import { exampleSequences } from "../engine/model/examples.ts";
import { planTraining } from "../engine/train/plan.ts";
import { type Example, Model, Trainer } from "../mod.ts";
import { openGpu } from "../pipeline/gpu/open.ts";
import { formatBytes } from "../pipeline/report/report.ts";
import type { Benchmark, BenchOptions, BenchResult } from "./benchmark.ts";
import { randomStream } from "./demo_shape.ts";
import { countGemms, totalFlops } from "./gemm_shapes.ts";
import { fitPowerLaw, type PowerLaw } from "./power_law.ts";
import { writeRandomModel } from "./random_checkpoint.ts";
import { type AdapterRates, measureRates, shareOf } from "./roofline.ts";
import { significant, type Spread, spread } from "./statistics.ts";

/** Sizes of a step; tokens are those of the sequences with their labels. */
interface Sizes {
  tokens: number;
  width: number;
  layers: number;
  vocabulary: number;
}

type Axis = keyof Sizes;

/** Tokens of a sequence, the last of them its label. */
const SEQUENCE = 18;
const TOKENS = [256, 512, 1024, 2048, 4096, 8192, 16384, 32768];

/** The demo model's shape on software adapters, a 1B model's width on others; every axis passes through the base. */
const SCALES: Record<"software" | "hardware", { base: Sizes; axes: Record<Axis, number[]> }> = {
  software: {
    base: { tokens: 1024, width: 128, layers: 4, vocabulary: 2048 },
    axes: {
      tokens: TOKENS,
      width: [64, 128, 256, 512],
      layers: [1, 2, 4, 8, 16],
      vocabulary: [512, 2048, 8192, 32768, 131072],
    },
  },
  hardware: {
    base: { tokens: 16384, width: 2048, layers: 4, vocabulary: 32768 },
    axes: {
      tokens: TOKENS,
      width: [512, 1024, 2048, 4096],
      layers: [1, 2, 4, 8, 16],
      vocabulary: [2048, 8192, 32768, 131072],
    },
  },
};

/** A long step isn't repeated more than {@link FEWEST} times beyond this. */
const ENOUGH_MS = 8000;
const FEWEST = 3;

interface Point extends Sizes {
  parameters: number;
  stepMs: Spread;
  /** Floating-point operations of the step's matrix products. */
  flops: number;
  planned: number;
  peakBytes: number;
}

function configOf({ width, layers, vocabulary }: Sizes) {
  const headDim = width < 1024 ? 32 : 128;
  const heads = width / headDim;
  return {
    model_type: "llama",
    hidden_act: "silu",
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    vocab_size: vocabulary,
    hidden_size: width,
    num_hidden_layers: layers,
    head_dim: headDim,
    num_attention_heads: heads,
    num_key_value_heads: heads / 2,
    intermediate_size: 3 * width,
    max_position_embeddings: 256,
    tie_word_embeddings: true,
  };
}

function fingerprints({ tokens, vocabulary }: Sizes): Example[] {
  const random = randomStream(2);
  return Array.from({ length: Math.round(tokens / SEQUENCE) }, () => {
    const ids = Array.from({ length: SEQUENCE }, () => Math.floor(random() * vocabulary));
    return { ids, labels: ids.map((id, t) => t === SEQUENCE - 1 ? id : -100) };
  });
}

async function measure(gpu: Gpu, sizes: Sizes, rounds: number): Promise<Point> {
  const dir = await Deno.makeTempDir({ prefix: "whorl-growth-" });
  try {
    const folder = join(dir, "model");
    await writeRandomModel(folder, configOf(sizes), { seed: 1, dtype: "F32" });
    using model = await Model.load(gpu, folder);
    gpu.resetPeak();
    using trainer = new Trainer(model, { learningRate: 1e-5, totalSteps: 1000 });
    const examples = fingerprints(sizes);
    const flops = totalFlops(await countGemms(gpu, () => trainer.step(examples)));
    const times: number[] = [];
    let total = 0;
    while (times.length < rounds && (times.length < FEWEST || total < ENOUGH_MS)) {
      const began = performance.now();
      const { loss } = await trainer.step(examples);
      times.push(performance.now() - began);
      total += times.at(-1)!;
      if (!Number.isFinite(loss)) throw new Error(`the loss of ${JSON.stringify(sizes)} is ${loss}`);
    }
    const pass = model.training.reserve(model.passes.split("train", exampleSequences(examples, 1)).capacity);
    const plan = planTraining(gpu, model.spec, {
      train: pass.options.capacity,
      score: pass.options.capacity,
      tables: [],
      keepsInitial: false,
      keepActivations: true,
      dtype: "f32",
      master: "f32",
    });
    const measuring = plan.parts.find(({ name }) => name === "measuring pass")!.bytes;
    const parameters = model.parameters.all.reduce((sum, { count }) => sum + count, 0);
    const { peakBytes } = gpu.memory;
    return {
      ...sizes,
      parameters,
      stepMs: spread(times),
      flops,
      planned: plan.totalBytes - measuring,
      peakBytes,
    };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function run({ rounds, progress }: BenchOptions): Promise<BenchResult> {
  using gpu = await openGpu();
  const { base, axes } = SCALES[gpu.isSoftware ? "software" : "hardware"];
  const rates = await measureRates(gpu);
  const known = new Map<string, Point>();
  const series: { axis: Axis; points: Point[]; time: PowerLaw; memory: PowerLaw }[] = [];
  for (const axis of Object.keys(axes) as Axis[]) {
    const points: Point[] = [];
    for (const value of axes[axis]) {
      const sizes = { ...base, [axis]: value };
      const key = JSON.stringify(sizes);
      progress(`growth: ${axis} ${value}`);
      const point = known.get(key) ?? await measure(gpu, sizes, rounds);
      known.set(key, point);
      points.push(point);
    }
    const law = (of: (point: Point) => number) =>
      fitPowerLaw(points.map((point) => [point[axis], of(point)]));
    const time = law(({ stepMs }) => stepMs.median);
    series.push({ axis, points, time, memory: law(({ peakBytes }) => peakBytes) });
  }
  return {
    method:
      `One optimizer step of a Llama of random f32 weights, in sequences of ${SEQUENCE} tokens with one supervised, in ` +
      `micro-batches of at most 4,096 tokens; heads of 32 (128 from width 1,024), half as many for keys and values, feed-forward 3 × width, ` +
      `tied head. One axis varies at a time from ${describe(base)}. Median (least–greatest) of at most ` +
      `${rounds} rounds, ${FEWEST} where a step is long, after one that compiles. GFLOP/s count matrix products alone; their share is of ` +
      `the ${
        significant(rates.fmaGflops, 3)
      } GFLOP/s of f32 multiply-adds measured in this run. Planned is the memory plan without its ` +
      "measuring pass, highest the greatest sum of live buffers. Exponents are least squares of log cost over log size, with R², " +
      "and those between the first two and the last two sizes.",
    tables: [exponentTable(series), ...series.map(({ axis, points }) => pointTable(axis, points, rates))],
    data: { base, rates, series },
  };
}

const describe = ({ tokens, width, layers, vocabulary }: Sizes) =>
  `${tokens} tokens a step, width ${width}, ${layers} layers, vocabulary ${vocabulary}`;

function exponentTable(
  series: readonly { axis: Axis; points: Point[]; time: PowerLaw; memory: PowerLaw }[],
): BenchResult["tables"][number] {
  const cells = ({ exponent, r2, first, last }: PowerLaw) =>
    [exponent, r2, first, last].map((value) => value.toFixed(2));
  return {
    title: "Exponents: cost ∝ size^exponent",
    columns: [
      ...["", "sizes", "time", "R²", "first two", "last two"],
      ...["memory", "R²", "first two", "last two"],
    ],
    rows: series.map(({ axis, points, time, memory }) => [
      ...[axis, `${points[0][axis]} … ${points.at(-1)![axis]}`],
      ...[...cells(time), ...cells(memory)],
    ]),
  };
}

function pointTable(
  axis: Axis,
  points: readonly Point[],
  { fmaGflops }: AdapterRates,
): BenchResult["tables"][number] {
  const number = (value: number) => String(significant(value, 3));
  return {
    title: `By ${axis}`,
    columns: [
      ...[axis, "parameters", "ms a step", "GFLOP/s", "of the f32 rate"],
      ...["planned", "highest", "planned ÷ highest"],
    ],
    rows: points.map((point) => {
      const { parameters, stepMs, flops, planned, peakBytes } = point;
      const gflops = flops / stepMs.median / 1e6;
      return [
        ...[String(point[axis]), parameters.toLocaleString("en-US")],
        `${number(stepMs.median)} (${number(stepMs.min)}–${number(stepMs.max)})`,
        ...[number(gflops), shareOf(gflops, fmaGflops)],
        ...[formatBytes(planned), formatBytes(peakBytes), (planned / peakBytes).toFixed(3)],
      ];
    }),
  };
}

/** `deno task bench growth`. */
export const growthBenchmark: Benchmark = {
  name: "growth",
  what: "how time and memory of a step grow with tokens, width, layers and vocabulary",
  run,
};
