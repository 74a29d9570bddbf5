import { activation, linear, PLAIN, readSizes, sameWindow } from "./common.ts";
import { ConfigReader } from "./config.ts";
import { ropeSpec } from "./rope.ts";
import type { ModelSpec, ModelTensors, NormNames } from "./spec.ts";

/** GPT-NeoX and Pythia: LayerNorm, attention and MLP on the same input, q, k and v of a head side by side. */
export function gptNeox(config: ConfigReader): ModelSpec {
  const heads = config.count("num_attention_heads");
  config.only("num_key_value_heads", heads);
  config.only("head_dim", config.count("hidden_size") / heads);
  // Other families' names of rotary_emb_base and rotary_pct, which Transformers ignores here.
  const rope = config.object("rope_parameters") ?? config.object("rope_scaling") ?? new ConfigReader({});
  config.only("rope_theta", rope.positive("rope_theta", config.positive("rotary_emb_base", 10000)));
  const fraction = rope.positive("partial_rotary_factor", config.positive("rotary_pct", 0.25));
  config.only("partial_rotary_factor", fraction);
  const sizes = readSizes(config, { maxPositions: 2048 });
  return {
    ...PLAIN,
    ...sizes,
    gated: false,
    parallel: config.boolean("use_parallel_residual", true),
    norm: { kind: "layer", epsilon: config.positive("layer_norm_eps", 1e-5), offset: 0 },
    activation: activation(config, "hidden_act", "gelu"),
    windows: sameWindow(config, sizes.layers, null),
    ropes: [
      ropeSpec(config, sizes, {
        thetaField: "rotary_emb_base",
        fractionField: "rotary_pct",
        fraction: 0.25,
      }),
    ],
    ropeOfBlock: Array.from({ length: sizes.layers }, () => 0),
    tensors: tensors(config.boolean("attention_bias", true)),
  };
}

function tensors(attentionBias: boolean): ModelTensors {
  const block = "gpt_neox.layers.{}";
  return {
    embedding: "gpt_neox.embed_in.weight",
    inputNorm: layerNorm(`${block}.input_layernorm`),
    qkv: { kind: "interleaved", all: linear(`${block}.attention.query_key_value`, attentionBias) },
    o: linear(`${block}.attention.dense`, attentionBias),
    mlpNorm: layerNorm(`${block}.post_attention_layernorm`),
    mlpIn: { kind: "single", up: linear(`${block}.mlp.dense_h_to_4h`, true) },
    down: linear(`${block}.mlp.dense_4h_to_h`, true),
    finalNorm: layerNorm("gpt_neox.final_layer_norm"),
    head: linear("embed_out", false),
  };
}

function layerNorm(module: string): NormNames {
  return { weight: `${module}.weight`, bias: `${module}.bias` };
}
