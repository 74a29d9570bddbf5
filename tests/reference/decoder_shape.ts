/** What the reference decoder reads from a Hugging Face config, and the parameters that follow from it. */
import type { Activation } from "../../engine/models/spec.ts";
import { Random } from "../random.ts";
import {
  type Layer,
  llamaLayer,
  type LlamaParts,
  type Module,
  neoxLayer,
  phi3Layer,
  phiLayer,
  type Sizes,
} from "./families.ts";
import { float64 } from "./linear_algebra.ts";
import type { NormSettings } from "./norm.ts";
import { type Rope, ropeOf } from "./rope_config.ts";

/** Parameters by Hugging Face name, row major. */
export type Weights = ReadonlyMap<string, Float64Array>;

/** Everything about a decoder but its weights. */
export interface DecoderShape extends Sizes {
  V: number;
  norm: NormSettings;
  activation: Activation;
  /** x + attention(norm(x)) + mlp(norm(x)), both from the same x. */
  parallel: boolean;
  /** Factor on q·k. */
  scale: number;
  /** Soft caps of scores and logits; 0 is none. */
  attentionCap: number;
  logitCap: number;
  embeddingScale: number;
  tied: boolean;
  /** Rows of a fused q, k, v matrix: all q, all k, all v, or q, k, v of one head after the other. */
  fused: "stacked" | "interleaved";
  layers: { modules: Layer; window: number | null; rope: Rope }[];
  embedding: Module;
  finalNorm: Module;
  /** Where tied its matrix is the embedding's; a bias is its own all the same. */
  head: Module;
}

type Config = Record<string, unknown>;

/** Reads a config.json. Throws RangeError naming a field it cannot honour. */
export function decoderShape(config: Config): DecoderShape {
  const type = config.model_type as string;
  const read = FAMILIES[type];
  if (!read) throw new RangeError(`model_type: expected one of ${Object.keys(FAMILIES)}, found ${type}`);
  return read(config);
}

const FAMILIES: Record<string, (config: Config) => DecoderShape> = {
  llama: (config) =>
    llamaLike(config, {
      parts: {
        ...NO_PARTS,
        qkvBias: config.attention_bias === true,
        oBias: config.attention_bias === true,
        mlpBias: config.mlp_bias === true,
      },
    }),
  // an absent field means 4096 (the default of Hugging Face's MistralConfig), null means none
  mistral: (config) => llamaLike(config, { window: () => absentOr(config.sliding_window, 4096) }),
  qwen2: (config) => llamaLike(config, { parts: { ...NO_PARTS, qkvBias: true }, window: qwenWindow(config) }),
  qwen3: (config) =>
    llamaLike({ head_dim: 128, ...config }, {
      parts: {
        ...NO_PARTS,
        headNorms: true,
        qkvBias: config.attention_bias === true,
        oBias: config.attention_bias === true,
      },
      window: qwenWindow(config),
    }),
  gemma: (config) => ({ ...gemmaLike(config, {}), activation: "gelu_tanh" }),
  gemma2: (config) => {
    const slides = (layer: number) => localLayer(config, layer, 2);
    return {
      ...gemmaLike(config, {
        sandwich: true,
        window: (layer) => slides(layer) ? config.sliding_window as number ?? 4096 : null,
      }),
      scale: number(config, "query_pre_attn_scalar", 256) ** -0.5,
      attentionCap: absentOr(config.attn_logit_softcapping, 50) ?? 0,
      logitCap: absentOr(config.final_logit_softcapping, 30) ?? 0,
    };
  },
  gemma3_text: (config) => {
    const pattern = number(config, "sliding_window_pattern", 6);
    const slides = (layer: number) => localLayer(config, layer, pattern);
    const parameters = config.rope_parameters as Record<string, Config> | undefined;
    const local = parameters?.sliding_attention ??
      { rope_theta: config.rope_local_base_freq, rope_type: "default" };
    const global = parameters?.full_attention ??
      { rope_theta: config.rope_theta, ...config.rope_scaling as Config | null };
    const { head_dim } = { head_dim: 256, ...config };
    const plain = { ...config, rope_scaling: null, head_dim };
    const withRope = (rope: Config, theta: number) => ({
      ...plain,
      rope_parameters: { ...rope, rope_theta: rope.rope_theta ?? theta },
    });
    return {
      ...gemmaLike(withRope(global, 1e6), {
        sandwich: true,
        headNorms: true,
        window: (layer) => slides(layer) ? config.sliding_window as number ?? 4096 : null,
        rope: (layer, rope) => slides(layer) ? ropeFields(withRope(local, 1e4), head_dim as number) : rope,
      }),
      scale: number(config, "query_pre_attn_scalar", 256) ** -0.5,
      logitCap: config.final_logit_softcapping as number ?? 0,
    };
  },
  phi3: (config) => {
    const shape = llamaLike({
      rms_norm_eps: 1e-5,
      max_position_embeddings: 4096,
      original_max_position_embeddings: 4096,
      ...config,
    }, {
      window: () => config.sliding_window as number ?? null,
    });
    return {
      ...shape,
      layers: shape.layers.map((layer, l) => ({ ...layer, modules: phi3Layer(shape, l) })),
    };
  },
  phi: (config) => {
    if (config.qk_layernorm) {
      throw new RangeError(`qk_layernorm: expected false, found ${config.qk_layernorm}`);
    }
    const shape = llamaLike({ partial_rotary_factor: 0.5, ...config }, {});
    return {
      ...shape,
      ...layerNormed(config, shape, "gelu_new"),
      parallel: true,
      layers: shape.layers.map((layer, l) => ({ ...layer, modules: phiLayer(shape, l) })),
      finalNorm: { name: "model.final_layernorm", shape: [shape.C], biased: true },
      head: { ...shape.head, biased: true },
    };
  },
  gpt_neox: (config) => {
    const old = {
      rope_theta: config.rotary_emb_base ?? 10000,
      partial_rotary_factor: config.rotary_pct ?? 0.25,
    };
    const shape = llamaLike({ ...config, ...old }, {});
    return {
      ...shape,
      ...layerNormed(config, shape, "gelu"),
      parallel: config.use_parallel_residual !== false,
      fused: "interleaved",
      layers: shape.layers.map((layer, l) => ({
        ...layer,
        modules: neoxLayer(shape, config.attention_bias !== false, l),
      })),
      embedding: { ...shape.embedding, name: "gpt_neox.embed_in" },
      finalNorm: { name: "gpt_neox.final_layer_norm", shape: [shape.C], biased: true },
      head: { ...shape.head, name: "embed_out" },
    };
  },
};

const NO_PARTS: LlamaParts = {
  qkvBias: false,
  oBias: false,
  mlpBias: false,
  headNorms: false,
  sandwich: false,
};

/** How a family's layers differ from Llama's. */
interface LayerOptions {
  parts?: LlamaParts;
  window?: ((layer: number) => number | null) | undefined;
  /** The layer's rotary embedding, given the one of the config. */
  rope?: ((layer: number, rope: Rope) => Rope) | undefined;
}

/** A decoder as Llama's; the other families change parts of the result. */
function llamaLike(config: Config, { parts = NO_PARTS, window, rope }: LayerOptions): DecoderShape {
  const [C, F, V] = [
    number(config, "hidden_size"),
    number(config, "intermediate_size"),
    number(config, "vocab_size"),
  ];
  const H = number(config, "num_attention_heads");
  const D = number(config, "head_dim", C / H);
  const sizes: Sizes = { C, F, H, K: number(config, "num_key_value_heads", H), D };
  const everywhere = ropeFields(config, D);
  return {
    ...sizes,
    V,
    norm: { kind: "rms", epsilon: number(config, "rms_norm_eps", 1e-6), offset: 0 },
    activation: activationOf(config.hidden_act ?? "silu"),
    parallel: false,
    scale: 1 / Math.sqrt(D),
    attentionCap: 0,
    logitCap: 0,
    embeddingScale: 1,
    tied: config.tie_word_embeddings === true,
    fused: "stacked",
    layers: Array.from({ length: number(config, "num_hidden_layers") }, (_, l) => ({
      modules: llamaLayer(sizes, parts, l),
      window: window?.(l) ?? null,
      rope: rope ? rope(l, everywhere) : everywhere,
    })),
    embedding: { name: "model.embed_tokens", shape: [V, C], biased: false },
    finalNorm: { name: "model.norm", shape: [C], biased: false },
    head: { name: "lm_head", shape: [V, C], biased: false },
  };
}

function gemmaLike(config: Config, options: Omit<LayerOptions, "parts"> & Partial<LlamaParts>): DecoderShape {
  const biased = config.attention_bias === true;
  const { window, rope, ...some } = options;
  const parts = { ...NO_PARTS, qkvBias: biased, oBias: biased, ...some };
  const shape = llamaLike({
    head_dim: 256,
    tie_word_embeddings: true,
    ...config,
    hidden_act: config.hidden_activation ?? "gelu_pytorch_tanh",
  }, { parts, window, rope });
  return { ...shape, norm: { ...shape.norm, offset: 1 }, embeddingScale: Math.sqrt(shape.C) };
}

function layerNormed(config: Config, { norm }: DecoderShape, activation: string) {
  return {
    norm: { ...norm, kind: "layer", epsilon: number(config, "layer_norm_eps", 1e-5) } as const,
    activation: activationOf(config.hidden_act ?? activation),
  };
}

function ropeFields(config: Config, D: number): Rope {
  const scaling = (config.rope_parameters ?? config.rope_scaling) as Config | null | undefined;
  const fields = { ...config, ...scaling };
  const positions = number(fields, "max_position_embeddings", NaN);
  return ropeOf({
    theta: number(fields, "rope_theta", 10000),
    rotary: Math.trunc(D * number(fields, "partial_rotary_factor", 1)),
    scaling,
    positions,
    originalPositions: number(fields, "original_max_position_embeddings", positions),
  });
}

function qwenWindow(config: Config): (layer: number) => number | null {
  const window = config.use_sliding_window ? absentOr(config.sliding_window, 4096) : null;
  const types = config.layer_types as string[] | null | undefined;
  const first = number(config, "max_window_layers", 28);
  return (layer) => (types ? types[layer] === "sliding_attention" : layer >= first) ? window : null;
}

function localLayer(config: Config, layer: number, pattern: number): boolean {
  const types = config.layer_types as string[] | null | undefined;
  return types ? types[layer] === "sliding_attention" : (layer + 1) % pattern !== 0;
}

function activationOf(name: unknown): Activation {
  if (name === "silu" || name === "gelu") return name;
  if (name === "gelu_new" || name === "gelu_pytorch_tanh") return "gelu_tanh";
  throw new RangeError(`activation: expected silu or a gelu, found ${name}`);
}

function number(config: Config, field: string, fallback?: number): number {
  const value = config[field] ?? fallback;
  if (typeof value !== "number") throw new RangeError(`${field}: expected a number, found ${value}`);
  return value;
}

/** The field, or `absent` where it is not there; null stays null. */
function absentOr(value: unknown, absent: number): number | null {
  return value === undefined ? absent : value as number | null;
}

/** Name and shape of every parameter, in the order of the goldens' `train.parameter_order`. */
export function parameterShapes(config: Config): Map<string, number[]> {
  const shape = decoderShape(config);
  const shapes = new Map<string, number[]>();
  const add = ({ name, shape, biased }: Module, weighted = true) => {
    if (weighted) shapes.set(`${name}.weight`, shape);
    if (biased) shapes.set(`${name}.bias`, shape.slice(0, 1));
  };
  add(shape.embedding);
  for (const { modules } of shape.layers) for (const module of Object.values(modules)) add(module);
  add(shape.finalNorm);
  add(shape.head, !shape.tied);
  return shapes;
}

/**
 * Random float32 weights: norms around 1, biases around 0, embeddings of deviation 0.5, matrices of
 * 1/√inputs.
 */
export function randomWeights(
  config: Config,
  seed: number,
): Map<string, { shape: number[]; data: Float32Array<ArrayBuffer> }> {
  const random = new Random(seed);
  const { embedding, norm } = decoderShape(config);
  const weights = new Map<string, { shape: number[]; data: Float32Array<ArrayBuffer> }>();
  for (const [name, shape] of parameterShapes(config)) {
    const elements = shape.reduce((product, extent) => product * extent, 1);
    const isEmbedding = name === `${embedding.name}.weight`;
    const data = shape.length === 1
      ? random.normal(elements, 0.1, name.endsWith(".bias") ? 0 : 1 - norm.offset)
      : random.normal(elements, isEmbedding ? 0.5 : 1 / Math.sqrt(shape[1]));
    weights.set(name, { shape, data });
  }
  return weights;
}

/** Float64 copies of weights, as the reference takes them. */
export function widenWeights(
  weights: Iterable<[string, { data: ArrayLike<number> }]>,
): Map<string, Float64Array<ArrayBuffer>> {
  return new Map(Array.from(weights, ([name, { data }]) => [name, float64(data)]));
}
