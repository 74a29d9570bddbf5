import { ConfigError, ConfigReader } from "./config.ts";
import { gemma, gemma2, gemma3 } from "./gemma.ts";
import { gptNeox } from "./gpt_neox.ts";
import { llama, mistral } from "./llama.ts";
import { phi } from "./phi.ts";
import { phi3 } from "./phi3.ts";
import { qwen2, qwen3 } from "./qwen.ts";
import type { ModelSpec } from "./spec.ts";

const FAMILIES: Readonly<Record<string, (config: ConfigReader) => ModelSpec>> = {
  llama,
  mistral,
  qwen2,
  qwen3,
  gemma,
  gemma2,
  gemma3_text: gemma3,
  gpt_neox: gptNeox,
  phi,
  phi3,
};

/**
 * The spec of a Hugging Face config.json.
 * @throws ConfigError naming the field when the family or one of its settings is not supported.
 */
export function modelSpec(config: Readonly<Record<string, unknown>>): ModelSpec {
  const reader = new ConfigReader(config);
  const type = reader.string("model_type");
  const family = Object.hasOwn(FAMILIES, type) ? FAMILIES[type] : undefined;
  if (!family) {
    const families = Object.keys(FAMILIES).map((name) => `"${name}"`).join(", ");
    const hint = type === "gemma3" ? '; of Gemma 3 only the text model, "gemma3_text", is' : "";
    throw new ConfigError("model_type", `is "${type}", which is not supported (only ${families})${hint}`);
  }
  reader.only("quantization_config");
  return family(reader);
}
