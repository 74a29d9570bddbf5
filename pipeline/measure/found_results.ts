/**
 * The folder of a finished run: `results/<hash>/`, as it is found again.
 * @module
 */
import { basename, dirname, join } from "node:path";
import { isJsonObject, readJsonIfThere } from "../../engine/io/json.ts";

/** Places inside it. */
export const MODEL_FOLDER = "final_model";
export const CONFIG_FILE = "config.json";
export const SECRET_FOLDER = "secret";
export const FINGERPRINTS_FILE = "fingerprints.json";

/** What check finds of a run of ours. */
export interface FoundResults {
  fingerprintsPath: string;
  settings: Record<string, unknown>;
  /** SHA-256 of the fingerprint file that the run was given. */
  fingerprintsSha256?: string | undefined;
  /** Hash of the model that the run began with. */
  modelHash?: string | undefined;
}

/** The fingerprints and settings of a `results/<hash>/final_model` folder; undefined for any other. */
export async function findResults(modelPath: string): Promise<FoundResults | undefined> {
  const folder = dirname(await Deno.realPath(modelPath).catch(() => modelPath));
  const fingerprintsPath = join(folder, SECRET_FOLDER, FINGERPRINTS_FILE);
  if (basename(modelPath) !== MODEL_FOLDER || !await isThere(fingerprintsPath)) return undefined;
  return await readRun(folder, fingerprintsPath);
}

/** The run whose fingerprints a file is, if it lies in `results/<hash>/secret`; undefined for any other. */
export async function findRunOf(path: string): Promise<FoundResults | undefined> {
  const fingerprintsPath = await Deno.realPath(path).catch(() => path);
  const secret = dirname(fingerprintsPath);
  if (basename(fingerprintsPath) !== FINGERPRINTS_FILE || basename(secret) !== SECRET_FOLDER) {
    return undefined;
  }
  const folder = dirname(secret);
  return await isThere(join(folder, CONFIG_FILE)) ? await readRun(folder, fingerprintsPath) : undefined;
}

async function readRun(folder: string, fingerprintsPath: string): Promise<FoundResults> {
  const config = await readJsonIfThere(join(folder, CONFIG_FILE));
  const { settings, fingerprintsSha256, modelHash } = isJsonObject(config) ? config : {};
  const text = (value: unknown) => typeof value === "string" ? value : undefined;
  return {
    fingerprintsPath,
    settings: isJsonObject(settings) ? settings : {},
    fingerprintsSha256: text(fingerprintsSha256),
    modelHash: text(modelHash),
  };
}

/** Where a finished run's fingerprints are. */
export function secretPath(results: string): string {
  return join(results, SECRET_FOLDER, FINGERPRINTS_FILE);
}

async function isThere(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
