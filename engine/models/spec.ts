/** What the decoder needs to know about a model: data, made by a family file from Hugging Face's config.json. */
export interface ModelSpec {
  /** `model_type` of the config. */
  readonly family: string;
  /** V, C, number of blocks, H, K, D, F. */
  readonly vocabulary: number;
  readonly width: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly feedForward: number;
  readonly normEpsilon: number;
  /** Scores are multiplied by this before the softmax. */
  readonly attentionScale: number;
  /** Keys that a query of each block sees, itself included; null for all. */
  readonly windows: readonly (number | null)[];
  /** Rotary frequencies after scaling, in float64, one a pair of rotated dimensions. */
  readonly ropeFrequencies: readonly number[];
  /** The head is the embedding matrix. */
  readonly tied: boolean;
  readonly maxPositions: number;
  readonly names: TensorNames;
}

/** Hugging Face names of the parameters; `{}` stands for the block. */
export interface TensorNames {
  readonly embedding: string;
  readonly inputNorm: string;
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly o: string;
  readonly postNorm: string;
  readonly gate: string;
  readonly up: string;
  readonly down: string;
  readonly finalNorm: string;
  /** Absent from checkpoints of tied models, or a copy there. */
  readonly head: string;
}

/** A parameter that a checkpoint of this model must have. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** Norm weights are not decayed. */
  readonly decays: boolean;
}

/** A parameter's name in one block. */
export function blockName(pattern: string, layer: number): string {
  return pattern.replace("{}", String(layer));
}

/** All parameters in the order of the forward pass; a tied matrix once, under the embedding's name. */
export function parameterSpecs(spec: ModelSpec): ParameterSpec[] {
  const { vocabulary: V, width: C, heads, kvHeads, headDim: D, feedForward: F, names } = spec;
  const matrix = (name: string, rows: number, columns: number) => ({
    name,
    shape: [rows, columns],
    decays: true,
  });
  const norm = (name: string) => ({ name, shape: [C], decays: false });
  const out: ParameterSpec[] = [matrix(names.embedding, V, C)];
  for (let layer = 0; layer < spec.layers; layer++) {
    const at = (pattern: string) => blockName(pattern, layer);
    out.push(
      norm(at(names.inputNorm)),
      matrix(at(names.q), heads * D, C),
      matrix(at(names.k), kvHeads * D, C),
      matrix(at(names.v), kvHeads * D, C),
      matrix(at(names.o), C, heads * D),
      norm(at(names.postNorm)),
      matrix(at(names.gate), F, C),
      matrix(at(names.up), F, C),
      matrix(at(names.down), C, F),
    );
  }
  out.push(norm(names.finalNorm));
  if (!spec.tied) out.push(matrix(names.head, V, C));
  return out;
}
