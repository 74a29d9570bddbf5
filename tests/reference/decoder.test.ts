import assert from "node:assert/strict";
import {
  assertClose,
  assertFinalParameter,
  assertGradient,
  assertMaxAbs,
  assertNear,
  batch,
  floats,
  generations,
  type Golden,
  GOLDEN_MODELS,
  keptIndices,
  loadGolden,
  maxAbs,
  relL2,
  trainBatches,
} from "../golden.ts";
import { Random } from "../random.ts";
import { bucket, type Distribution, logSoftmax } from "./cross_entropy.ts";
import { VARIANTS } from "../models/variants.ts";
import {
  type Example,
  forward,
  forwardTrace,
  generateGreedy,
  lossAndGradients,
  type SoftRow,
} from "./decoder.ts";
import { parameterShapes, randomWeights, type Weights, widenWeights } from "./decoder_shape.ts";
import { assertDerivative, dot } from "./finite_difference.ts";
import { float64 } from "./linear_algebra.ts";
import { adamw, average, clipFactor, globalNorm, zeroMoments } from "./optimizer.ts";
import { learningRateAt } from "./schedule.ts";

/** The goldens are float64 results rounded to float32, so off by up to 2⁻²⁴ of each element. */
function assertRounded(name: string, found: ArrayLike<number>, expected: ArrayLike<number>): void {
  assertClose(name, found, expected, { relative: 6e-8, absolute: 1e-13 * maxAbs(expected) });
}

function concatenate(parts: Float64Array[]): Float64Array {
  return Float64Array.from(parts.flatMap((part) => Array.from(part)));
}

for (const name of GOLDEN_MODELS) {
  const golden: Golden = loadGolden(name);
  const { config, golden: info } = golden;
  const weights = widenWeights(golden.weights);

  Deno.test(`${name}: parameters, hidden states and logits`, () => {
    const shapes = Array.from(golden.weights, ([parameter, { shape }]) => [parameter, shape]);
    assert.deepEqual([...parameterShapes(config)], shapes);

    const right = batch(golden, "right");
    assert.deepEqual(batch(golden, "left"), right);
    assert.deepEqual(trainBatches(golden)[0], right);
    const sequences = right.map(({ ids }) => ids);
    assertRounded("logits", concatenate(forward(config, weights, sequences)), floats(golden, "right.logits"));

    const trace = forwardTrace(config, weights, [sequences[0]]);
    assertRounded("embed", trace.embedding, floats(golden, "hidden.embed"));
    trace.blocks.forEach(({ y }, l) => assertRounded(`layer ${l}`, y, floats(golden, `hidden.layer${l}`)));
    assertRounded("norm", trace.norm, floats(golden, "hidden.norm"));
  });

  Deno.test(`${name}: loss and gradients`, () => {
    const { loss, gradients } = lossAndGradients(config, weights, batch(golden, "right"));
    assertNear("loss", loss, info.batches.right.loss, 1e-13);
    assertNear("norm", globalNorm(gradients.values()), info.grad_total_l2, 1e-12);
    assert.deepEqual([...gradients.keys()].sort(), [...info.train.parameter_order].sort());
    for (const [parameter, gradient] of gradients) {
      assertRounded(parameter, gradient, floats(golden, `grad/${parameter}`));
      assertGradient(golden, parameter, gradient);
    }
  });

  if (info.batches.long) {
    Deno.test(`${name}: a batch beyond the short rotary frequencies`, () => {
      const examples = batch(golden, "long");
      const logits = forward(config, weights, examples.map(({ ids }) => ids));
      assertRounded("logits", concatenate(logits), floats(golden, "long.logits"));
      const { loss, gradients } = lossAndGradients(config, weights, examples);
      assertNear("loss", loss, info.batches.long.loss, 1e-13);
      assert.equal(gradients.size, info.train.parameter_order.length);
      for (const [parameter, gradient] of gradients) {
        assertRounded(parameter, gradient, floats(golden, `long.grad/${parameter}`));
        assertGradient(golden, parameter, gradient, "long.grad");
      }
    });
  }

  Deno.test(`${name}: five training steps`, () => {
    const { train } = info;
    const parameters = new Map(Array.from(weights, ([parameter, data]) => [parameter, data.slice()]));
    const moments = new Map(
      Array.from(weights, ([parameter, data]) => [parameter, zeroMoments(data.length)]),
    );
    trainBatches(golden).forEach((examples, s) => {
      const { loss, gradients } = lossAndGradients(config, parameters, examples);
      const norm = globalNorm(gradients.values());
      const learningRate = learningRateAt(
        { kind: "linear", learningRate: train.lr_initial, totalSteps: train.steps },
        s,
      );
      assertNear(`loss ${s}`, loss, train.loss[s], 1e-10);
      assertNear(`norm ${s}`, norm, train.grad_norm[s], 1e-9);
      assertNear(`rate ${s}`, learningRate, train.lr[s], 1e-18);
      const factor = clipFactor(norm, train.max_grad_norm);
      for (const [parameter, p] of parameters) {
        adamw(p, gradients.get(parameter)!.map((g) => g * factor), moments.get(parameter)!, {
          learningRate,
          weightDecay: train.no_weight_decay.includes(parameter) ? 0 : train.weight_decay,
          step: s + 1,
          betas: train.betas,
          epsilon: train.eps,
        });
        average(p, weights.get(parameter)!, train.average_lambda);
      }
    });
    for (const [parameter, p] of parameters) {
      const final = floats(golden, `train.final/${parameter}`);
      const kept = keptIndices(golden, parameter);
      const at = (x: ArrayLike<number>) => Float64Array.from(kept, (i) => x[i]);
      assertClose(parameter, at(p), at(final), { relative: 6e-8, absolute: 1e-10 });
      assertFinalParameter(golden, parameter, p);
    }
  });

  Deno.test(`${name}: greedy generation`, () => {
    const [{ prompt }] = generations(golden);
    const [logits] = forward(config, weights, [prompt]);
    const last = logits.slice((prompt.length - 1) * (config.vocab_size as number));
    assertRounded("gen.logits", last, floats(golden, "gen.logits"));
    assertRounded("gen.probs", logSoftmax(last).map(Math.exp), floats(golden, "gen.probs"));
    for (const { prompt, tokens } of generations(golden)) {
      assert.deepEqual(generateGreedy(config, weights, prompt, tokens.length), tokens);
    }
  });
}

/** An odd-shaped decoder with every feature: grouped queries, window, scaled rope, tied head. */
const ODD = {
  model_type: "mistral",
  hidden_size: 5,
  intermediate_size: 7,
  vocab_size: 11,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 6,
  num_hidden_layers: 2,
  rms_norm_eps: 1e-5,
  rope_theta: 50,
  rope_scaling: { rope_type: "linear", factor: 2 },
  sliding_window: 3,
  tie_word_embeddings: true,
};

Deno.test("decoder with hard, soft and bucketed rows: gradients agree with finite differences", () => {
  const random = new Random(11);
  const weights = widenWeights(randomWeights(ODD, 12));
  const ids = [5, 1, 4].map((length) => random.integers(length, 0, 11));
  const examples = [
    { ids: ids[0], labels: [-100, -100, ids[0][2], -100, ids[0][4]] },
    { ids: ids[1], labels: [-100] },
    { ids: ids[2], labels: [-100, -100, -100, -100] },
  ];
  const softRows: SoftRow[] = [
    { sequence: 0, position: 1, weight: 0.7, target: { probabilities: random.distribution(11) } },
    { sequence: 1, position: 0, weight: 0.4, target: bucket(random.distribution(11), 3) },
    { sequence: 2, position: 3, weight: 1.3, target: bucket(random.distribution(11), 5) },
  ];
  const run = () => lossAndGradients(ODD, weights, examples, softRows);
  const { loss, crossEntropy, anchor, gradients } = run();
  assertNear("loss", loss, crossEntropy + anchor, 1e-15);
  assert.ok(crossEntropy > 0 && anchor > 0);
  for (const [parameter, gradient] of gradients) {
    // two layers with a norm over five numbers curve more than one op: the stencil's own error reaches 2e-9
    assertDerivative(parameter, gradient, weights.get(parameter)!, () => run().loss, 1e-8);
  }
});

for (const [name, config] of Object.entries(VARIANTS)) {
  Deno.test(`${name}: gradients agree with finite differences in a random direction`, () => {
    const random = new Random(17);
    const weights = widenWeights(randomWeights(config, 18));
    const examples = [5, 1, 3].map((length) => {
      const ids = random.integers(length, 0, 11);
      return { ids, labels: ids.map((id, t) => t === 1 ? -100 : id) };
    });
    const { gradients } = lossAndGradients(config, weights, examples);
    assert.deepEqual([...gradients.keys()].sort(), [...parameterShapes(config).keys()].sort());
    for (const [parameter, gradient] of gradients) {
      const weight = weights.get(parameter)!;
      const initial = weight.slice();
      // of length 0.1: the stencil's steps are a tenth and its error 1e-4 of that for a whole unit
      const direction = float64(random.normal(weight.length, 0.1 / Math.sqrt(weight.length)));
      const along = new Float64Array(1);
      const loss = () => {
        weight.set(initial.map((value, i) => value + along[0] * direction[i]));
        return lossOf(config, weights, examples);
      };
      assertDerivative(parameter, Float64Array.of(dot(gradient, direction)), along, loss);
      weight.set(initial);
    }
  });
}

Deno.test("longrope: one sequence beyond the original length changes the others of its batch", () => {
  const config = VARIANTS["phi3 with a partial longrope"];
  const weights = widenWeights(randomWeights(config, 19));
  const [short, atLimit, beyond] = [[3, 1, 4], [1, 5, 9, 2], [6, 5, 3, 5, 8]];
  const [alone] = forward(config, weights, [short]);
  const [beside] = forward(config, weights, [short, atLimit]);
  assert.deepEqual(beside, alone);
  const [rotatedLong] = forward(config, weights, [short, beyond]);
  assert.ok(relL2(rotatedLong, alone) > 1e-3);
  assert.deepEqual(forward(config, weights, [beyond, short])[1], rotatedLong);
});

Deno.test("the anchor against the model's own distributions is zero, loss and gradient, whole and bucketed", () => {
  const weights = widenWeights(randomWeights(ODD, 13));
  const ids = new Random(14).integers(6, 0, 11);
  const [logits] = forward(ODD, weights, [ids]);
  const own = (t: number) => logSoftmax(logits.subarray(t * 11, (t + 1) * 11)).map(Math.exp);
  const kinds: ((t: number) => Distribution)[] = [
    (t) => ({ probabilities: own(t) }),
    (t) => bucket(own(t), 4),
  ];
  for (const target of kinds) {
    const softRows = ids.map((_, position) => ({
      sequence: 0,
      position,
      weight: 0.5,
      target: target(position),
    }));
    const found = lossAndGradients(ODD, weights, [{ ids, labels: ids.map(() => -100) }], softRows);
    assertNear("loss", found.loss, 0, 1e-14);
    for (const [parameter, gradient] of found.gradients) {
      assertMaxAbs(parameter, gradient, new Float64Array(gradient.length), 1e-14);
    }
  }
});

Deno.test("the order of the examples changes nothing beyond rounding", () => {
  const weights = widenWeights(randomWeights(ODD, 15));
  const random = new Random(16);
  const examples = [3, 1, 6].map((length) => {
    const ids = random.integers(length, 0, 11);
    return { ids, labels: ids };
  });
  const one = lossAndGradients(ODD, weights, examples);
  const other = lossAndGradients(ODD, weights, [...examples].reverse());
  assertNear("loss", one.loss, other.loss, 1e-14);
  for (const [parameter, gradient] of one.gradients) {
    assert.ok(relL2(gradient, other.gradients.get(parameter)!) <= 1e-13, parameter);
  }
});

Deno.test("configs that the reference cannot honour are refused by field", () => {
  assert.throws(() => parameterShapes({ ...ODD, model_type: "gpt2" }), /model_type.*found gpt2/);
  assert.throws(() => parameterShapes({ ...ODD, model_type: "phi", qk_layernorm: true }), /qk_layernorm/);
  assert.throws(() => parameterShapes({ ...ODD, hidden_act: "relu" }), /found relu/);
  assert.throws(() => parameterShapes({ ...ODD, hidden_size: undefined }), /hidden_size/);
  assert.throws(() => parameterShapes({ ...ODD, rope_scaling: { rope_type: "ntk" } }), /ntk/);
});

/** The mean loss alone. */
function lossOf(config: Record<string, unknown>, weights: Weights, examples: Example[]): number {
  const V = config.vocab_size as number;
  const losses = forward(config, weights, examples.map(({ ids }) => ids)).flatMap((logits, b) =>
    examples[b].labels.flatMap((label, t) =>
      t === 0 || label === -100 ? [] : [-logSoftmax(logits.slice((t - 1) * V, t * V))[label]]
    )
  );
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}
