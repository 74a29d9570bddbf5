/** The reference decoder: every family in float64, forward, loss, every gradient, and greedy generation. */
import { blockBackward, blockForward, type BlockTrace, pack, type Packed } from "./block.ts";
import { crossEntropy, type Distribution, type TargetRow } from "./cross_entropy.ts";
import { type DecoderShape, decoderShape, type Weights } from "./decoder_shape.ts";
import { embeddingBackward, embeddingForward } from "./embedding.ts";
import type { Module } from "./families.ts";
import { add } from "./linear_algebra.ts";
import { linear, linearGradients, norm, normGradients, type Parameters } from "./modules.ts";
import { softCap, softCapBackward } from "./soft_cap.ts";

/** A sequence; labels are −100 where not supervised and not shifted: logits at t − 1 answer for labels[t]. */
export interface Example {
  ids: readonly number[];
  labels: readonly number[];
}

/** The model's distribution at `position` of example `sequence` should be `target`; its KL counts `weight` times. */
export interface SoftRow {
  sequence: number;
  position: number;
  weight: number;
  target: Distribution;
}

/** Loss and gradients of one batch. */
interface LossAndGradients {
  /** crossEntropy + anchor. */
  loss: number;
  /** Mean over the supervised tokens of all examples; 0 if there are none. */
  crossEntropy: number;
  /** Σ weight · KL over the soft rows. */
  anchor: number;
  /** By Hugging Face name, unclipped; a tied matrix once, both parts summed. */
  gradients: Map<string, Float64Array>;
}

/** Every intermediate of a forward pass over packed tokens. */
interface DecoderTrace {
  packed: Packed;
  /** Scaled [N, C]. */
  embedding: Float64Array;
  blocks: BlockTrace[];
  /** Output of the final norm [N, C]. */
  norm: Float64Array;
  /** What the head projects, and that within its soft cap [N, V]. */
  projected: Float64Array;
  logits: Float64Array;
}

/** Logits [T·V] of each sequence. */
export function forward(
  config: Record<string, unknown>,
  weights: Weights,
  sequences: readonly (readonly number[])[],
): Float64Array[] {
  const { V } = decoderShape(config);
  const { logits, packed: { offsets } } = forwardTrace(config, weights, sequences);
  return sequences.map((_, b) => logits.slice(offsets[b] * V, offsets[b + 1] * V));
}

/** A forward pass with all its intermediates, for finding the first wrong layer. */
export function forwardTrace(
  config: Record<string, unknown>,
  weights: Weights,
  sequences: readonly (readonly number[])[],
): DecoderTrace {
  const shape = decoderShape(config);
  const packed = pack(sequences);
  const table = weights.get(`${shape.embedding.name}.weight`)!;
  const embedding = embeddingForward(packed.ids, table, shape.C).map((value) => value * shape.embeddingScale);
  const blocks: BlockTrace[] = [];
  let x: Float64Array = embedding;
  for (let layer = 0; layer < shape.layers.length; layer++) {
    blocks.push(blockForward(shape, weights, layer, packed, x));
    x = blocks[layer].y;
  }
  const normed = norm(weights, shape.finalNorm, x, shape.norm);
  const projected = linear(weights, shape.head, normed, packed.ids.length, headMatrix(shape));
  const logits = shape.logitCap > 0 ? softCap(projected, shape.logitCap) : projected;
  return { packed, embedding, blocks, norm: normed, projected, logits };
}

/** Mean cross-entropy over the supervised tokens plus Σ weight · KL over `softRows`, with every gradient. */
export function lossAndGradients(
  config: Record<string, unknown>,
  weights: Weights,
  examples: readonly Example[],
  softRows: readonly SoftRow[] = [],
): LossAndGradients {
  const shape = decoderShape(config);
  const trace = forwardTrace(config, weights, examples.map((example) => example.ids));
  const { offsets } = trace.packed;
  const hard = supervisedRows(examples, offsets);
  const soft = softRows.map(({ sequence, position, weight, target }): TargetRow => {
    if (!(position >= 0 && position < examples[sequence].ids.length)) {
      throw new RangeError(
        `soft row of sequence ${sequence}: expected a position below ${examples[sequence].ids.length}, ` +
          `found ${position}`,
      );
    }
    return { index: offsets[sequence] + position, weight, target };
  });
  const onLabels = crossEntropy(trace.logits, shape.V, hard);
  const onDistributions = crossEntropy(trace.logits, shape.V, soft);
  return {
    loss: onLabels.loss + onDistributions.loss,
    crossEntropy: onLabels.loss,
    anchor: onDistributions.loss,
    gradients: backward(shape, weights, trace, add(onLabels.dLogits, onDistributions.dLogits)),
  };
}

/** Gradients of all parameters for dLogits [N, V]. */
export function backward(
  shape: DecoderShape,
  weights: Weights,
  trace: DecoderTrace,
  dLogits: Float64Array,
): Map<string, Float64Array> {
  const { packed, blocks } = trace;
  const parameters: Parameters = { weights, gradients: new Map() };
  const dProjected = shape.logitCap > 0 ? softCapBackward(dLogits, trace.projected, shape.logitCap) : dLogits;
  const N = packed.ids.length;
  const dNorm = linearGradients(parameters, shape.head, dProjected, trace.norm, N, headMatrix(shape));
  const last = blocks.at(-1)?.y ?? trace.embedding;
  let dx = normGradients(parameters, shape.finalNorm, dNorm, last, shape.norm);
  for (let layer = blocks.length - 1; layer >= 0; layer--) {
    dx = blockBackward(shape, parameters, layer, packed, blocks[layer], dx);
  }
  // a tied matrix has the head's part already
  const name = `${shape.embedding.name}.weight`;
  const dTable = parameters.gradients.get(name) ?? new Float64Array(shape.V * shape.C);
  embeddingBackward(packed.ids, dx.map((value) => value * shape.embeddingScale), shape.C, dTable);
  parameters.gradients.set(name, dTable);
  return parameters.gradients;
}

/** `count` greedy tokens after `prompt`; of equal logits the lowest id wins. The whole sequence is run each time. */
export function generateGreedy(
  config: Record<string, unknown>,
  weights: Weights,
  prompt: readonly number[],
  count: number,
): number[] {
  const { V } = decoderShape(config);
  const sequence = [...prompt];
  for (let i = 0; i < count; i++) {
    const [logits] = forward(config, weights, [sequence]);
    sequence.push(argmax(logits.subarray(logits.length - V)));
  }
  return sequence.slice(prompt.length);
}

/** Index of the largest element, the first of equals. */
export function argmax(x: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < x.length; i++) if (x[i] > x[best]) best = i;
  return best;
}

/** Each supervised token as a row of the packed logits, weight 1 / number of them. */
function supervisedRows(examples: readonly Example[], offsets: readonly number[]): TargetRow[] {
  const rows: TargetRow[] = [];
  examples.forEach(({ ids, labels }, b) => {
    if (labels.length !== ids.length) {
      throw new RangeError(`example ${b}: expected ${ids.length} labels, found ${labels.length}`);
    }
    for (let t = 1; t < labels.length; t++) {
      if (labels[t] !== -100) {
        rows.push({ index: offsets[b] + t - 1, weight: 1, target: { label: labels[t] } });
      }
    }
  });
  return rows.map((row) => ({ ...row, weight: 1 / rows.length }));
}

function headMatrix(shape: DecoderShape): Module {
  return shape.tied ? shape.embedding : shape.head;
}
