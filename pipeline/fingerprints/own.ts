import { createHash } from "node:crypto";
import { join } from "node:path";
import type { Gpu } from "../../engine/gpu/context.ts";
import { attempt } from "../../engine/io/atomic.ts";
import type { FinetuneSettings } from "../settings/finetune.ts";
import { type GenerateEvent, generateFingerprints } from "./generate/generate.ts";
import { modelHash } from "./generate/model_hash.ts";

/** As many as the seeds' fine-tuning takes by default. */
const DEFAULT_COUNT = 1024;

/**
 * Fingerprints for a run without a file, made with the model itself: in `<output_dir>/generated/` (0700), under a name of
 * the model and what was asked for, so that the same run finds them again. Gives the file's path.
 */
export async function ownFingerprints(
  settings: FinetuneSettings,
  modelDir: string,
  options: { gpu: Gpu; signal?: AbortSignal; onEvent?: (event: GenerateEvent) => void },
): Promise<string> {
  const asked = {
    fingerprint_generation_strategy: settings.fingerprint_generation_strategy,
    num_fingerprints: settings.num_fingerprints || DEFAULT_COUNT,
    key_length: settings.max_key_length,
    response_length: settings.max_response_length,
    use_chat_template: settings.use_chat_template,
  };
  const name = createHash("sha256").update(JSON.stringify([await modelHash(modelDir), asked])).digest("hex");
  const folder = join(settings.output_dir, "generated");
  await attempt(folder, () => Deno.mkdir(folder, { recursive: true, mode: 0o700 }));
  const path = join(folder, `${name.slice(0, 16)}.json`);
  if (await Deno.stat(path).then(({ isFile }) => isFile, () => false)) return path;
  await generateFingerprints({ model_path: modelDir, output_file_path: path, ...asked }, options);
  return path;
}
