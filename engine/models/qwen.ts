import { activation, HEAD_NORMS, layerTypes, llamaTensors, PLAIN, readSizes } from "./common.ts";
import { ConfigError, type ConfigReader } from "./config.ts";
import { ropeSpec } from "./rope.ts";
import type { ModelSpec, ModelTensors } from "./spec.ts";

/** Qwen 2 and 2.5: Llama with biases on q, k and v. */
export function qwen2(config: ConfigReader): ModelSpec {
  return decoder(config, undefined, llamaTensors({ qkv: true, o: false, mlp: false }));
}

/** Qwen 3: Llama with norms over each head of q and k. */
export function qwen3(config: ConfigReader): ModelSpec {
  const biased = config.boolean("attention_bias", false);
  const tensors = llamaTensors({ qkv: biased, o: biased, mlp: false });
  return decoder(config, 128, { ...tensors, headNorms: HEAD_NORMS });
}

function decoder(config: ConfigReader, headDim: number | undefined, tensors: ModelTensors): ModelSpec {
  config.only("use_mrope", false);
  config.only("mlp_bias", false);
  const sizes = readSizes(config, { kvHeads: 32, headDim, maxPositions: 32768 });
  return {
    ...PLAIN,
    ...sizes,
    norm: { kind: "rms", epsilon: config.positive("rms_norm_eps", 1e-6), offset: 0 },
    activation: activation(config, "hidden_act", "silu"),
    windows: windows(config, sizes.layers),
    ropes: [ropeSpec(config, sizes)],
    ropeOfBlock: Array.from({ length: sizes.layers }, () => 0),
    tensors,
  };
}

/**
 * The window fields count only with `use_sliding_window`; then the first `max_window_layers` blocks have no
 * window.
 */
function windows(config: ConfigReader, layers: number): (number | null)[] {
  const used = config.boolean("use_sliding_window", false) && config.fields.sliding_window !== null;
  const window = used ? config.count("sliding_window", 4096) : null;
  const types = layerTypes(config, layers);
  if (window === null) {
    if (types?.includes("sliding_attention")) {
      throw new ConfigError(
        "layer_types",
        'has "sliding_attention", but "use_sliding_window" or "sliding_window" says there is no window',
      );
    }
    return Array.from({ length: layers }, () => null);
  }
  const first = config.number("max_window_layers", 28);
  return Array.from({ length: layers }, (_, layer) => {
    const slides = types ? types[layer] === "sliding_attention" : layer >= first;
    return slides ? window : null;
  });
}
