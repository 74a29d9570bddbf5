/** Decoding with a cache: tokens a second for prompts and for new tokens, and how the cost grows with what is there. */
import { fileURLToPath } from "node:url";
import { Model } from "../mod.ts";
import { openGpu } from "../pipeline/gpu/open.ts";
import { formatBytes } from "../pipeline/report/report.ts";
import type { Benchmark, BenchOptions } from "./benchmark.ts";
import { DEMO_SHAPE, withRandomModel } from "./demo_shape.ts";
import { countGemms, totalFlops } from "./gemm_shapes.ts";
import { pythonWith } from "./python.ts";
import { measureRates, shareOf } from "./roofline.ts";
import { median, significant } from "./statistics.ts";

const BATCH = 64;
const PROMPT = 16;
/** New tokens at which a text's time is taken. */
const LENGTHS = [1, 33, 65, 129, 193];

interface Times {
  prefill_ms: number;
  whole_ms: number;
}

async function peer(dir: string, options: BenchOptions): Promise<Times | string> {
  const python = await pythonWith("torch, transformers", options);
  if (!python) return "not run: no Python with torch, transformers";
  const script = fileURLToPath(new URL("./peers/hf_generate.py", import.meta.url));
  const args = [
    "--batch",
    `${BATCH}`,
    "--prompt",
    `${PROMPT}`,
    "--new",
    "65",
    "--rounds",
    `${options.rounds}`,
  ];
  const { success, stdout, stderr } = await new Deno.Command(python, {
    args: [script, dir, ...args, "--threads", `${options.threads}`],
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return success
    ? JSON.parse(text(stdout).trim().split("\n").at(-1)!)
    : `failed: ${text(stderr).slice(-300)}`;
}

export const generateBenchmark: Benchmark = {
  name: "generate",
  what: "prefill and decoding with a cache of keys and values, beside Transformers",
  run: (options) =>
    withRandomModel(async (dir) => {
      using gpu = await openGpu();
      using model = await Model.load(gpu, dir);
      const prompts = Array.from({ length: BATCH }, (_, b) =>
        Array.from({ length: PROMPT }, (_, t) => (b * 7919 + t * 104729 + 1) % DEMO_SHAPE.V));
      const time = async (maxNewTokens: number) => {
        const began = performance.now();
        const texts = await model.generate(prompts, { maxNewTokens, stop: [] });
        if (
          texts.some(({ length }) =>
            length !== maxNewTokens
          )
        ) throw new Error("a text ended early");
        return performance.now() - began;
      };
      options.progress("generate: Whorl");
      await time(2);
      const ms: number[] = [];
      for (const length of LENGTHS) {
        const times: number[] = [];
        for (let round = 0; round < options.rounds; round++) times.push(await time(length));
        ms.push(median(times));
      }
      const rates = await measureRates(gpu);
      const prefillFlops = totalFlops(await countGemms(gpu, () => time(1)));
      const stepFlops = totalFlops(await countGemms(gpu, () => time(2))) - prefillFlops;
      const weightBytes = model.parameters.bytes.weights;
      options.progress("generate: Transformers");
      const other = await peer(dir, options);
      const rate = (tokens: number, milliseconds: number) =>
        significant(1000 * BATCH * tokens / milliseconds, 3);
      const whole = ms[LENGTHS.indexOf(65)];
      const decoding = rate(64, whole - ms[0]);
      const rows = [["Whorl", `${rate(PROMPT, ms[0])}`, `${decoding}`]];
      if (typeof other === "string") rows.push([`Transformers: ${other}`, "", ""]);
      else {
        const theirs = rate(64, other.whole_ms - other.prefill_ms);
        rows.push(["Transformers, CPU, float32", `${rate(PROMPT, other.prefill_ms)}`, `${theirs}`]);
      }
      const growth = LENGTHS.slice(1).map((length, i) => [
        `${LENGTHS[i]} … ${length}`,
        `${significant((ms[i + 1] - ms[i]) / (length - LENGTHS[i]), 3)} ms`,
      ]);
      const stepMs = (whole - ms[0]) / 64;
      const work = [
        { title: "prefill", flops: prefillFlops, ms: ms[0] },
        { title: "a decoding step", flops: stepFlops, ms: stepMs },
      ].map((part) => ({
        ...part,
        gflops: part.flops / part.ms / 1e6,
        readGBs: weightBytes / part.ms / 1e6,
      }));
      return {
        method:
          `The demo model's shape with random weights, ${BATCH} prompts of ${PROMPT} tokens, greedy; decoding is ` +
          `the time of 65 new tokens less that of one. Medians of ${options.rounds} rounds.`,
        tables: [
          { title: "Tokens a second", columns: ["", "prefill", "decoding"], rows },
          {
            title: `A step of ${BATCH} texts by new tokens`,
            columns: ["new tokens", "a step"],
            rows: growth,
          },
          {
            title: `Matrix products, and reading all weights once (${
              formatBytes(weightBytes)
            }), over the time`,
            columns: ["", "GFLOP/s", "of the f32 rate", "GB/s of weights", "of copying"],
            rows: work.map(({ title, gflops, readGBs }) => [
              ...[title, `${significant(gflops, 3)}`, shareOf(gflops, rates.fmaGflops)],
              ...[`${significant(readGBs, 3)}`, shareOf(readGBs, rates.copyGBs)],
            ]),
          },
        ],
        data: { batch: BATCH, prompt: PROMPT, lengths: LENGTHS, ms, transformers: other, rates, work },
      };
    }),
};
