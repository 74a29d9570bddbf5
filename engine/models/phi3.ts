import { activation, linear, llamaTensors, PLAIN, readSizes, sameWindow } from "./common.ts";
import type { ConfigReader } from "./config.ts";
import { ropeSpec } from "./rope.ts";
import type { ModelSpec, ModelTensors } from "./spec.ts";

/**
 * Phi 3 and 4: Llama with one matrix for q, k, v and one for gate and up, and a window in every block if
 * there is one.
 */
export function phi3(config: ConfigReader): ModelSpec {
  for (const field of ["attention_bias", "mlp_bias", "lm_head_bias"]) config.only(field, false);
  // Of Phi-4-mini's own modeling code; other values don't exist in Transformers' Phi3.
  for (const field of ["full_attn_mod", "interpolate_factor"]) config.only(field, 1);
  const sizes = readSizes(config, { maxPositions: 4096 });
  const window = config.has("sliding_window") ? config.count("sliding_window") : null;
  return {
    ...PLAIN,
    ...sizes,
    norm: { kind: "rms", epsilon: config.positive("rms_norm_eps", 1e-5), offset: 0 },
    activation: activation(config, "hidden_act", "silu"),
    windows: sameWindow(config, sizes.layers, window),
    ropes: [
      ropeSpec(config, sizes, {
        fractionField: "partial_rotary_factor",
        fraction: 1,
        originalPositions: 4096,
      }),
    ],
    ropeOfBlock: Array.from({ length: sizes.layers }, () => 0),
    tensors: TENSORS,
  };
}

const TENSORS: ModelTensors = {
  ...llamaTensors({ qkv: false, o: false, mlp: false }),
  qkv: { kind: "stacked", all: linear("model.layers.{}.self_attn.qkv_proj", false) },
  mlpIn: { kind: "stacked", all: linear("model.layers.{}.mlp.gate_up_proj", false) },
};
