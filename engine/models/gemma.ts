import {
  activation,
  HEAD_NORMS,
  layerTypes,
  llamaTensors,
  PLAIN,
  readSizes,
  rmsNorm,
  type SizeDefaults,
} from "./common.ts";
import { ConfigError, type ConfigReader } from "./config.ts";
import { layerTypeRope, ropeSpec } from "./rope.ts";
import type { ModelSpec, ModelTensors } from "./spec.ts";

/**
 * Gemma 1: norms with a unit offset, scaled embeddings, tied head. The official configs' `hidden_act` "gelu"
 * means the tanh approximation.
 */
export function gemma(config: ConfigReader): ModelSpec {
  config.only("hidden_act", "gelu", "gelu_pytorch_tanh");
  config.only("hidden_activation", "gelu_pytorch_tanh");
  const spec = base(config, { kvHeads: 16, maxPositions: 8192 });
  return {
    ...spec,
    activation: "gelu_tanh",
    windows: Array.from({ length: spec.layers }, () => null),
    ropes: [ropeSpec(config, spec)],
    ropeOfBlock: Array.from({ length: spec.layers }, () => 0),
    tensors: tensors(config),
  };
}

/**
 * Gemma 2: norms around attention and MLP, soft caps (null is none), a window in every other block from the
 * first.
 */
export function gemma2(config: ConfigReader): ModelSpec {
  const spec = base(config, { kvHeads: 4, maxPositions: 8192 });
  const local = localBlocks(config, spec.layers, 2);
  return {
    ...spec,
    activation: activation(config, "hidden_activation", "gelu_pytorch_tanh"),
    attentionScale: queryScale(config),
    attentionCap: cap(config, "attn_logit_softcapping", 50),
    logitCap: cap(config, "final_logit_softcapping", 30),
    windows: windows(config, local),
    ropes: [ropeSpec(config, spec)],
    ropeOfBlock: local.map(() => 0),
    tensors: { ...tensors(config), ...SANDWICH },
  };
}

/**
 * Gemma 3, text only: Gemma 2 without soft caps, with norms over each head of q and k, and blocks with a
 * window (five of six by default) that have a rotary embedding of their own.
 */
export function gemma3(config: ConfigReader): ModelSpec {
  // Transformers reads this field and never applies it.
  config.only("attn_logit_softcapping");
  const spec = base(config, { kvHeads: 4, maxPositions: 131072 });
  const local = localBlocks(config, spec.layers, config.count("sliding_window_pattern", 6));
  const ropes = [
    layerTypeRope(config, spec, "full_attention", "rope_theta", 1e6),
    layerTypeRope(config, spec, "sliding_attention", "rope_local_base_freq", 1e4),
  ];
  return {
    ...spec,
    activation: activation(config, "hidden_activation", "gelu_pytorch_tanh"),
    attentionScale: queryScale(config),
    logitCap: cap(config, "final_logit_softcapping", 0),
    windows: windows(config, local),
    ropes,
    ropeOfBlock: local.map((slides) => slides ? 1 : 0),
    tensors: { ...tensors(config), ...SANDWICH, headNorms: HEAD_NORMS },
  };
}

/**
 * In Gemma 2 and 3 `post_attention_layernorm` norms the attention's output, unlike Llama's norm of that name.
 */
const SANDWICH = {
  attentionOutputNorm: rmsNorm("model.layers.{}.post_attention_layernorm"),
  mlpNorm: rmsNorm("model.layers.{}.pre_feedforward_layernorm"),
  mlpOutputNorm: rmsNorm("model.layers.{}.post_feedforward_layernorm"),
} as const satisfies Partial<ModelTensors>;

function base(config: ConfigReader, defaults: SizeDefaults) {
  config.only("use_bidirectional_attention", false);
  config.only("mlp_bias", false);
  const sizes = readSizes(config, { headDim: 256, tied: true, ...defaults });
  return {
    ...PLAIN,
    ...sizes,
    norm: { kind: "rms", epsilon: config.positive("rms_norm_eps", 1e-6), offset: 1 } as const,
    embeddingScale: Math.sqrt(sizes.width),
  };
}

function tensors(config: ConfigReader): ModelTensors {
  const biased = config.boolean("attention_bias", false);
  return llamaTensors({ qkv: biased, o: biased, mlp: false });
}

function queryScale(config: ConfigReader): number {
  return 1 / Math.sqrt(config.positive("query_pre_attn_scalar", 256));
}

function cap(config: ConfigReader, field: string, absent: number): number {
  if (config.fields[field] === undefined) return absent;
  return config.has(field) ? config.positive(field) : 0;
}

/** Which blocks have a window: `layer_types`, otherwise all but every `pattern`-th. */
function localBlocks(config: ConfigReader, layers: number, pattern: number): boolean[] {
  const types = layerTypes(config, layers) ??
    Array.from(
      { length: layers },
      (_, layer) => (layer + 1) % pattern ? "sliding_attention" : "full_attention",
    );
  return types.map((type) => type === "sliding_attention");
}

function windows(config: ConfigReader, local: readonly boolean[]): (number | null)[] {
  if (!local.includes(true)) return local.map(() => null);
  if (config.fields.sliding_window === null) {
    throw new ConfigError("sliding_window", "is null, expected a number: some blocks have a window");
  }
  const window = config.count("sliding_window", 4096);
  return local.map((slides) => slides ? window : null);
}
