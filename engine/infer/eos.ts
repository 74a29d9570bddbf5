import { join } from "node:path";
import { readJson } from "../io/json.ts";
import type { ModelDir } from "../io/model_dir.ts";

/** Ids that end a text, of generation_config.json, else config.json; none if neither names one. */
export async function readEosIds({ dir, config }: Pick<ModelDir, "dir" | "config">): Promise<number[]> {
  const path = join(dir, "generation_config.json");
  const isThere = await Deno.stat(path).then(({ isFile }) => isFile, () => false);
  const settings = isThere ? await readJson(path) as Record<string, unknown> | null : {};
  const value = settings?.eos_token_id ?? config.eos_token_id ?? [];
  const ids = Array.isArray(value) ? value : [value];
  return ids.filter((id) => Number.isSafeInteger(id));
}
