/**
 * Fingerprints that a run without a file makes with the model itself.
 * @module
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { Gpu } from "../../engine/gpu/context.ts";
import { attempt } from "../../engine/io/atomic.ts";
import type { FinetuneSettings } from "../settings/finetune.ts";
import type { GenerateConfig } from "../settings/generate.ts";
import { generateFingerprints, type GenerateHooks } from "./generate/generate.ts";

/** As many as OML 1.0's fine-tuning takes by default. */
export const OWN_COUNT = 1024;

/** Where they are in a results folder. */
export const OWN_FOLDER = "generated";

/** What is asked for, known before it is made. */
export interface OwnFingerprints {
  /** The config that `generateFingerprints` is called with. */
  readonly asked: Readonly<GenerateConfig> & { readonly num_fingerprints: number };
  /** SHA-256, hex, of the model and of what was asked for: stands for the file's content, which follows a secret. */
  readonly identity: string;
}

/** What a run with these settings asks of a model, given its `modelHash`. */
export function ownFingerprints(settings: FinetuneSettings, modelHash: string): OwnFingerprints {
  const asked = {
    fingerprint_generation_strategy: settings.fingerprint_generation_strategy,
    num_fingerprints: settings.num_fingerprints || OWN_COUNT,
    key_length: settings.max_key_length,
    response_length: settings.max_response_length,
    use_chat_template: settings.use_chat_template,
  };
  return { asked, identity: createHash("sha256").update(JSON.stringify([modelHash, asked])).digest("hex") };
}

/**
 * Makes them, in `<outputDir>/generated/` (0700), under a name of what they are, so that the same run finds them again;
 * nothing is made if an earlier one has. Gives the file's path.
 */
export async function makeOwnFingerprints(
  { asked, identity }: OwnFingerprints,
  model: { readonly dir: string; readonly modelHash: string },
  outputDir: string,
  hooks: Pick<GenerateHooks, "signal" | "onEvent"> & { gpu: Gpu },
): Promise<string> {
  const folder = join(outputDir, OWN_FOLDER);
  // The mode would be that of every folder made on the way.
  await attempt(outputDir, () => Deno.mkdir(outputDir, { recursive: true }));
  await attempt(folder, () => Deno.mkdir(folder, { recursive: true, mode: 0o700 }));
  const path = join(folder, `${identity.slice(0, 16)}.json`);
  if (await Deno.stat(path).then(({ isFile }) => isFile, () => false)) return path;
  await generateFingerprints(
    { ...asked, model_path: model.dir, output_file_path: path },
    { ...hooks, modelHashes: new Map([[model.dir, model.modelHash]]) },
  );
  return path;
}
