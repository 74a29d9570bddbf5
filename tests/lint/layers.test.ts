import assert from "node:assert/strict";
import plugin from "./layers.ts";

/** The rules that fire on a snippet, in order. */
function fired(file: string, source: string): string[] {
  return Deno.lint.runPlugin(plugin, file, source).map((diagnostic) => diagnostic.id.replace("layers/", ""));
}

const refused: [rule: string, file: string, source: string][] = [
  ["imports", "engine/gpu/pool.ts", `import { Tensor } from "../tensor/tensor.ts";`],
  ["imports", "engine/gpu/pool.ts", `import type { Tensor } from "../tensor/tensor.ts";`],
  ["imports", "engine/gpu/pool.ts", `type T = import("../tensor/tensor.ts").Tensor;`],
  ["imports", "engine/tensor/tensor.ts", `export { matmul } from "../ops/matmul.ts";`],
  ["imports", "engine/tensor/tensor.ts", `export * from "../ops/matmul.ts";`],
  ["imports", "engine/ops/norm.ts", `const step = await import("../train/step.ts");`],
  ["imports", "engine/ops/norm.ts", `import { llama } from "../models/llama.ts";`],
  ["imports", "engine/train/step.ts", `import { generate } from "../infer/generate.ts";`],
  ["imports", "engine/model/pass.ts", `import { Trainer } from "../train/trainer.ts";`],
  ["imports", "engine/infer/generate.ts", `import { Trainer } from "../train/trainer.ts";`],
  ["imports", "engine/train/step.ts", `import { finetune } from "../../pipeline/run/finetune.ts";`],
  ["imports", "engine/train/step.ts", `import { openGpu } from "../../mod.ts";`],
  ["imports", "engine/train/step.ts", `import { openGpu } from "@whorl/whorl";`],
  ["imports", "engine/train/step.ts", `import { openGpu } from "@whorl/whorl/engine";`],
  ["imports", "engine/train/step.ts", `import { Gpu } from "../mod.ts";`],
  ["imports", "engine/mod.ts", `export { finetune } from "../pipeline/run/finetune.ts";`],
  ["imports", "engine/infer/generate.ts", `import "../../cli.ts";`],
  ["imports", "engine/models/llama.ts", `import type { Tensor } from "../tensor/tensor.ts";`],
  ["imports", "engine/models/llama.ts", `import { z } from "zod";`],
  ["imports", "engine/io/safetensors.ts", `import { Tensor } from "../tensor/tensor.ts";`],
  ["imports", "engine/io/safetensors.ts", `import { Pool } from "../gpu/pool.ts";`],
  ["imports", "engine/parallel/mpi.ts", `import type { Dtype } from "../tensor/dtype.ts";`],
  ["imports", "engine/train/step.ts", `import process from "node:process";`],
  ["imports", "engine/helpers.ts", `import { Pool } from "./gpu/pool.ts";`],
  ["imports", "pipeline/measure/check.ts", `import { openGpu } from "../../mod.ts";`],
  ["imports", "pipeline/measure/check.ts", `import { reference } from "../../tests/reference/norm.ts";`],
  ["imports", "pipeline/settings/shared.ts", `import { openGpu } from "../gpu/open.ts";`],
  ["imports", "pipeline/hub/hub.ts", `import type { Tokenizer } from "../tokenizer/tokenizer.ts";`],
  ["imports", "pipeline/measure/check.ts", `import { runHash } from "../run/results.ts";`],
  ["imports", "pipeline/run/results.ts", `import type { Row } from "../report/report.ts";`],
  ["imports", "pipeline/helpers.ts", `import { readFile } from "./hub/file.ts";`],
  ["imports", "pipeline/run/finetune.ts", `import { Gpu } from "../../engine/mod.ts";`],
  ["imports", "pipeline/run/finetune.ts", `import { check } from "../mod.ts";`],
  ["imports", "pipeline/fingerprints/ids.ts", `import { Model } from "../model/model.ts";`],
  ["imports", "pipeline/model/model.ts", `import { readFile } from "../hub/file.ts";`],
  ["imports", "mod.ts", `import "./cli.ts";`],
  ["imports", "mod.ts", `export { finetune } from "./pipeline/run/finetune.ts";`],
  ["gpu-names", "engine/ops/norm.ts", `export function f(device: GPUDevice) { return device; }`],
  ["gpu-names", "engine/tensor/tensor.ts", `const usage = GPUBufferUsage.STORAGE;`],
  ["gpu-names", "engine/train/step.ts", `const adapter = await navigator.gpu.requestAdapter();`],
  ["gpu-names", "engine/train/step.ts", `const { gpu } = navigator;`],
  [
    "gpu-names",
    "pipeline/run/finetune.ts",
    `const adapter = await globalThis.navigator?.gpu.requestAdapter();`,
  ],
  ["quiet", "engine/train/step.ts", `console.log("loss");`],
  ["quiet", "engine/train/step.ts", `globalThis.console.error("loss");`],
  ["quiet", "engine/gpu/context.ts", `const backend = Deno.env.get("DENO_WEBGPU_BACKEND");`],
  ["quiet", "engine/gpu/context.ts", `const backend = Deno["env"];`],
  ["quiet", "engine/gpu/context.ts", `const { env } = Deno;`],
  ["quiet", "engine/gpu/context.ts", `const flags = Deno.args;`],
  ["quiet", "engine/gpu/context.ts", `Deno.exit(1);`],
  ["quiet", "engine/gpu/context.ts", `process.exit(1);`],
  ["quiet", "engine/gpu/context.ts", `if (confirm("go on?")) alert(prompt("name"));`],
  ["quiet", "pipeline/run/finetune.ts", `console.log("loss");`],
  ["quiet", "pipeline/run/finetune.ts", `Deno.exit(1);`],
  ["host", "pipeline/gpu/open.ts", `Deno.env.set("DENO_WEBGPU_BACKEND", "vulkan");`],
  ["host", "pipeline/gpu/open.ts", `globalThis.Deno.env.delete("A");`],
  ["host", "pipeline/gpu/dawn.ts", `globalThis.setImmediate = throttled;`],
  ["host", "engine/gpu/context.ts", `globalThis["GPUBufferUsage2"] = {};`],
  ["quiet", "mod.ts", `await Deno.stdout.write(new Uint8Array(1));`],
];

for (const tested of new Set(refused.map(([rule]) => rule))) {
  Deno.test(`lint layers/${tested} fires`, () => {
    for (const [rule, file, source] of refused) {
      if (rule !== tested) continue;
      assert.deepEqual([...new Set(fired(file, source))], [rule], `${file}: ${source}`);
    }
  });
}

const allowed: [file: string, source: string][] = [
  ["engine/gpu/pool.ts", `import { Recorder } from "./recorder.ts"; const d: GPUDevice | null = null;`],
  ["engine/gpu/context.ts", `const adapter = await navigator.gpu.requestAdapter();`],
  ["engine/tensor/tensor.ts", `import { Pool } from "../gpu/pool.ts"; import { join } from "node:path";`],
  ["engine/ops/norm.ts", `import wgsl from "../../shaders/norm.wgsl" with { type: "text" };`],
  ["engine/ops/rope.ts", `import type { Rope } from "../models/spec.ts";`],
  [
    "engine/train/step.ts",
    `import { norm } from "../ops/norm.ts"; import { open } from "../io/model_dir.ts";`,
  ],
  ["engine/train/step.ts", `import { llama } from "../models/llama.ts";`],
  ["engine/infer/generate.ts", `import { Model } from "../model/model.ts";`],
  ["engine/models/llama.ts", `import type { ModelSpec } from "./spec.ts";`],
  ["engine/io/safetensors.ts", `import { Dtype } from "../tensor/dtype.ts"; import "./model_dir.ts";`],
  ["pipeline/hub/hub.ts", `import { downloadFile } from "@huggingface/hub";`],
  [
    "pipeline/run/finetune.ts",
    `import { check } from "../measure/check.ts"; import "../settings/finetune.ts";`,
  ],
  ["engine/parallel/mpi.ts", `import { Collective } from "./collective.ts";`],
  ["engine/train/step.ts", `const gpu = open(); const consoleWidth = gpu.env; spec.process(gpu.args);`],
  [
    "pipeline/run/finetune.ts",
    `import { Trainer } from "../../engine/train/trainer.ts"; import "./check.ts";`,
  ],
  [
    "pipeline/prompts/prompts.ts",
    `import train from "../../assets/prompts/train.json" with { type: "json" };`,
  ],
  ["tools/demo_model/build.ts", `console.log("built"); Deno.exit(0);`],
  ["cli/host.ts", `Deno.env.set("A", "b"); globalThis.setImmediate = throttled;`],
  ["pipeline/gpu/open.ts", `const { x } = y; gpu.onDispatch = x; const value = Deno.env.get("A");`],
  ["mod.ts", `export * from "./engine/mod.ts"; export { finetune } from "./pipeline/mod.ts";`],
  ["engine/mod.ts", `export { Trainer } from "./train/trainer.ts";`],
  [
    "pipeline/mod.ts",
    `export { check } from "./measure/check.ts"; export type { A } from "../engine/train/plan.ts";`,
  ],
  ["pipeline/model/model.ts", `import { Tokenizer } from "../tokenizer/tokenizer.ts";`],
  ["cli.ts", `import { finetune } from "./mod.ts"; console.log(finetune, Deno.args); Deno.exit(1);`],
  ["tests/ops/norm.test.ts", `import wgsl from "../../shaders/norm.wgsl" with { type: "text" };`],
  ["bench/main.ts", `import { Pool } from "../engine/gpu/pool.ts"; console.log(navigator.gpu, Pool);`],
];

Deno.test("lint layers: nothing fires on what the layers allow", () => {
  for (const [file, source] of allowed) assert.deepEqual(fired(file, source), [], `${file}: ${source}`);
});

Deno.test("lint layers/wgsl: only engine/ops imports shaders", () => {
  const source = `import wgsl from "../../shaders/norm.wgsl" with { type: "text" };`;
  assert.deepEqual(fired("engine/train/step.ts", source), ["imports", "wgsl"]);
  assert.deepEqual(fired("engine/gpu/kernel.ts", source), ["imports", "wgsl"]);
});

Deno.test("lint layers: a message names the layer, what it may import and what was found", () => {
  const source = `import { step } from "../train/step.ts";`;
  const [diagnostic] = Deno.lint.runPlugin(plugin, "engine/tensor/tensor.ts", source);
  assert.equal(
    diagnostic.message,
    "engine/tensor may import itself, engine/gpu; found engine/train/step.ts",
  );
});
