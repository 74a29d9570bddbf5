/**
 * The folder of a finished run: `results/<hash>/`, as it is found again.
 * @module
 */
import { basename, dirname, join } from "node:path";
import { readJsonIfThere } from "../../engine/io/json.ts";

/** Places inside it. */
export const MODEL_FOLDER = "final_model";
export const CONFIG_FILE = "config.json";
export const SECRET_FOLDER = "secret";
export const FINGERPRINTS_FILE = "fingerprints.json";

/** What check finds beside a model of ours. */
export interface FoundResults {
  fingerprintsPath: string;
  settings: Record<string, unknown>;
  /** SHA-256 of the fingerprint file that the run was given. */
  fingerprintsSha256?: string | undefined;
}

/** The fingerprints and settings of a `results/<hash>/final_model` folder; undefined for any other. */
export async function findResults(modelPath: string): Promise<FoundResults | undefined> {
  const folder = dirname(await Deno.realPath(modelPath).catch(() => modelPath));
  const fingerprintsPath = join(folder, SECRET_FOLDER, FINGERPRINTS_FILE);
  if (basename(modelPath) !== MODEL_FOLDER || !await isThere(fingerprintsPath)) return undefined;
  const config = await readJsonIfThere(join(folder, CONFIG_FILE)) as Partial<FoundResults> | null | undefined;
  return {
    fingerprintsPath,
    settings: config?.settings ?? {},
    fingerprintsSha256: config?.fingerprintsSha256,
  };
}

/** Where a finished run's fingerprints are. */
export function secretPath(results: string): string {
  return join(results, SECRET_FOLDER, FINGERPRINTS_FILE);
}

async function isThere(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
