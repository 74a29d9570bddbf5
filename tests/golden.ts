/** Loader for the golden numbers in tests/golden (conventions: tests/golden/FORMAT.md). */
import assert from "node:assert/strict";
import { join } from "node:path";
import { assertMaxAbs, assertRelL2, maxAbs } from "./compare.ts";
import { parseSafetensors, type RawTensor, widen } from "./safetensors.ts";

export * from "./compare.ts";

/** Names of the model goldens that are present. */
export const GOLDEN_MODELS = [
  ...[
    "llama",
    "llama_untied",
    "mistral",
    "mistral_swa",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gpt_neox",
    "phi",
  ],
  ...["phi3", "phi3_longrope"],
];

/** One golden tensor. */
type GoldenTensor =
  | { dtype: "F32"; shape: number[]; data: Float32Array<ArrayBuffer> }
  | { dtype: "I32"; shape: number[]; data: Int32Array<ArrayBuffer> };

/** Keys of FORMAT.md section 7. */
interface Tolerances {
  logits_abs: number;
  loss_abs: number;
  grad_abs_over_tensor_max: number;
  grad_rel_l2: number;
  probs_abs: number;
  train_loss_abs: number;
  train_grad_norm_rel: number;
  final_abs_unskipped: number;
  final_update_rel_l2_unskipped: number;
}

/** golden.json of a model, as far as tests use it. */
interface GoldenInfo {
  name: string;
  model_type: string;
  tied: boolean;
  weights_dtype: "BF16" | "F16" | "F32";
  /** Elements of all parameters, a tied matrix once. */
  parameters: number;
  batches: Record<
    string,
    { B: number; T: number; real_positions: number; supervised: number; loss: number }
  >;
  grad_total_l2: number;
  train: {
    steps: number;
    lr_initial: number;
    betas: [number, number];
    eps: number;
    weight_decay: number;
    max_grad_norm: number;
    average_lambda: number;
    lr: number[];
    loss: number[];
    grad_norm: number[];
    supervised: number[];
    parameter_order: string[];
    no_weight_decay: string[];
  };
  generation: { prompts: number[][]; tokens: number[][]; min_margin: number };
  rope_attention_scaling: number;
  tolerances: Tolerances;
  tolerances_gpu: Tolerances;
}

/** A model golden: `weights` holds exactly the parameters, in `train.parameter_order`, widened to float32. */
export interface Golden {
  name: string;
  dir: string;
  config: Record<string, unknown>;
  golden: GoldenInfo;
  tensors: Map<string, GoldenTensor>;
  weights: Map<string, { shape: number[]; data: Float32Array<ArrayBuffer> }>;
}

/** A case of the optimizer golden (FORMAT.md section 8). */
interface OptimizerCase {
  lr_initial: number;
  weight_decay: number[];
  max_grad_norm: number | null;
  average_lambda: number;
  warmup_steps: number | null;
  eps: number;
  betas: [number, number];
  lr: number[];
  grad_norm: number[];
}

/** A real sequence: ids, and labels that are −100 where not supervised and not shifted. */
interface GoldenExample {
  ids: number[];
  labels: number[];
}

/** Loads a model golden by its folder's name. */
export function loadGolden(name: string): Golden {
  const dir = goldenDir(name);
  const golden: GoldenInfo = readJson(dir, "golden.json");
  const checkpoint = readTensors(dir, "model.safetensors");
  const weights: Golden["weights"] = new Map();
  for (const parameter of golden.train.parameter_order) {
    const tensor = checkpoint.get(parameter);
    if (!tensor) throw new RangeError(`${name}: ${parameter} is missing in model.safetensors`);
    weights.set(parameter, { shape: tensor.shape, data: widen(parameter, tensor) });
  }
  return { name, dir, config: readJson(dir, "config.json"), golden, tensors: goldenTensors(dir), weights };
}

/** Loads the optimizer golden. */
export function loadOptimizerGolden(): {
  cases: Record<string, OptimizerCase>;
  tensors: Map<string, GoldenTensor>;
} {
  const dir = goldenDir("optimizer");
  return {
    cases: readJson<{ cases: Record<string, OptimizerCase> }>(dir, "golden.json").cases,
    tensors: goldenTensors(dir),
  };
}

/** The F32 golden tensor of that name; RangeError when it is missing or of another type. */
export function floats(
  golden: { tensors: Map<string, GoldenTensor> },
  name: string,
): Float32Array<ArrayBuffer> {
  const tensor = golden.tensors.get(name);
  if (tensor?.dtype !== "F32") throw new RangeError(`${name}: expected F32, found ${tensor?.dtype}`);
  return tensor.data;
}

/** The I32 golden tensor of that name; RangeError when it is missing or of another type. */
export function integers(
  golden: { tensors: Map<string, GoldenTensor> },
  name: string,
): Int32Array<ArrayBuffer> {
  const tensor = golden.tensors.get(name);
  if (tensor?.dtype !== "I32") throw new RangeError(`${name}: expected I32, found ${tensor?.dtype}`);
  return tensor.data;
}

/** The real sequences of a batch in row order, padding stripped by the mask. Only phi3_longrope has a `long` one. */
export function batch(golden: Golden, prefix: "right" | "left" | "long"): GoldenExample[] {
  const [rows, columns] = golden.tensors.get(`${prefix}.input_ids`)!.shape;
  return stripPadding(golden, prefix, 0, rows, columns);
}

/** The batch of every training step, padding stripped. */
export function trainBatches(golden: Golden): GoldenExample[][] {
  const [steps, rows, columns] = golden.tensors.get("train.input_ids")!.shape;
  return Array.from({ length: steps }, (_, s) => stripPadding(golden, "train", s * rows, rows, columns));
}

/** The three prompts and their eight greedy tokens. */
export function generations(golden: Golden): { prompt: number[]; tokens: number[] }[] {
  const { prompts, tokens } = golden.golden.generation;
  return prompts.map((prompt, i) => ({ prompt, tokens: tokens[i] }));
}

/** Asserts a gradient against `<prefix>/<parameter>` by both measures of FORMAT.md section 7. */
export function assertGradient(
  golden: Golden,
  parameter: string,
  found: ArrayLike<number>,
  prefix: "grad" | "long.grad" = "grad",
  tolerances: Tolerances = golden.golden.tolerances,
): void {
  const expected = floats(golden, `${prefix}/${parameter}`);
  const name = `${golden.name} ${prefix}/${parameter}`;
  assertMaxAbs(name, found, expected, tolerances.grad_abs_over_tensor_max * maxAbs(expected));
  assertRelL2(name, found, expected, tolerances.grad_rel_l2);
}

/** Asserts a parameter after the five training steps by both measures of section 7, `train.skip` left out. */
export function assertFinalParameter(
  golden: Golden,
  parameter: string,
  found: ArrayLike<number>,
  tolerances: Tolerances = golden.golden.tolerances,
): void {
  const expected = floats(golden, `train.final/${parameter}`);
  const initial = golden.weights.get(parameter)!.data;
  const name = `${golden.name} train.final/${parameter}`;
  assert.equal(found.length, expected.length, `${name}: length`);
  const kept = keptIndices(golden, parameter);
  const at = (x: ArrayLike<number>) => Float64Array.from(kept, (i) => x[i]);
  const [keptFound, keptExpected, keptInitial] = [at(found), at(expected), at(initial)];
  assertMaxAbs(`${name} (unskipped)`, keptFound, keptExpected, tolerances.final_abs_unskipped);
  const update = (x: Float64Array) => x.map((value, i) => value - keptInitial[i]);
  assertRelL2(
    `${name} update (unskipped)`,
    update(keptFound),
    update(keptExpected),
    tolerances.final_update_rel_l2_unskipped,
  );
}

/** Flat indices of a parameter that `train.skip` does not leave out. */
export function keptIndices(golden: Golden, parameter: string): number[] {
  const skipped = new Set(integers(golden, `train.skip/${parameter}`));
  const kept: number[] = [];
  for (let i = 0; i < golden.weights.get(parameter)!.data.length; i++) if (!skipped.has(i)) kept.push(i);
  return kept;
}

function stripPadding(
  golden: Golden,
  prefix: string,
  firstRow: number,
  rows: number,
  columns: number,
): GoldenExample[] {
  const ids = integers(golden, `${prefix}.input_ids`);
  const labels = integers(golden, `${prefix}.labels`);
  const mask = integers(golden, `${prefix}.attention_mask`);
  return Array.from({ length: rows }, (_, row) => {
    const example: GoldenExample = { ids: [], labels: [] };
    for (let i = (firstRow + row) * columns; i < (firstRow + row + 1) * columns; i++) {
      if (mask[i] !== 1) continue;
      example.ids.push(ids[i]);
      example.labels.push(labels[i]);
    }
    return example;
  });
}

function goldenDir(name: string): string {
  return join(import.meta.dirname!, "golden", name);
}

function readJson<T>(dir: string, file: string): T {
  return JSON.parse(Deno.readTextFileSync(join(dir, file)));
}

function readTensors(dir: string, file: string): Map<string, RawTensor> {
  return parseSafetensors(Deno.readFileSync(join(dir, file)));
}

function goldenTensors(dir: string): Map<string, GoldenTensor> {
  const tensors = new Map<string, GoldenTensor>();
  for (const [name, { dtype, shape, bytes }] of readTensors(dir, "golden.safetensors")) {
    if (dtype === "F32") tensors.set(name, { dtype, shape, data: new Float32Array(bytes.buffer) });
    else if (dtype === "I32") tensors.set(name, { dtype, shape, data: new Int32Array(bytes.buffer) });
    else throw new TypeError(`${dir}: ${name}: expected F32 or I32, found ${dtype}`);
  }
  return tensors;
}
