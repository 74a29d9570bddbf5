import { activation, llamaTensors, PLAIN, readSizes, sameWindow, type SizeDefaults } from "./common.ts";
import type { ConfigReader } from "./config.ts";
import { ropeSpec } from "./rope.ts";
import type { ModelSpec } from "./spec.ts";

/** Llama 1 to 3.x. It has no window, whatever its config says. */
export function llama(config: ConfigReader): ModelSpec {
  const biased = config.boolean("attention_bias", false);
  const biases = { qkv: biased, o: biased, mlp: config.boolean("mlp_bias", false) };
  return { ...decoder(config, { maxPositions: 2048 }, null), tensors: llamaTensors(biases) };
}

/**
 * Mistral: Llama with a sliding window in every block. The class defaults are a window of 4096 (null means
 * none) and 8 key and value heads (null means as many as query heads).
 */
export function mistral(config: ConfigReader): ModelSpec {
  config.only("attention_bias", false);
  config.only("mlp_bias", false);
  const window = config.fields.sliding_window === null ? null : config.count("sliding_window", 4096);
  return {
    ...decoder(config, { kvHeads: 8, maxPositions: 131072 }, window),
    tensors: llamaTensors({ qkv: false, o: false, mlp: false }),
  };
}

function decoder(config: ConfigReader, defaults: SizeDefaults, window: number | null) {
  // Dropout, pretraining_tp and the like change training or the order of sums, not the function.
  const sizes = readSizes(config, defaults);
  return {
    ...PLAIN,
    ...sizes,
    norm: { kind: "rms", epsilon: config.positive("rms_norm_eps", 1e-6), offset: 0 } as const,
    activation: activation(config, "hidden_act", "silu"),
    windows: sameWindow(config, sizes.layers, window),
    ropes: [ropeSpec(config, sizes)],
    ropeOfBlock: Array.from({ length: sizes.layers }, () => 0),
  };
}
