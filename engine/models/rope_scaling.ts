import { ConfigError, type ConfigReader } from "./config.ts";

/**
 * Rotary frequencies in float64, one a pair of `rotary` dimensions: theta^(−2i / rotary), scaled as the config's
 * `rope_scaling` (or `rope_parameters` of newer configs) says. Formulas: Hugging Face Transformers, modeling_rope_utils.
 * @throws ConfigError for a kind of scaling that is not handled.
 */
export function ropeFrequencies(config: ConfigReader, rotary: number): number[] {
  const parameters = config.object("rope_parameters");
  const scaling = parameters ?? config.object("rope_scaling");
  const theta = parameters?.has("rope_theta")
    ? parameters.positive("rope_theta")
    : config.positive("rope_theta", 10000);
  const plain = Array.from({ length: rotary / 2 }, (_, i) => theta ** (-2 * i / rotary));
  if (!scaling) return plain;
  const kind = scaling.has("rope_type") ? scaling.string("rope_type") : scaling.string("type", "default");
  switch (kind) {
    case "default":
      return plain;
    case "linear": {
      const factor = scaling.positive("factor");
      return plain.map((frequency) => frequency / factor);
    }
    case "llama3":
      return llama3(plain, scaling);
    default:
      throw new ConfigError(
        `${scaling.path}${scaling.has("rope_type") ? "rope_type" : "type"}`,
        `is "${kind}", which is not supported (only "default", "linear" or "llama3")`,
      );
  }
}

function llama3(plain: number[], scaling: ConfigReader): number[] {
  const factor = scaling.positive("factor");
  const low = scaling.positive("low_freq_factor");
  const high = scaling.positive("high_freq_factor");
  const length = scaling.positive("original_max_position_embeddings");
  if (high <= low) {
    throw new ConfigError(`${scaling.path}high_freq_factor`, `is ${high}, expected more than ${low}`);
  }
  return plain.map((frequency) => {
    const wavelength = 2 * Math.PI / frequency;
    if (wavelength < length / high) return frequency;
    if (wavelength > length / low) return frequency / factor;
    const smooth = (length / wavelength - low) / (high - low);
    return (1 - smooth) * frequency / factor + smooth * frequency;
  });
}
