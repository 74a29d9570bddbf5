/**
 * The folder of a finished run: `results/<hash>/`, as it is found again.
 * @module
 */
import { basename, dirname, join } from "node:path";
import { z } from "zod";
import { JsonFileError } from "../../engine/io/json.ts";
import { readJsonAs } from "../../engine/io/json_schema.ts";
import { savedSchema } from "../settings/check.ts";

/** Places inside it. */
export const MODEL_FOLDER = "final_model";
export const CONFIG_FILE = "config.json";
export const SECRET_FOLDER = "secret";
export const FINGERPRINTS_FILE = "fingerprints.json";

/** What check finds of a run of ours. */
export interface FoundResults {
  fingerprintsPath: string;
  settings: z.output<typeof savedSchema>;
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
  return { fingerprintsPath, ...await readConfig(join(folder, CONFIG_FILE)) };
}

/** The run whose fingerprints a file is, if it lies in `results/<hash>/secret`; undefined for any other. */
export async function findRunOf(path: string): Promise<FoundResults | undefined> {
  const fingerprintsPath = await Deno.realPath(path).catch(() => path);
  const secret = dirname(fingerprintsPath);
  if (basename(fingerprintsPath) !== FINGERPRINTS_FILE || basename(secret) !== SECRET_FOLDER) {
    return undefined;
  }
  const config = join(dirname(secret), CONFIG_FILE);
  return await isThere(config) ? { fingerprintsPath, ...await readConfig(config) } : undefined;
}

/** What is read of a run's config.json. */
const configSchema = z.object({
  settings: savedSchema.default({}),
  fingerprintsSha256: z.string().optional(),
  modelHash: z.string().optional(),
});

async function readConfig(path: string): Promise<z.output<typeof configSchema>> {
  try {
    return await readJsonAs(path, configSchema, { what: "the run's settings" });
  } catch (error) {
    if (error instanceof JsonFileError && error.isMissing) return { settings: {} };
    throw error;
  }
}

/** Where a finished run's fingerprints are. */
export function secretPath(results: string): string {
  return join(results, SECRET_FOLDER, FINGERPRINTS_FILE);
}

async function isThere(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
