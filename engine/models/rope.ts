import { ConfigError, ConfigReader } from "./config.ts";
import { longrope, originalPositions, yarn } from "./rope_long.ts";
import type { ModelSpec, RopeSpec } from "./spec.ts";

/**
 * Where a family differs in what it calls the fields of its rotary embedding, and their values when absent.
 */
export interface RopeFields {
  /** Base of the frequencies; `rope_theta` by default. */
  readonly thetaField?: string;
  readonly theta?: number;
  /** The part of a head that is rotated. Without this field it must be all. */
  readonly fractionField?: string;
  readonly fraction?: number;
  /** Length before the context was extended, where no field says it; `max_position_embeddings` by default. */
  readonly originalPositions?: number;
}

type Sizes = Pick<ModelSpec, "headDim" | "maxPositions">;

/**
 * Rotary embedding of all blocks, from `rope_parameters` of newer configs or `rope_scaling` and the fields
 * beside it of older ones. Formulas: Hugging Face Transformers, modeling_rope_utils.
 * @throws ConfigError for a kind of scaling that is not handled.
 */
export function ropeSpec(config: ConfigReader, sizes: Sizes, fields: RopeFields = {}): RopeSpec {
  return oneOf(config, (settings) => {
    for (const type of ["full_attention", "sliding_attention"]) settings.only(type);
    return rope(config, settings, sizes, fields);
  });
}

/**
 * Rotary embedding of the blocks of one layer type (Gemma 3), from `rope_parameters[type]` of newer configs
 * or `thetaField` of older ones, where only full attention follows `rope_scaling`.
 */
export function layerTypeRope(
  config: ConfigReader,
  sizes: Sizes,
  type: "full_attention" | "sliding_attention",
  thetaField: string,
  theta: number,
): RopeSpec {
  return oneOf(config, (settings, isNewer) => {
    // Settings that don't say for which layer type they are, or that do where they shouldn't.
    const misplaced = isNewer
      ? ["rope_type", "type", "rope_theta", "factor"]
      : ["full_attention", "sliding_attention"];
    for (const field of misplaced) settings.only(field);
    const own = isNewer ? settings.object(type) : type === "full_attention" ? settings : undefined;
    return rope(config, own ?? new ConfigReader({}), sizes, { thetaField, theta });
  });
}

/**
 * The embedding that `rope_parameters`, or else `rope_scaling`, asks for. Transformers' versions disagree on which counts
 * where a config has both, so there they have to say the same.
 */
function oneOf(
  config: ConfigReader,
  read: (settings: ConfigReader, isNewer: boolean) => RopeSpec,
): RopeSpec {
  const parameters = config.object("rope_parameters");
  const scaling = config.object("rope_scaling");
  if (!parameters) return read(scaling ?? new ConfigReader({}), false);
  const newer = read(parameters, true);
  if (scaling && JSON.stringify(read(scaling, false)) !== JSON.stringify(newer)) {
    throw new ConfigError(
      "rope_scaling",
      `is ${JSON.stringify(scaling.fields)}, which contradicts "rope_parameters", ${
        JSON.stringify(parameters.fields)
      }`,
    );
  }
  return newer;
}

function rope(config: ConfigReader, settings: ConfigReader, sizes: Sizes, fields: RopeFields): RopeSpec {
  const theta = thetaOf(config, settings, fields);
  const rotary = rotaryDimensions(config, settings, sizes, fields);
  const plain = Array.from({ length: rotary / 2 }, (_, i) => theta ** (-2 * i / rotary));
  const kindField = settings.has("rope_type") ? "rope_type" : "type";
  const kind = settings.string(kindField, "default");
  const original = fields.originalPositions ?? sizes.maxPositions;
  switch (kind) {
    case "default":
      return { frequencies: plain, scale: 1 };
    case "linear": {
      const factor = settings.positive("factor");
      return { frequencies: plain.map((frequency) => frequency / factor), scale: 1 };
    }
    case "dynamic":
      // The base grows with the sequence from this length on (Transformers: _compute_dynamic_ntk_parameters).
      settings.positive("factor");
      return { frequencies: plain, scale: 1, most: { tokens: sizes.maxPositions, kind } };
    case "llama3":
      return { frequencies: llama3(plain, settings, originalPositions(config, settings)), scale: 1 };
    // The name in Phi 3's first configs.
    case "su":
    case "longrope":
      return longrope(plain, settings, sizes.maxPositions, originalPositions(config, settings, original));
    case "yarn":
      // Phi 3's "yarn" of that time is another formula.
      settings.only("short_factor");
      return yarn(plain, settings, theta, originalPositions(config, settings, original));
    default:
      throw new ConfigError(
        `${settings.path}${kindField}`,
        `is "${kind}", which is not supported (only "default", "linear", "dynamic", "llama3", "longrope" or "yarn")`,
      );
  }
}

function thetaOf(config: ConfigReader, settings: ConfigReader, fields: RopeFields): number {
  const { thetaField = "rope_theta", theta: absent = 10000 } = fields;
  return beside(config, thetaField, settings, "rope_theta") ?? absent;
}

/** A number that may stand among the rope settings or beside them; in both places it has to be the same. */
function beside(
  config: ConfigReader,
  field: string,
  settings: ConfigReader,
  inside: string,
): number | undefined {
  const older = config.has(field) ? config.positive(field) : undefined;
  const newer = settings.has(inside) ? settings.positive(inside) : undefined;
  if (older !== undefined && newer !== undefined && older !== newer) {
    throw new ConfigError(field, `is ${older}, which contradicts "${settings.path}${inside}", ${newer}`);
  }
  return newer ?? older;
}

/** Rotated dimensions of a head: the product is cut to a whole number, as Python's int() does. */
function rotaryDimensions(
  config: ConfigReader,
  settings: ConfigReader,
  { headDim }: Sizes,
  { fractionField, fraction: absent = 1 }: RopeFields,
): number {
  const inside = "partial_rotary_factor";
  if (!fractionField) {
    config.only(inside, 1);
    settings.only(inside, 1);
    return headDim;
  }
  const fraction = beside(config, fractionField, settings, inside) ?? absent;
  const rotary = Math.trunc(headDim * fraction);
  if (rotary > 0 && rotary <= headDim && rotary % 2 === 0) return rotary;
  throw new ConfigError(
    settings.has(inside) ? settings.path + inside : fractionField,
    `is ${fraction}, which rotates ${rotary} of ${headDim} dimensions, expected an even number from 2 to all`,
  );
}

function llama3(plain: number[], settings: ConfigReader, length: number): number[] {
  const factor = settings.positive("factor");
  const low = settings.positive("low_freq_factor");
  const high = settings.positive("high_freq_factor");
  if (high <= low) {
    throw new ConfigError(`${settings.path}high_freq_factor`, `is ${high}, expected more than ${low}`);
  }
  return plain.map((frequency) => {
    const wavelength = 2 * Math.PI / frequency;
    if (wavelength < length / high) return frequency;
    if (wavelength > length / low) return frequency / factor;
    const smooth = (length / wavelength - low) / (high - low);
    return (1 - smooth) * frequency / factor + smooth * frequency;
  });
}
