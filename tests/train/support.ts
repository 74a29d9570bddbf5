/** Small models on disk, and comparisons of what the engine computes with the float64 reference. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Gpu } from "../../engine/gpu/context.ts";
import type { Example } from "../../engine/model/examples.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import type { ModelOptions } from "../../engine/model/model.ts";
import { assertMaxAbs, assertRelL2, maxAbs, maxAbsDiff } from "../compare.ts";
import { Random } from "../random.ts";
import { randomWeights, widenWeights } from "../reference/decoder_shape.ts";
import { encodeSafetensors } from "../safetensors.ts";

/** A config.json. */
export type Config = Record<string, unknown>;

/** A Llama of one or two thousand parameters: grouped queries, two blocks, every size odd where it may be. */
export const TINY: Config = {
  model_type: "llama",
  hidden_size: 24,
  intermediate_size: 38,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 6,
  vocab_size: 53,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: false,
  max_position_embeddings: 128,
};

/** A folder that `using` removes. */
export interface Folder {
  dir: string;
  [Symbol.dispose](): void;
}

/** A new folder. */
export function folder(): Folder {
  const dir = Deno.makeTempDirSync({ prefix: "whorl_train_" });
  return { dir, [Symbol.dispose]: () => Deno.removeSync(dir, { recursive: true }) };
}

/** A model folder with random float32 weights, and those weights for the reference. */
export interface ModelFolder extends Folder {
  config: Config;
  weights: Map<string, Float64Array<ArrayBuffer>>;
}

/** Writes a model folder; `change` may edit the weights first. */
export function modelFolder(
  config: Config,
  seed = 1,
  change?: (name: string, data: Float32Array) => void,
): ModelFolder {
  const out = folder();
  const weights = randomWeights(config, seed);
  for (const [name, { data }] of weights) change?.(name, data);
  Deno.writeTextFileSync(join(out.dir, "config.json"), JSON.stringify(config));
  Deno.writeFileSync(join(out.dir, "model.safetensors"), encodeSafetensors(weights));
  return { ...out, config, weights: widenWeights(weights) };
}

/** Runs `body` with the folder's model. */
export async function withModel<T>(
  gpu: Gpu,
  { dir }: { dir: string },
  body: (model: LanguageModel) => Promise<T>,
  options?: ModelOptions,
): Promise<T> {
  using model = await LanguageModel.load(gpu, dir, options);
  return await body(model);
}

/** Random examples of these lengths; each token after the first is supervised with probability `share`. */
export function randomExamples(
  lengths: readonly number[],
  vocabulary: number,
  seed: number,
  share = 0.4,
): Example[] {
  const random = new Random(seed);
  return lengths.map((length) => {
    const ids = random.integers(length, 0, vocabulary);
    return { ids, labels: ids.map((id, t) => t > 0 && random.next() < share ? id : -100) };
  });
}

/**
 * Allowed differences from float64: those of the goldens, which are about ten times the noise of float32 there
 * (tests/golden/FORMAT.md, section 7; the smallest value among the four models for gradients).
 */
export const TOLERANCE = { logits: 9e-5, loss: 2e-5, gradientOverMax: 2e-5, gradientRelL2: 2e-5 };

/** Asserts that all gradients are there and near the expected ones, by both measures of the goldens. */
export function assertGradients(
  found: ReadonlyMap<string, ArrayLike<number>>,
  expected: ReadonlyMap<string, ArrayLike<number>>,
  { gradientOverMax, gradientRelL2 }: { gradientOverMax: number; gradientRelL2: number } = TOLERANCE,
): void {
  assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort());
  for (const [name, gradient] of expected) {
    assertMaxAbs(`gradient of ${name}`, found.get(name)!, gradient, gradientOverMax * maxAbs(gradient));
    assertRelL2(`gradient of ${name}`, found.get(name)!, gradient, gradientRelL2);
  }
}

/** Weights moved by the size of one f32 rounding, up or down. */
export function oneRounding(weights: ReadonlyMap<string, Float64Array>): Map<string, Float64Array> {
  const random = new Random(1);
  return new Map(Array.from(weights, ([name, data]) => {
    return [name, data.map((x) => x * (1 + (random.next() < 0.5 ? -1 : 1) * 2 ** -24))];
  }));
}

/**
 * Asserts gradients of a badly conditioned model. What one rounding of each weight does to a gradient (`disturbed`, see
 * {@link oneRounding}) is the measure of its noise; there are some tens of roundings in a row.
 */
export function assertNoisyGradients(
  found: ReadonlyMap<string, ArrayLike<number>>,
  expected: ReadonlyMap<string, ArrayLike<number>>,
  disturbed: ReadonlyMap<string, ArrayLike<number>>,
): void {
  assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort());
  for (const [name, gradient] of expected) {
    const noise = maxAbsDiff(disturbed.get(name)!, gradient);
    const tolerance = Math.max(TOLERANCE.gradientOverMax * maxAbs(gradient), 30 * noise);
    assertMaxAbs(`gradient of ${name}`, found.get(name)!, gradient, tolerance);
  }
}

/** Arrays end to end. */
export function concat(arrays: readonly ArrayLike<number>[]): Float64Array {
  const out = new Float64Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    out.set(array, at);
    at += array.length;
  }
  return out;
}

/** All parameters of a model. */
export async function parametersOf(model: LanguageModel): Promise<Map<string, Float32Array>> {
  const out = new Map<string, Float32Array>();
  for (const name of model.parameterNames()) out.set(name, await model.parameter(name));
  return out;
}
