/** What the reference decoder reads from a Hugging Face config, and the parameters that follow from it. */
import { inverseFrequencies, type RopeScaling } from "./rope.ts";
import { float64 } from "./linear_algebra.ts";
import { Random } from "../random.ts";

/** Parameters by Hugging Face name, row major. */
export type Weights = ReadonlyMap<string, Float64Array>;

/** Dimensions of a Llama or Mistral decoder. */
export interface DecoderShape {
  C: number;
  F: number;
  V: number;
  H: number;
  K: number;
  D: number;
  layers: number;
  epsilon: number;
  window: number | null;
  tied: boolean;
  /** Rotary angles per position [D/2]. */
  frequencies: Float64Array;
}

/** Reads a config.json of `model_type` llama or mistral. Throws RangeError naming a field it cannot honour. */
export function decoderShape(config: Record<string, unknown>): DecoderShape {
  const type = config.model_type;
  if (type !== "llama" && type !== "mistral") {
    throw new RangeError(`model_type: expected llama or mistral, found ${type}`);
  }
  for (const field of ["attention_bias", "mlp_bias"]) {
    if (config[field]) throw new RangeError(`${field}: expected false, found ${config[field]}`);
  }
  const number = (field: string, fallback?: number): number => {
    const value = config[field] ?? fallback;
    if (typeof value !== "number") throw new RangeError(`${field}: expected a number, found ${value}`);
    return value;
  };
  const C = number("hidden_size");
  const H = number("num_attention_heads");
  const D = number("head_dim", C / H);
  // in a Mistral config an absent field means 4096 (the default of Hugging Face's MistralConfig), null means none
  const window = type === "mistral"
    ? config.sliding_window === undefined ? 4096 : config.sliding_window
    : null;
  return {
    C,
    F: number("intermediate_size"),
    V: number("vocab_size"),
    H,
    K: number("num_key_value_heads", H),
    D,
    layers: number("num_hidden_layers"),
    epsilon: number("rms_norm_eps", 1e-6),
    window: window as number | null,
    tied: config.tie_word_embeddings === true,
    frequencies: inverseFrequencies(
      D,
      number("rope_theta", 10000),
      config.rope_scaling as RopeScaling | null | undefined,
    ),
  };
}

/** Name and shape of every parameter, in the order of the goldens' `train.parameter_order`. */
export function parameterShapes(config: Record<string, unknown>): Map<string, number[]> {
  const { C, F, V, H, K, D, layers, tied } = decoderShape(config);
  const shapes = new Map<string, number[]>([["model.embed_tokens.weight", [V, C]]]);
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}`;
    shapes.set(`${prefix}.self_attn.q_proj.weight`, [H * D, C]);
    shapes.set(`${prefix}.self_attn.k_proj.weight`, [K * D, C]);
    shapes.set(`${prefix}.self_attn.v_proj.weight`, [K * D, C]);
    shapes.set(`${prefix}.self_attn.o_proj.weight`, [C, H * D]);
    shapes.set(`${prefix}.mlp.gate_proj.weight`, [F, C]);
    shapes.set(`${prefix}.mlp.up_proj.weight`, [F, C]);
    shapes.set(`${prefix}.mlp.down_proj.weight`, [C, F]);
    shapes.set(`${prefix}.input_layernorm.weight`, [C]);
    shapes.set(`${prefix}.post_attention_layernorm.weight`, [C]);
  }
  shapes.set("model.norm.weight", [C]);
  if (!tied) shapes.set("lm_head.weight", [V, C]);
  return shapes;
}

/** Random float32 weights: norms around 1, embeddings of deviation 0.5, matrices of deviation 1/√inputs. */
export function randomWeights(
  config: Record<string, unknown>,
  seed: number,
): Map<string, { shape: number[]; data: Float32Array<ArrayBuffer> }> {
  const random = new Random(seed);
  const weights = new Map<string, { shape: number[]; data: Float32Array<ArrayBuffer> }>();
  for (const [name, shape] of parameterShapes(config)) {
    const elements = shape.reduce((product, extent) => product * extent, 1);
    const embedding = name === "model.embed_tokens.weight";
    const data = shape.length === 1
      ? random.normal(elements, 0.1, 1)
      : random.normal(elements, embedding ? 0.5 : 1 / Math.sqrt(shape[1]));
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
