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

/** What check finds beside a model of ours. */
export interface FoundResults {
  fingerprintsPath: string;
  settings: z.output<typeof savedSchema>;
  /** SHA-256 of the fingerprint file that the run was given. */
  fingerprintsSha256?: string | undefined;
}

/** The fingerprints and settings of a `results/<hash>/final_model` folder; undefined for any other. */
export async function findResults(modelPath: string): Promise<FoundResults | undefined> {
  const folder = dirname(await Deno.realPath(modelPath).catch(() => modelPath));
  const fingerprintsPath = join(folder, SECRET_FOLDER, FINGERPRINTS_FILE);
  if (basename(modelPath) !== MODEL_FOLDER || !await isThere(fingerprintsPath)) return undefined;
  return { fingerprintsPath, ...await readConfig(join(folder, CONFIG_FILE)) };
}

/** What is read of a run's config.json. */
const configSchema = z.object({
  settings: savedSchema.default({}),
  fingerprintsSha256: z.string().optional(),
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
