import { z } from "zod";
import { flag } from "./flag.ts";
import { MODEL_FAMILIES } from "./model_families.ts";

/** WebGPU implementations that a run can choose from: Deno's own, or Dawn, which is fetched at its first use. */
export const WEBGPU_NAMES = ["deno", "dawn"] as const;

/** See {@linkcode WEBGPU_NAMES}. */
export type WebgpuName = typeof WEBGPU_NAMES[number];

/** Of everything random. */
export const seedType = z.number().int().min(0).max(0xffffffff);

const text = z.string().min(1).nullable().default(null);

/** The flags that name a model. */
export const modelFlags = {
  model_path: flag(text, {
    group: "Model",
    reads: "model",
    help:
      "a model: a Hugging Face folder (config.json, safetensors, tokenizer.json), or org/name[@revision] on the Hub",
    unset: "the demo model",
    isNeutral: true,
  }),
  model_family: flag(text, {
    group: "Model",
    choices: Object.keys(MODEL_FAMILIES),
    help: "a model of the Hub by its family, as in OML 1.0, with --model_size",
    isNeutral: true,
  }),
  model_size: flag(text, {
    group: "Model",
    help: "size of --model_family: 1B, 8B, 160m, mini, …",
    unset: "7B",
    isNeutral: true,
  }),
};

/** The flag that chooses a WebGPU implementation. */
export const webgpu = flag(z.enum(WEBGPU_NAMES).default("deno"), {
  group: "Device and memory",
  help: "the WebGPU implementation: Deno's own, or Dawn, npm's webgpu, fetched at its first use",
  isNeutral: true,
});

/** What matrices are kept in where nothing is trained. */
export const inferenceDtype = flag(z.enum(["auto", "f32", "bf16"]).default("auto"), {
  group: "Device and memory",
  help: "what matrices are kept in; auto is bf16 for a bf16 model, which is exact, else f32",
});
