import { ConfigError, ConfigReader } from "./config.ts";
import { llama, mistral } from "./llama.ts";
import type { ModelSpec } from "./spec.ts";

const FAMILIES: Readonly<Record<string, (config: ConfigReader) => ModelSpec>> = { llama, mistral };

/**
 * The spec of a Hugging Face config.json.
 * @throws ConfigError naming the field when the family or one of its settings is not supported.
 */
export function modelSpec(config: Readonly<Record<string, unknown>>): ModelSpec {
  const reader = new ConfigReader(config);
  const type = reader.string("model_type");
  const family = Object.hasOwn(FAMILIES, type) ? FAMILIES[type] : undefined;
  if (!family) {
    throw new ConfigError(
      "model_type",
      `is "${type}", which is not supported (only ${
        Object.keys(FAMILIES).map((name) => `"${name}"`).join(", ")
      })`,
    );
  }
  reader.only("quantization_config");
  return family(reader);
}
