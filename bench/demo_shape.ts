/** The demo model's shape with random weights: timing needs no trained model, so benchmarks need no assets. */
import { join } from "node:path";
import { writeSafetensors } from "../engine/io/safetensors_writer.ts";
import { modelSpec } from "../engine/models/families.ts";
import { parameterSpecs } from "../engine/models/spec.ts";
import type { Example } from "../mod.ts";

/** Sizes by their letters: vocabulary, width, layers, heads, key-value heads, head width, feed-forward width. */
export const DEMO_SHAPE = { V: 2048, C: 128, layers: 4, H: 4, K: 2, D: 32, F: 384 };

const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_act: "silu",
  vocab_size: DEMO_SHAPE.V,
  hidden_size: DEMO_SHAPE.C,
  num_hidden_layers: DEMO_SHAPE.layers,
  num_attention_heads: DEMO_SHAPE.H,
  num_key_value_heads: DEMO_SHAPE.K,
  head_dim: DEMO_SHAPE.D,
  intermediate_size: DEMO_SHAPE.F,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
  attention_bias: false,
  mlp_bias: false,
};

/** A repeatable stream of numbers in [0, 1). */
export function randomStream(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Calls `use` with a model folder of random weights, and removes the folder afterwards. */
export async function withRandomModel<T>(use: (dir: string) => Promise<T>): Promise<T> {
  const dir = await Deno.makeTempDir({ prefix: "whorl-bench-" });
  try {
    await Deno.writeTextFile(join(dir, "config.json"), JSON.stringify(CONFIG));
    const random = randomStream(1);
    const tensors = parameterSpecs(modelSpec(CONFIG)).map(({ name, shape }) => {
      const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
      // Uniform with deviation 0.05; norm weights are the only vectors.
      const value = shape.length === 1 ? () => 1 : () => (random() - 0.5) * 0.1 * Math.sqrt(3);
      for (let i = 0; i < values.length; i++) values[i] = value();
      return { name, shape, dtype: "F32" as const, values };
    });
    await writeSafetensors(join(dir, "model.safetensors"), tensors);
    return await use(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Fingerprints of random tokens, each with one supervised token at its end. */
export function randomFingerprints(count: number, tokens: number): Example[] {
  const random = randomStream(2);
  return Array.from({ length: count }, () => {
    const ids = Array.from({ length: tokens }, (_, t) => t ? Math.floor(random() * DEMO_SHAPE.V) : 1);
    return { ids, labels: ids.map((id, t) => t === tokens - 1 ? id : -100) };
  });
}
