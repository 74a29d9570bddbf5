/**
 * A peer of our optimizer step: the same Llama in jax-js, the TypeScript library that also trains on WebGPU.
 * `deno run -A bench/peers/jaxjs_step.ts --device webgpu --batch 64 --seq 32`; see peer_loop.ts for what it prints.
 *
 * One step: forward and backward over `micro_batches` batches of `batch` sequences, gradients summed, one AdamW update.
 * Sequences end at `tokens` and are padded on the right to `seq`, which a causal model needs no mask for. `--head all`
 * computes the logits of all positions, as a Hugging Face model does; `--head last` those of the supervised one only.
 * No clipping: it has no counterpart in jax-js and costs next to nothing.
 */
import { parseArgs } from "node:util";
import { defaultDevice, init, jit, nn, numpy as np, random, tree, valueAndGrad } from "@jax-js/jax";
import { DEMO_SHAPE, randomStream } from "../demo_shape.ts";
import { servePeer } from "./peer_loop.ts";

const { values: flags } = parseArgs({
  options: {
    device: { type: "string", default: "webgpu" },
    batch: { type: "string", default: "64" },
    seq: { type: "string", default: "32" },
    tokens: { type: "string", default: "18" },
    micro_batches: { type: "string", default: "2" },
    head: { type: "string", default: "all" },
    steps: { type: "string", default: "5" },
    paced: { type: "boolean", default: false },
  },
});
const device = flags.device as "webgpu" | "wasm";
const [B, T, tokens] = [Number(flags.batch), Number(flags.seq), Number(flags.tokens)];
const microBatches = Number(flags.micro_batches);
const lastOnly = flags.head === "last";
const { V, C, layers, H, K, D, F } = DEMO_SHAPE;
const [LEARNING_RATE, DECAY] = [1e-5, 1e-4];
if (tokens > T) throw new RangeError(`--tokens ${tokens} is more than --seq ${T}`);

type Tensor = np.Array;
type Weights = Record<string, Tensor>;

await init(device);
defaultDevice(device);

function initialWeights(): Weights {
  const weights: Weights = { embedding: normal(V, C), finalNorm: np.ones([C]) };
  for (let layer = 0; layer < layers; layer++) {
    Object.assign(weights, {
      [`q${layer}`]: normal(C, H * D),
      [`k${layer}`]: normal(C, K * D),
      [`v${layer}`]: normal(C, K * D),
      [`o${layer}`]: normal(H * D, C),
      [`gate${layer}`]: normal(C, F),
      [`up${layer}`]: normal(C, F),
      [`down${layer}`]: normal(F, C),
      [`inputNorm${layer}`]: np.ones([C]),
      [`postNorm${layer}`]: np.ones([C]),
    });
  }
  return weights;
}

let seeds = 0;
function normal(rows: number, columns: number): Tensor {
  return random.normal(random.key(seeds++), [rows, columns]).mul(0.05);
}

/** jax-js consumes its operands: `.ref` keeps one for a further use. */
function rmsNorm(x: Tensor, weight: Tensor): Tensor {
  const meanSquare = np.mean(np.square(x.ref), -1, { keepdims: true });
  return x.div(np.sqrt(meanSquare.add(1e-5))).mul(weight);
}

function ropeTable(of: (angle: number) => number): number[][] {
  return Array.from(
    { length: T },
    (_, t) => Array.from({ length: D }, (_, i) => of(t / 10000 ** ((i % (D / 2)) * 2 / D))),
  );
}
const [cosines, sines] = [ropeTable(Math.cos), ropeTable(Math.sin)];

/** [B·T, heads·D] → [B, T, heads, D], rotated. */
function rotate(flat: Tensor, heads: number): Tensor {
  const x = flat.reshape([B, T, heads, D]);
  const halves = x.ref.reshape([B, T, heads, 2, D / 2]);
  const first = halves.ref.slice([], [], [], 0, []);
  const second = halves.slice([], [], [], 1, []);
  const turned = np.concatenate([np.negative(second), first], -1);
  return x.mul(np.array(cosines).reshape([1, T, 1, D])).add(
    turned.mul(np.array(sines).reshape([1, T, 1, D])),
  );
}

function attention(h: Tensor, weights: Weights, layer: number): Tensor {
  const q = rotate(np.matmul(h.ref, weights[`q${layer}`]), H);
  const k = rotate(np.matmul(h.ref, weights[`k${layer}`]), K);
  const v = np.matmul(h, weights[`v${layer}`]).reshape([B, T, K, D]);
  const mixed = nn.dotProductAttention(q, k, v, { isCausal: true });
  return np.matmul(mixed.reshape([B * T, H * D]), weights[`o${layer}`]);
}

function feedForward(h: Tensor, weights: Weights, layer: number): Tensor {
  const gate = nn.silu(np.matmul(h.ref, weights[`gate${layer}`]));
  return np.matmul(gate.mul(np.matmul(h, weights[`up${layer}`])), weights[`down${layer}`]);
}

/** `wanted` holds −1/(supervised tokens of the step) at each label: one-hot rows, all zero where nothing is supervised. */
function loss(weights: Weights, oneHotIds: Tensor, wanted: Tensor): Tensor {
  // A product with one-hot rows: a gather has no gradient in jax-js 0.1.25.
  let x = np.matmul(oneHotIds, weights.embedding.ref);
  for (let layer = 0; layer < layers; layer++) {
    x = x.ref.add(attention(rmsNorm(x, weights[`inputNorm${layer}`]), weights, layer));
    x = x.ref.add(feedForward(rmsNorm(x, weights[`postNorm${layer}`]), weights, layer));
  }
  if (lastOnly) x = x.reshape([B, T, C]).slice([], tokens - 2, []);
  const logits = np.matmul(rmsNorm(x, weights.finalNorm), np.transpose(weights.embedding));
  return nn.logSoftmax(logits, -1).mul(wanted).sum();
}

// deno-lint-ignore no-explicit-any -- jax-js types trees as any
const lossAndGradients = jit(valueAndGrad(loss as any)) as any;
const add = jit((a: Tensor, b: Tensor) => a.add(b));
const adamW = jit((weight: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rates: Tensor) => {
  const m = first.mul(0.9).add(gradient.ref.mul(0.1));
  const v = second.mul(0.999).add(np.square(gradient).mul(0.001));
  const [rate, root] = [rates.ref.slice(0), rates.slice(1)];
  const update = m.ref.mul(rate).div(np.sqrt(v.ref).mul(root).add(1e-8));
  return [weight.mul(1 - LEARNING_RATE * DECAY).sub(update), m, v];
  // deno-lint-ignore no-explicit-any
}) as any;

const nextRandom = randomStream(2);
const batches = Array.from({ length: microBatches }, () => {
  const ids = Array.from({ length: B * T }, () => Math.floor(nextRandom() * V));
  const labels = Array.from({ length: B }, (_, b) => ids[b * T + tokens - 1]);
  const rows = lastOnly ? labels : ids.map((_, at) => labels[Math.floor(at / T)]);
  const supervised = (at: number) => lastOnly || at % T === tokens - 2;
  // oneHot gives no zero row for a class outside the range, so a column of weights does.
  const rowWeights = rows.map((_, at) => [supervised(at) ? -1 / (B * microBatches) : 0]);
  return {
    ids: nn.oneHot(np.array(ids, { dtype: np.int32 }), V),
    wanted: nn.oneHot(np.array(rows, { dtype: np.int32 }), V).mul(np.array(rowWeights)),
  };
});

const [leaves, structure] = tree.flatten(initialWeights()) as [Tensor[], unknown];
let weights = leaves;
let firsts = weights.map(({ shape }) => np.zeros(shape));
let seconds = weights.map(({ shape }) => np.zeros(shape));
let stepsDone = 0;

async function step(): Promise<number> {
  let gradients: Tensor[] | undefined;
  const losses: Tensor[] = [];
  for (const { ids, wanted } of batches) {
    // deno-lint-ignore no-explicit-any
    const tied = tree.unflatten(structure as any, weights.map((weight) => weight.ref));
    const [value, gradient] = lossAndGradients(tied, ids.ref, wanted.ref);
    const flat = tree.flatten(gradient)[0] as Tensor[];
    gradients = gradients ? gradients.map((sum, i) => add(sum, flat[i])) : flat;
    losses.push(value);
  }
  stepsDone++;
  // m/(1 − β₁ᵗ) / √(v/(1 − β₂ᵗ)) with the corrections as two numbers, so that the update compiles once.
  const rates = np.array([LEARNING_RATE / (1 - 0.9 ** stepsDone), 1 / Math.sqrt(1 - 0.999 ** stepsDone)]);
  const updated: Tensor[][] = weights.map((weight, i) =>
    adamW(weight, firsts[i], seconds[i], gradients![i], rates.ref)
  );
  rates.dispose();
  [weights, firsts, seconds] = [0, 1, 2].map((part) => updated.map((tensors) => tensors[part]));
  let total = 0;
  for (const value of losses) total += (await value.data())[0];
  await weights[0].ref.data();
  return total;
}

await servePeer(
  {
    peer: `jax-js 0.1.25, ${device}`,
    parameters: weights.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    fingerprints: B * microBatches,
    tokens: B * T * microBatches,
  },
  step,
  { steps: Number(flags.steps), paced: flags.paced },
);
// The workers of the wasm device would keep the process alive.
Deno.exit(0);
