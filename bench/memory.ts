/** Device memory of training: what was planned, what was allocated, and how much the process grew. */
import { join } from "node:path";
import { writeSafetensors } from "../engine/io/safetensors_writer.ts";
import { modelSpec } from "../engine/models/families.ts";
import { parameterSpecs } from "../engine/models/spec.ts";
import { exampleSequences } from "../engine/model/examples.ts";
import { planTraining } from "../engine/train/plan.ts";
import { Model, Trainer } from "../mod.ts";
import { openGpu } from "../pipeline/gpu/open.ts";
import { formatBytes } from "../pipeline/report/report.ts";
import type { Benchmark } from "./benchmark.ts";
import { DEMO_SHAPE, randomFingerprints } from "./demo_shape.ts";

/** Large enough that buffers outweigh the runtime: 33 M parameters. */
const CONFIG = {
  model_type: "llama",
  hidden_act: "silu",
  vocab_size: 8192,
  hidden_size: 512,
  num_hidden_layers: 8,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 64,
  intermediate_size: 1536,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
};

export const memoryBenchmark: Benchmark = {
  name: "memory",
  what: "planned, allocated and resident memory of two optimizer steps",
  async run({ progress }) {
    const dir = await Deno.makeTempDir({ prefix: "whorl-memory-" });
    try {
      await Deno.writeTextFile(join(dir, "config.json"), JSON.stringify(CONFIG));
      const spec = modelSpec(CONFIG);
      const tensors = parameterSpecs(spec).map(({ name, shape }) => {
        const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
        values.forEach((_, i) =>
          values[i] = shape.length === 1 ? 1 : ((i * 7919) % 1009 / 1009 - 0.5) * 0.05
        );
        return { name, shape, dtype: "BF16" as const, values };
      });
      await writeSafetensors(join(dir, "model.safetensors"), tensors);
      tensors.length = 0;
      progress("memory: two steps of a 33 M-parameter model");
      using gpu = await openGpu();
      const residentBefore = Deno.memoryUsage().rss;
      using model = await Model.load(gpu, dir);
      using trainer = new Trainer(model, { learningRate: 1e-5, totalSteps: 2 });
      const examples = randomFingerprints(64, 18).map(({ ids, labels }) => ({
        ids: ids.map((id) => id % DEMO_SHAPE.V),
        labels,
      }));
      const pass = model.training.reserve(
        model.passes.split("train", exampleSequences(examples, 1)).capacity,
      );
      const plan = planTraining(gpu, spec, {
        train: pass.options.capacity,
        score: { tokens: 64, rows: 64 },
        tables: [],
        keepsInitial: false,
        keepActivations: true,
        dtype: "f32",
        master: "f32",
      });
      const score = plan.parts.find(({ name }) => name.includes("measuring"))!.bytes;
      for (let step = 0; step < 2; step++) await trainer.step(examples);
      const resident = Deno.memoryUsage().rss - residentBefore;
      const planned = plan.totalBytes - score;
      const { peakBytes } = gpu.memory;
      const against = (bytes: number) => `${(100 * bytes / peakBytes).toFixed(1)} %`;
      return {
        method:
          "A random Llama of 33 M parameters (width 512, 8 blocks, vocabulary 8,192), 64 fingerprints of 18 tokens. " +
          "Resident growth counts from after the device was opened; it means device memory only on a software adapter.",
        tables: [{
          title: "Memory",
          columns: ["", "bytes", "of the peak"],
          rows: [
            ["planned", formatBytes(planned), against(planned)],
            ["highest sum of live buffers", formatBytes(peakBytes), against(peakBytes)],
            ["growth of the process", formatBytes(resident), against(resident)],
          ],
        }],
        data: { planned, peakBytes, resident },
      };
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
};
