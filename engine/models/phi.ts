import { activation, linear, PLAIN, readSizes, sameWindow } from "./common.ts";
import type { ConfigReader } from "./config.ts";
import { ropeSpec } from "./rope.ts";
import type { ModelSpec, ModelTensors } from "./spec.ts";

/**
 * Phi 1, 1.5 and 2: one LayerNorm a block, whose output goes to attention and MLP; biases on every linear
 * layer.
 */
export function phi(config: ConfigReader): ModelSpec {
  config.only("qk_layernorm", false);
  const sizes = readSizes(config, { maxPositions: 2048 });
  return {
    ...PLAIN,
    ...sizes,
    gated: false,
    parallel: true,
    norm: { kind: "layer", epsilon: config.positive("layer_norm_eps", 1e-5), offset: 0 },
    activation: activation(config, "hidden_act", "gelu_new"),
    windows: sameWindow(config, sizes.layers, null),
    ropes: [ropeSpec(config, sizes, { fractionField: "partial_rotary_factor", fraction: 0.5 })],
    ropeOfBlock: Array.from({ length: sizes.layers }, () => 0),
    tensors: TENSORS,
  };
}

const BLOCK = "model.layers.{}";

const TENSORS: ModelTensors = {
  embedding: "model.embed_tokens.weight",
  inputNorm: { weight: `${BLOCK}.input_layernorm.weight`, bias: `${BLOCK}.input_layernorm.bias` },
  qkv: {
    kind: "split",
    q: linear(`${BLOCK}.self_attn.q_proj`, true),
    k: linear(`${BLOCK}.self_attn.k_proj`, true),
    v: linear(`${BLOCK}.self_attn.v_proj`, true),
  },
  o: linear(`${BLOCK}.self_attn.dense`, true),
  mlpIn: { kind: "single", up: linear(`${BLOCK}.mlp.fc1`, true) },
  down: linear(`${BLOCK}.mlp.fc2`, true),
  finalNorm: { weight: "model.final_layernorm.weight", bias: "model.final_layernorm.bias" },
  head: linear("lm_head", true),
};
