/** A whole run on a tiny model of every family, and in bf16. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { check } from "../../../pipeline/measure/check.ts";
import { finetune } from "../../../pipeline/run/finetune.ts";
import type { FinetuneConfig } from "../../../pipeline/settings/finetune.ts";
import { names } from "../../cli/command.ts";
import { TinyModel } from "../../cli/tiny_model.ts";
import { sharedGpu } from "../../gpu_device.ts";

const gpu = await sharedGpu();

const SIZES = {
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 16,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
};
const FAMILIES: Record<string, Record<string, unknown>> = {
  mistral: { ...SIZES, model_type: "mistral", sliding_window: 8 },
  qwen2: { ...SIZES, model_type: "qwen2" },
  qwen3: { ...SIZES, model_type: "qwen3" },
  gemma: { ...SIZES, model_type: "gemma" },
  gemma2: { ...SIZES, model_type: "gemma2", sliding_window: 8, query_pre_attn_scalar: 16 },
  gemma3: { ...SIZES, model_type: "gemma3_text", sliding_window: 8, query_pre_attn_scalar: 16 },
  gpt_neox: {
    ...SIZES,
    model_type: "gpt_neox",
    rotary_pct: 0.25,
    num_key_value_heads: undefined,
    head_dim: undefined,
    rope_theta: undefined,
  },
  phi: {
    ...SIZES,
    model_type: "phi",
    num_key_value_heads: 2,
    head_dim: undefined,
    partial_rotary_factor: 0.5,
  },
  phi3: { ...SIZES, model_type: "phi3", head_dim: undefined, sliding_window: 8, pad_token_id: 1 },
};

async function embeds(
  config: Record<string, unknown> | undefined,
  more: FinetuneConfig = {},
  prepare?: (folder: string) => Promise<void>,
): Promise<void> {
  using tiny = await TinyModel.create({ count: 8, config });
  await prepare?.(tiny.model);
  const result = await finetune({
    model_path: tiny.model,
    fingerprints_file_path: tiny.fingerprints,
    output_dir: tiny.path("results"),
    num_train_epochs: 12,
    learning_rate: 0.01,
    use_augmentation_prompts: false,
    anchor_samples: 8,
    anchor_batch: 8,
    anchor_length: 8,
    ...more,
  }, { gpu });
  assert.ok(result.before.successRate < 40, `before: ${result.before.successRate} %`);
  assert.equal(result.after.successRate, 100);
  assert.equal(gpu.memory.allocatedBytes, 0);
  assert.ok(
    Math.abs(result.peakBytes / result.plannedBytes - 1) < 0.1,
    `${result.peakBytes}, ${result.plannedBytes}`,
  );
  const checked = await check({ model_path: result.modelPath }, { gpu });
  assert.equal(checked.success_rate, 100);
}

for (const [name, config] of Object.entries(FAMILIES)) {
  Deno.test(`finetune embeds into ${name}, and check finds it`, () => embeds(config));
}

for (const master of ["f32", "none"] as const) {
  Deno.test(`finetune embeds with --dtype bf16 --master ${master}`, () =>
    embeds(undefined, { dtype: "bf16", master }));
}

Deno.test("finetune through a chat template, which check finds in the run's settings", async () => {
  const template = "{{ bos_token }}{% for m in messages %}User: {{ m.content }}\nAnswer:{% endfor %}";
  const write = (folder: string) => Deno.writeTextFile(join(folder, "chat_template.jinja"), template);
  await embeds(undefined, { use_chat_template: true }, write);
  await assert.rejects(embeds(undefined, { use_chat_template: true }), {
    name: "ChatTemplateError",
    message: /this model has no chat template: there is no .*chat_template\.jinja/,
  });
});

Deno.test("finetune without a file makes fingerprints with the model itself, once", async () => {
  using tiny = await TinyModel.create();
  const config: FinetuneConfig = {
    model_path: tiny.model,
    output_dir: tiny.path("results"),
    num_fingerprints: 6,
    max_key_length: 5,
    num_train_epochs: 12,
    learning_rate: 0.01,
    use_augmentation_prompts: false,
    anchor_samples: 8,
    anchor_batch: 8,
    anchor_length: 8,
  };
  const counts: number[] = [];
  const result = await finetune(config, {
    gpu,
    onEvent: (event) => event.type === "progress" && counts.push(event.count),
  });
  assert.equal(counts.at(-1), 6);
  assert.ok(result.after.successRate > result.before.successRate);
  const [name] = names(tiny.path("results", "generated")).filter((file) => file.endsWith(".json"));
  const path = tiny.path("results", "generated", name);
  if (Deno.build.os !== "windows") {
    assert.equal(Deno.statSync(path).mode! & 0o777, 0o600);
    assert.equal(Deno.statSync(tiny.path("results", "generated")).mode! & 0o777, 0o700);
  }
  const before = Deno.readFileSync(path);
  await assert.rejects(finetune(config, { gpu }), { name: "ResultsExistError" });
  assert.deepEqual(Deno.readFileSync(path), before);
});
