/**
 * Which model a run is about: a local folder, a model of the Hugging Face Hub, or OML 1.0's family and size.
 * @module
 */

import { homedir } from "node:os";
import { join, resolve } from "node:path";
import {
  downloadModel,
  type HubModel,
  HubNotFoundError,
  type HubProgress,
  isModelId,
  isRevision,
} from "./hub.ts";
import { MODEL_FAMILIES } from "../settings/model_families.ts";
import { SettingsError } from "../settings/parse.ts";

/** The settings that name a model. `model_path` wins; with none of them the caller has a model of its own. */
export interface ModelSettings {
  /** A folder, `results/<hash>` of a run included, or `org/name[@revision]` on the Hub. */
  model_path?: string | null | undefined;
  /** A key of {@link MODEL_FAMILIES}, in any case. */
  model_family?: string | null | undefined;
  /** A size of that family, in any case. */
  model_size?: string | null | undefined;
}

/** Gives the value of an environment variable; undefined or empty if it is not set. */
export type ReadVariable = (name: string) => string | undefined | Promise<string | undefined>;

/** Options of {@link resolveModel}. */
export interface ModelSourceHooks {
  /** Stops a download, which then throws the signal's reason; a later one goes on from there. */
  signal?: AbortSignal | undefined;
  /** Called while files are downloaded. */
  onProgress?: ((progress: HubProgress) => void) | undefined;
  /** Of a model on the Hub only config.json is needed. */
  configOnly?: boolean | undefined;
  /** The folder that a relative `model_path` is in; default the process's. */
  baseDir?: string | undefined;
  /** Reads an environment variable; default the process's. */
  variable?: ReadVariable | undefined;
}

/** A model on this machine. */
export interface ModelSource {
  /** Its folder, absolute. */
  dir: string;
  /** What to call it: the path as given, or `org/name[@revision]`. */
  name: string;
  /** The commit of a model of the Hub. */
  commit?: string | undefined;
}

/** OML 1.0's default of `model_size`. */
const DEFAULT_SIZE = "7B";

/**
 * The Hub's model of a family and size.
 * @throws SettingsError naming the known ones.
 */
export function familyModel(family: string, size: string | null | undefined): string {
  const names = Object.keys(MODEL_FAMILIES);
  const name = names.find((name) => name.toLowerCase() === family.toLowerCase());
  if (name === undefined) {
    throw new SettingsError(
      `model_family: expected one of ${names.join(", ")}, found ${
        JSON.stringify(family)
      }; any other model goes by ` +
        `model_path, as a folder or org/name`,
    );
  }
  const sizes = MODEL_FAMILIES[name]!;
  const wanted = (size ?? DEFAULT_SIZE).toLowerCase();
  const key = Object.keys(sizes).find((key) => key.toLowerCase() === wanted);
  if (key === undefined) {
    const found = size == null ? "none" : JSON.stringify(size);
    throw new SettingsError(
      `model_size: expected one of ${Object.keys(sizes).join(", ")} for the family ${name}, found ${found}`,
    );
  }
  return sizes[key]!;
}

/**
 * Finds the model that the settings name, and downloads it if it is on the Hub: into the cache that the Python
 * tools use, and by their environment variables (HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT,
 * HF_HUB_OFFLINE, …). Those that the process may not read count as not set.
 *
 * @returns null if the settings name none
 * @throws SettingsError if they name neither a folder nor a model of the Hub
 * @throws HubError, FileWriteError and their kin; the signal's reason
 */
export async function resolveModel(
  settings: ModelSettings,
  hooks: ModelSourceHooks = {},
): Promise<ModelSource | null> {
  const { model_path, model_family, model_size } = settings;
  if (model_path != null) {
    const dir = resolve(hooks.baseDir ?? ".", model_path);
    if (model_path !== "" && await isFolder(dir, model_path)) {
      const inner = await modelOfResults(dir);
      return inner === undefined
        ? { dir, name: model_path }
        : { dir: join(dir, inner), name: join(model_path, inner) };
    }
    const model = parseHubModel(model_path);
    if (!model) {
      throw new SettingsError(
        `model_path: no such folder: ${dir}; and ${
          JSON.stringify(model_path)
        } is not a model of the Hugging Face ` +
          `Hub, which is written org/name or org/name@revision`,
      );
    }
    try {
      return await fromHub(model, hooks);
    } catch (cause) {
      if (!(cause instanceof HubNotFoundError) || cause.what !== "repository") throw cause;
      throw new HubNotFoundError(`${cause.message}; and there is no folder ${dir}`, cause.what, { cause });
    }
  }
  if (model_family != null) return await fromHub({ id: familyModel(model_family, model_size) }, hooks);
  if (model_size != null) {
    throw new SettingsError(
      `model_size needs model_family, one of ${Object.keys(MODEL_FAMILIES).join(", ")}`,
    );
  }
  return null;
}

/** Reads `org/name[@revision]`; null if the text is not of that form. */
export function parseHubModel(text: string): HubModel | null {
  const at = text.indexOf("@");
  const id = at < 0 ? text : text.slice(0, at);
  if (!isModelId(id)) return null;
  if (at < 0) return { id };
  const revision = text.slice(at + 1);
  return isRevision(revision) ? { id, revision } : null;
}

/** The model's folder inside one of results, which has a config.json of its own; undefined for any other folder. */
async function modelOfResults(dir: string): Promise<string | undefined> {
  const inner = "final_model";
  const isThere = (...names: string[]) => Deno.stat(join(dir, ...names)).then(() => true, () => false);
  return await isThere("secret") && await isThere(inner, "config.json") ? inner : undefined;
}

async function isFolder(path: string, given: string): Promise<boolean> {
  try {
    if ((await Deno.stat(path)).isDirectory) return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    throw error;
  }
  throw new SettingsError(`model_path: ${given} is a file: expected the folder of a Hugging Face model`);
}

async function fromHub(model: HubModel, hooks: ModelSourceHooks): Promise<ModelSource> {
  const { signal, onProgress, configOnly } = hooks;
  const environment = await hubEnvironment(hooks.variable);
  const { dir, commit } = await downloadModel(model, { ...environment, signal, onProgress, configOnly });
  return { dir, name: model.revision ? `${model.id}@${model.revision}` : model.id, commit };
}

/** The variables that {@link hubEnvironment} reads. */
export const HUB_VARIABLES: readonly string[] = [
  "HF_HOME",
  "XDG_CACHE_HOME",
  Deno.build.os === "windows" ? "USERPROFILE" : "HOME",
  "HF_HUB_CACHE",
  "HUGGINGFACE_HUB_CACHE",
  "HF_HUB_DISABLE_IMPLICIT_TOKEN",
  "HF_TOKEN",
  "HUGGING_FACE_HUB_TOKEN",
  "HF_TOKEN_PATH",
  "HF_ENDPOINT",
  "HF_HUB_OFFLINE",
  "TRANSFORMERS_OFFLINE",
];

/** Where and how the environment says the Hub is used; as huggingface_hub/constants.py reads it. */
interface HubEnvironment {
  endpoint: string;
  cacheDir: string;
  token?: string | undefined;
  offline: boolean;
}

/** The Hub, where HF_ENDPOINT names no mirror. */
export const HUB_ENDPOINT = "https://huggingface.co";

/** The cache's folder, and the file of the access token, which is read where no variable has it; as the environment says. */
export async function hubPlaces(variable: ReadVariable): Promise<{ cacheDir: string; tokenPath: string }> {
  const read = async (name: string) => await variable(name) || undefined;
  /** A variable that names a path; `~` is the home folder. */
  const path = async (name: string) => {
    const value = await read(name);
    return value && /^~($|[/\\])/.test(value) ? join(await homeFolder(read), value.slice(1)) : value;
  };
  const hfHome = await path("HF_HOME") ?? join(
    await path("XDG_CACHE_HOME") ?? join(await homeFolder(read), ".cache"),
    "huggingface",
  );
  const cacheDir = await path("HF_HUB_CACHE") ?? await path("HUGGINGFACE_HUB_CACHE") ?? join(hfHome, "hub");
  const tokenPath = await path("HF_TOKEN_PATH") ?? join(hfHome, "token");
  return { cacheDir: resolve(cacheDir), tokenPath: resolve(tokenPath) };
}

/** Reads the environment's settings of the Hub. @throws SettingsError if there is no place for the cache. */
export async function hubEnvironment(variable: ReadVariable = processVariable): Promise<HubEnvironment> {
  const read = async (name: string) => await variable(name) || undefined;
  const isTrue = (value: string | undefined) => /^(1|on|yes|true)$/i.test(value ?? "");
  const { cacheDir, tokenPath } = await hubPlaces(variable);
  const token = async () => {
    if (isTrue(await read("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) return undefined;
    const value = await read("HF_TOKEN") ?? await read("HUGGING_FACE_HUB_TOKEN") ??
      await readIfThere(tokenPath);
    return value?.trim() || undefined;
  };
  return {
    endpoint: await read("HF_ENDPOINT") ?? HUB_ENDPOINT,
    cacheDir,
    token: await token(),
    offline: isTrue(await read("HF_HUB_OFFLINE") ?? await read("TRANSFORMERS_OFFLINE")),
  };
}

/** An environment variable of the process; undefined if it may not be read. */
async function processVariable(variable: string): Promise<string | undefined> {
  const { state } = await Deno.permissions.query({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}

async function homeFolder(read: (name: string) => Promise<string | undefined>): Promise<string> {
  const home = await read(Deno.build.os === "windows" ? "USERPROFILE" : "HOME");
  if (home !== undefined) return home;
  try {
    return homedir();
  } catch (cause) {
    throw new SettingsError("there is no home folder for downloaded models: set HF_HOME to a folder", {
      cause,
    });
  }
}

/** Most people have no token file, and one that can't be read is as good as none. */
async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch {
    return undefined;
  }
}
