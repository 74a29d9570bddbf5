/**
 * What a flag is: a zod type with what a person and a run must know of it. The command line, validation, the types of
 * settings, a run's hash and docs/flags.md all come from such a declaration.
 * @module
 */
import { z } from "zod";

/** Headings that help and the reference page put flags under, in this order. */
export const FLAG_GROUPS = [
  "Model",
  "Fingerprints",
  "Questions",
  "Texts and draws",
  "Training",
  "Keeping the model useful",
  "Device and memory",
  "Output",
] as const;

/** See {@linkcode FLAG_GROUPS}. */
export type FlagGroup = typeof FLAG_GROUPS[number];

/** What a flag says beside its type. */
export interface FlagMeta {
  group: FlagGroup;
  /** What it is, in a line, without its default. */
  help: string;
  /** Other names, as OML 1.0 and its successor have them. */
  aliases?: readonly string[] | undefined;
  /** A text that is a path (relative to the caller's folder), or a model's path or name; else it is what the type says. */
  reads?: "path" | "model" | undefined;
  /** A path that is written to: the folder that it names, or the file that it names with what lies beside it. */
  writes?: "folder" | "file" | undefined;
  /** The values that the command line takes, where the type takes more. */
  choices?: readonly string[] | undefined;
  /** What holds when it isn't given, where no value says it. */
  unset?: string | undefined;
  /** Default by recipe. */
  byRecipe?: Readonly<Record<string, unknown>> | undefined;
  /** It changes nothing of what a run computes, so it doesn't count for the run's hash. */
  isNeutral?: boolean | undefined;
}

/** A flag as the command line and the reference page need it. */
export interface Flag extends FlagMeta {
  name: string;
  /** How its text is read. */
  kind: "text" | "path" | "model" | "choice" | "count" | "number" | "switch";
  choices?: readonly string[] | undefined;
  /** The type's default; undefined where a recipe or something else decides. */
  default?: unknown | undefined;
}

const declared = z.registry<FlagMeta>();

/** Declares a flag: its type, with everything else there is to know of it. */
export function flag<T extends z.ZodType>(type: T, meta: FlagMeta): T {
  // Types are shared between flags, so each gets its own.
  const own = type.clone();
  declared.add(own, meta);
  return own;
}

/** What was declared with a type. @throws TypeError when it is no flag. */
export function metaOf(type: z.ZodType): FlagMeta {
  const meta = declared.get(type);
  if (!meta) throw new TypeError("expected a type made by flag(), found one without help or group");
  return meta;
}

/** The same flag elsewhere, where it says some things differently. */
export function likewise<T extends z.ZodType>(type: T, changes: Partial<FlagMeta>): T {
  return flag(type, { ...metaOf(type), ...changes });
}

/** A type without its default. */
type Bare<T extends z.ZodType> = T extends z.ZodDefault<infer Inner extends z.ZodType> ? Inner : T;

/** The same flag of a command that finds the value elsewhere when it isn't given. */
export function withoutDefault<T extends z.ZodType>(
  type: T,
  changes: Partial<FlagMeta>,
): z.ZodOptional<Bare<T>> {
  const bare = (type instanceof z.ZodDefault ? type.unwrap() : type) as Bare<T>;
  return flag(bare.optional(), { ...metaOf(type), ...changes });
}

/** All flags of an object's fields, in their order. */
export function flagsOf(shape: Readonly<Record<string, z.ZodType>>): Flag[] {
  return Object.entries(shape).map(([name, type]) => {
    const meta = metaOf(type);
    const core = coreOf(type);
    const choices = meta.choices ?? (core instanceof z.ZodEnum ? core.options.map(String) : undefined);
    return {
      ...meta,
      name,
      kind: meta.reads ?? (choices ? "choice" : kindOf(core)),
      choices,
      default: type instanceof z.ZodDefault ? type.def.defaultValue : undefined,
    };
  });
}

/** Names of the flags that don't count for a run's hash. */
export function neutralNames(shape: Readonly<Record<string, z.ZodType>>): string[] {
  return Object.entries(shape).filter(([, type]) => metaOf(type).isNeutral).map(([name]) => name);
}

/** What a default is called where it is shown: "" when nothing is to be said. */
export function defaultText(value: unknown): string {
  if (value === undefined || value === null) return "";
  return typeof value === "boolean" ? (value ? "on" : "off") : String(value);
}

/** A type without what wraps it. */
function coreOf(type: z.core.$ZodType): z.core.$ZodType {
  if (type instanceof z.ZodDefault || type instanceof z.ZodNullable || type instanceof z.ZodOptional) {
    return coreOf(type.def.innerType);
  }
  return type instanceof z.ZodPipe ? coreOf(type.def.in) : type;
}

function kindOf(core: z.core.$ZodType): Flag["kind"] {
  if (core instanceof z.ZodBoolean) return "switch";
  if (core instanceof z.ZodNumber) return core.isInt ? "count" : "number";
  if (core instanceof z.ZodString) return "text";
  throw new TypeError(`a flag is a text, a number, a switch or a choice; found a ${core._zod.def.type}`);
}
