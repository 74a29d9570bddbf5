/** The optimizer step of fingerprinting on the demo shape, beside the peers a user could pick instead. */
import { fileURLToPath } from "node:url";
import { openGpu } from "../pipeline/gpu/open.ts";
import type { Benchmark, BenchOptions, BenchResult } from "./benchmark.ts";
import { DEMO_STEP, demoShapes, totalFlops } from "./gemm_shapes.ts";
import { pythonWith } from "./python.ts";
import { Peer, type PeerCommand, PeerError } from "./peer.ts";
import { measureRates, shareOf } from "./roofline.ts";
import { significant, type Spread, spread } from "./statistics.ts";

const { fingerprints: FINGERPRINTS, tokens: TOKENS } = DEMO_STEP;

interface Contender {
  title: string;
  command: PeerCommand | { notRun: string };
}

const peerFile = (name: string) => fileURLToPath(new URL(`./peers/${name}`, import.meta.url));

function deno(file: string, args: string[], options: BenchOptions): PeerCommand {
  return {
    command: Deno.execPath(),
    args: ["run", "-A", peerFile(file), ...args],
    // The driver's shader cache is off, so that a first step is one on a machine that has never run it.
    env: { MESA_SHADER_CACHE_DISABLE: "true", LP_NUM_THREADS: String(options.threads) },
  };
}

async function torch(
  implementation: string,
  args: string[],
  options: BenchOptions,
): Promise<Contender["command"]> {
  const modules = implementation === "plain" ? "torch" : "torch, transformers";
  const python = await pythonWith(modules, options);
  if (!python) return { notRun: `no Python with ${modules}` };
  const common = ["--fingerprints", String(FINGERPRINTS), "--tokens", String(TOKENS)];
  const threads = ["--threads", String(options.threads)];
  return {
    command: python,
    args: [peerFile("torch_step.py"), "--implementation", implementation, ...common, ...threads, ...args],
  };
}

async function contenders(options: BenchOptions): Promise<Contender[]> {
  const jax = (...args: string[]) =>
    deno(
      "jaxjs_step.ts",
      ["--tokens", String(TOKENS), "--batch", "64", "--micro_batches", "2", ...args],
      options,
    );
  const padded = "64 × 32 padded, all logits";
  const lean = "64 × 18, target logits";
  return [
    {
      title: `jax-js, WebGPU: ${padded}`,
      command: jax("--device", "webgpu", "--seq", "32", "--head", "all"),
    },
    { title: `jax-js, WebGPU: ${lean}`, command: jax("--device", "webgpu", "--seq", "18", "--head", "last") },
    { title: `jax-js, wasm: ${padded}`, command: jax("--device", "wasm", "--seq", "32", "--head", "all") },
    { title: `PyTorch, CPU: ${padded}`, command: await torch("plain", ["--padded", "32"], options) },
    {
      title: `PyTorch, CPU: ${lean}`,
      command: await torch("plain", ["--padded", "18", "--head", "last"], options),
    },
    {
      title: `Transformers, CPU: ${padded}`,
      command: await torch("transformers", ["--padded", "32"], options),
    },
  ];
}

interface Row {
  title: string;
  notRun?: string;
  stepMs?: Spread;
  fingerprintsPerSecond?: number;
  firstStepMs?: number;
  toFirstStepMs?: number;
  /** Time a fingerprint of this one over ours, by pair. */
  ratio?: Spread;
  samplesMs?: number[];
}

async function pair(
  ours: Peer,
  peer: Peer,
  rounds: number,
): Promise<{ ours: number[]; peer: number[]; ratios: number[] }> {
  const perFingerprint = (ms: number, { facts }: Peer) => ms / facts.fingerprints;
  const result = { ours: [] as number[], peer: [] as number[], ratios: [] as number[] };
  for (let round = -1; round < rounds; round++) {
    const a = await ours.step();
    const b = await peer.step();
    // The first round warms both up again after the other contenders.
    if (round < 0) continue;
    result.ours.push(a);
    result.peer.push(b);
    result.ratios.push(perFingerprint(b, peer) / perFingerprint(a, ours));
  }
  return result;
}

async function run(options: BenchOptions): Promise<BenchResult> {
  const { progress, rounds } = options;
  const rows: Row[] = [];
  const ourSamples: number[] = [];
  progress("step: Whorl");
  const ours = await Peer.start(
    deno("whorl_step.ts", ["--fingerprints", String(FINGERPRINTS), "--tokens", String(TOKENS)], options),
  );
  try {
    for (let i = 0; i < rounds + 1; i++) {
      const ms = await ours.step();
      if (i) ourSamples.push(ms);
    }
    for (const { title, command } of await contenders(options)) {
      progress(`step: ${title}`);
      rows.push(
        "notRun" in command ? { title, ...command } : await beside(ours, title, command, rounds, ourSamples),
      );
    }
  } finally {
    await ours.close();
  }
  const own = describe("Whorl, WebGPU: 17 tokens packed, target rows", ours, ourSamples);
  const work = await ownWork(own.stepMs!.median);
  return {
    method: METHOD,
    tables: [table([own, ...rows], options), work.table],
    data: { rows: [own, ...rows], work: work.data },
  };
}

/** What our step computes in matrix products, held against the adapter's f32 rate. */
async function ownWork(stepMs: number) {
  using gpu = await openGpu();
  const { fmaGflops } = await measureRates(gpu);
  const flops = totalFlops(await demoShapes(gpu));
  const gflops = flops / stepMs / 1e6;
  const row = [
    ...[flops / 1e9, gflops, fmaGflops].map((value) => String(significant(value, 3))),
    shareOf(gflops, fmaGflops),
  ];
  return {
    table: {
      title: "Whorl's step: its matrix products over its whole time",
      columns: ["GFLOP a step", "GFLOP/s", "f32 rate, GFLOP/s", "of the f32 rate"],
      rows: [row],
    },
    data: { flops, gflops, fmaGflops },
  };
}

async function beside(
  ours: Peer,
  title: string,
  command: PeerCommand,
  rounds: number,
  ourSamples: number[],
): Promise<Row> {
  let peer: Peer | undefined;
  try {
    peer = await Peer.start(command);
    const pairs = await pair(ours, peer, rounds);
    ourSamples.push(...pairs.ours);
    return { ...describe(title, peer, pairs.peer), ratio: spread(pairs.ratios) };
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    return { title, notRun: error.message };
  } finally {
    await peer?.close();
  }
}

function describe(title: string, { facts }: Peer, samplesMs: number[]): Row {
  const stepMs = spread(samplesMs);
  return {
    title,
    stepMs,
    samplesMs,
    firstStepMs: facts.first_step_ms,
    toFirstStepMs: facts.to_first_step_ms,
    fingerprintsPerSecond: facts.fingerprints / stepMs.median * 1000,
  };
}

const METHOD =
  `One optimizer step on ${FINGERPRINTS} fingerprints of ${TOKENS} tokens (BOS, 16 of the key, 1 of the ` +
  "response), AdamW on all weights, random weights of the demo shape (1.05 M parameters, f32). Whorl packs the 17 " +
  "tokens that are fed and computes logits of the supervised position only; the peers accumulate two micro-batches of " +
  "64 sequences: as OML pads (32 tokens, logits of all positions), and as lean as they can be made (18 tokens, logits " +
  "of the target position). Every contender is a process of its own; Whorl and a peer step in turn, and a ratio is " +
  "(peer's time ÷ ours) of one such pair. Medians (least–greatest). The first step includes compiling, shader cache off.";

function table(rows: Row[], options: BenchOptions): BenchResult["tables"][number] {
  const number = (value: number) => String(significant(value, 3));
  const range = ({ median, min, max }: Spread) => `${number(median)} (${number(min)}–${number(max)})`;
  return {
    title:
      `Optimizer step, ${FINGERPRINTS} fingerprints, ${options.rounds} rounds, ${options.threads} threads`,
    columns: ["", "ms a step", "fingerprints/s", "first step, ms", "time ÷ Whorl's"],
    rows: rows.map(({ title, notRun, stepMs, fingerprintsPerSecond, firstStepMs, ratio }) =>
      stepMs
        ? [
          ...[title, range(stepMs), number(fingerprintsPerSecond!), number(firstStepMs!)],
          ratio ? range(ratio) : "1",
        ]
        : [title, `not run: ${notRun}`, "", "", ""]
    ),
  };
}

/** `deno task bench step`. */
export const stepBenchmark: Benchmark = {
  name: "step",
  what: "the optimizer step beside jax-js and PyTorch",
  run,
};
