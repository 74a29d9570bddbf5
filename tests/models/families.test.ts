import assert from "node:assert/strict";
import { modelSpec } from "../../engine/models/families.ts";
import {
  blockName,
  type LinearNames,
  type ModelSpec,
  parameterSpecs,
  type RopeSpec,
} from "../../engine/models/spec.ts";
import { assertClose, floats, GOLDEN_MODELS, loadGolden } from "../golden.ts";
import { type DecoderShape, decoderShape, parameterShapes } from "../reference/decoder_shape.ts";
import type { Module } from "../reference/families.ts";
import { CHECKPOINTS } from "./checkpoints.ts";
import { VARIANTS } from "./variants.ts";

/** Names of a block's parameters by what they are for. */
function roles({ tensors }: ModelSpec): Record<string, LinearNames | undefined> {
  const { qkv, headNorms, mlpIn, inputNorm, mlpNorm, attentionOutputNorm, mlpOutputNorm, o, down } = tensors;
  return {
    inputNorm,
    mlpNorm,
    attentionOutputNorm,
    mlpOutputNorm,
    o,
    down,
    ...qkv.kind === "split" ? { q: qkv.q, k: qkv.k, v: qkv.v } : { qkv: qkv.all },
    ...headNorms && { qNorm: headNorms.q, kNorm: headNorms.k },
    ...mlpIn.kind === "split" && { gate: mlpIn.gate, up: mlpIn.up },
    ...mlpIn.kind === "stacked" && { gateUp: mlpIn.all },
    ...mlpIn.kind === "single" && { up: mlpIn.up },
  };
}

function assertLikeReference(name: string, spec: ModelSpec, shape: DecoderShape): void {
  const { modules } = shape.layers[0];
  assert.deepEqual(
    {
      C: spec.width,
      F: spec.feedForward,
      V: spec.vocabulary,
      H: spec.heads,
      K: spec.kvHeads,
      D: spec.headDim,
      norm: spec.norm,
      activation: spec.activation,
      parallel: spec.parallel,
      attentionCap: spec.attentionCap,
      logitCap: spec.logitCap,
      tied: spec.tied,
      gated: spec.gated,
      embeddingScale: spec.embeddingScale,
      windows: spec.windows,
    },
    {
      C: shape.C,
      F: shape.F,
      V: shape.V,
      H: shape.H,
      K: shape.K,
      D: shape.D,
      norm: shape.norm,
      activation: shape.activation,
      parallel: shape.parallel,
      attentionCap: shape.attentionCap,
      logitCap: shape.logitCap,
      tied: shape.tied,
      gated: !!(modules.gate ?? modules.gateUp),
      embeddingScale: shape.embeddingScale,
      windows: shape.layers.map(({ window }) => window),
    },
    name,
  );
  // Both are float64; only the order of operations may differ.
  const near = { relative: 1e-15 };
  assertClose(`${name}: scale`, [spec.attentionScale], [shape.scale], near);
  assert.equal(spec.ropeOfBlock.length, spec.layers);
  shape.layers.forEach(({ modules, rope }, layer) => {
    const found: RopeSpec = spec.ropes[spec.ropeOfBlock[layer]];
    assertClose(`${name}: rope of ${layer}`, found.frequencies, rope.frequencies, near);
    assertClose(`${name}: rope scale of ${layer}`, [found.scale], [rope.scale], near);
    assert.equal(found.long?.after, rope.long?.after);
    assertClose(`${name}: long`, found.long?.frequencies ?? [], rope.long?.frequencies ?? [], near);
    const names = (of: Record<string, LinearNames | undefined>) =>
      Object.entries(of).flatMap(([role, linear]) =>
        linear
          ? [`${role} ${blockName(linear.weight, layer)} ${linear.bias && blockName(linear.bias, layer)}`]
          : []
      ).sort();
    assert.deepEqual(
      names(roles(spec)),
      names(Object.fromEntries(
        Object.entries(modules).map(([role, module]) => [role, linearNames(module)]),
      )),
    );
  });
  const { qkv, embedding, finalNorm, head } = spec.tensors;
  if (qkv.kind !== "split") assert.equal(qkv.kind, shape.fused);
  assert.equal(embedding, `${shape.embedding.name}.weight`);
  assert.deepEqual({ bias: undefined, ...finalNorm }, linearNames(shape.finalNorm));
  assert.deepEqual({ bias: undefined, ...head }, linearNames(shape.head));
}

function linearNames({ name, biased }: Module): LinearNames {
  return { weight: `${name}.weight`, bias: biased ? `${name}.bias` : undefined };
}

Deno.test("modelSpec: the goldens' configs, as the reference reads them, with the goldens' names", () => {
  for (const name of GOLDEN_MODELS) {
    const loaded = loadGolden(name);
    const { config, golden } = loaded;
    const spec = modelSpec(config);
    assertLikeReference(name, spec, decoderShape(config));
    const parameters = parameterSpecs(spec);
    assert.deepEqual(
      parameters.map((parameter) => parameter.name).sort(),
      golden.train.parameter_order.toSorted(),
    );
    for (const { name, shape } of parameters) assert.deepEqual(shape, loaded.weights.get(name)!.shape, name);
    assert.deepEqual(
      parameters.filter(({ decays }) => !decays).map(({ name }) => name).sort(),
      golden.train.no_weight_decay.toSorted(),
    );
    assert.equal(spec.tied, golden.tied);
    assert.equal(spec.ropes.length, 1);
    const [{ frequencies, scale, long }] = spec.ropes;
    const asFloats = (x: readonly number[]) => Float32Array.from(x);
    assert.deepEqual(asFloats(frequencies), floats(loaded, "rope.inv_freq"), name);
    if (long) assert.deepEqual(asFloats(long.frequencies), floats(loaded, "rope.inv_freq_long"), name);
    assert.equal(!!long, name === "phi3_longrope");
    assertClose(name, [scale], [golden.rope_attention_scaling], { relative: 1e-15 });
  }
});

Deno.test("modelSpec: what the goldens don't have, as the reference reads it", () => {
  for (const [name, config] of Object.entries(VARIANTS)) {
    const spec = modelSpec(config);
    assertLikeReference(name, spec, decoderShape(config));
    assert.deepEqual(
      Object.fromEntries(parameterSpecs(spec).map(({ name, shape }) => [name, shape])),
      Object.fromEntries(parameterShapes(config)),
      name,
    );
  }
});

Deno.test("modelSpec: published checkpoints have as many parameters as published", () => {
  for (const [name, { config, parameters }] of Object.entries(CHECKPOINTS)) {
    const sizes = parameterSpecs(modelSpec(config)).map(({ shape }) => shape.reduce((a, b) => a * b));
    assert.equal(sizes.reduce((a, b) => a + b), parameters, name);
  }
});

Deno.test("modelSpec: published checkpoints, by hand", () => {
  const of = (name: keyof typeof CHECKPOINTS) => modelSpec(CHECKPOINTS[name].config);
  const layers = <T>(count: number, value: (layer: number) => T) =>
    Array.from({ length: count }, (_, layer) => value(layer));

  assert.deepEqual(of("Qwen2.5-0.5B").windows, layers(24, () => null));
  assert.equal(of("Mistral-7B-v0.3").windows[0], null);
  assert.equal(of("Llama-3.2-1B").attentionScale, 1 / 8);
  assert.equal(of("Qwen3-0.6B").headDim, 128);

  const gemma = of("gemma-2b");
  assert.equal(gemma.activation, "gelu_tanh");
  assert.equal(gemma.embeddingScale, Math.sqrt(2048));
  assert.deepEqual(gemma.norm, { kind: "rms", epsilon: 1e-6, offset: 1 });
  assert.ok(gemma.tied);

  const gemma2 = of("gemma-2-2b");
  assert.deepEqual(gemma2.windows, layers(26, (layer) => layer % 2 ? null : 4096));
  assert.deepEqual([gemma2.attentionScale, gemma2.attentionCap, gemma2.logitCap], [1 / 16, 50, 30]);
  assert.equal(gemma2.ropes.length, 1);

  const gemma3 = of("gemma-3-1b-it");
  const isGlobal = (layer: number) => [5, 11, 17, 23].includes(layer);
  assert.deepEqual(gemma3.windows, layers(26, (layer) => isGlobal(layer) ? null : 512));
  assert.deepEqual(gemma3.ropeOfBlock, layers(26, (layer) => isGlobal(layer) ? 0 : 1));
  const middle = gemma3.ropes.map(({ frequencies }) => frequencies[64]);
  assertClose("gemma3 rope", middle, [1e-3, 1e-2], { relative: 1e-15 });
  assert.deepEqual([gemma3.attentionCap, gemma3.logitCap], [0, 0]);

  const pythia = of("pythia-160m");
  assert.deepEqual([pythia.parallel, pythia.gated, pythia.activation], [true, false, "gelu"]);
  assert.equal(pythia.ropes[0].frequencies.length, 8);

  const phi2 = of("phi-2");
  assert.deepEqual([phi2.parallel, phi2.gated, phi2.activation], [true, false, "gelu_tanh"]);
  assert.equal(phi2.ropes[0].frequencies.length, 16);
  assert.equal(phi2.tensors.mlpNorm, undefined);

  assert.deepEqual(of("Phi-3-mini-4k-instruct").windows, layers(32, () => 2047));
  assert.equal(of("Phi-3-mini-4k-instruct").ropes[0].scale, 1);
  const [long] = of("Phi-3-mini-128k-instruct").ropes;
  assertClose("128k", [long.scale], [Math.sqrt(1 + 5 / 12)], { relative: 1e-15 });
  assert.equal(long.long!.after, 4096);
  assertClose("long", [long.long!.frequencies[47]], [long.frequencies[47] * 3 / 64], { relative: 1e-15 });
  const phi4 = of("Phi-4-mini-instruct");
  assert.equal(phi4.headDim, 128);
  assert.equal(phi4.ropes[0].frequencies.length, 48);
  assertClose("phi4 rope", [phi4.ropes[0].frequencies[24]], [1e-2], { relative: 1e-15 });
});
