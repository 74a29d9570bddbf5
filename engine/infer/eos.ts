import { join } from "node:path";
import { describeJson, JsonFileError, readJson } from "../io/json.ts";
import type { ModelDir } from "../io/model_dir.ts";

/**
 * Ids that end a text, of generation_config.json, else config.json; none if neither names one.
 * @throws JsonFileError for a number there that is no id
 */
export async function readEosIds({ dir, config }: Pick<ModelDir, "dir" | "config">): Promise<number[]> {
  const path = join(dir, "generation_config.json");
  const isThere = await Deno.stat(path).then(({ isFile }) => isFile, () => false);
  const settings = isThere ? await readJson(path, { nonFinite: true }) as Record<string, unknown> | null : {};
  const value = settings?.eos_token_id ?? config.eos_token_id ?? [];
  const ids = Array.isArray(value) ? value : [value];
  const wrong = ids.find((id) => typeof id === "number" && !Number.isSafeInteger(id));
  if (wrong !== undefined) {
    const where = settings?.eos_token_id === undefined ? join(dir, "config.json") : path;
    throw new JsonFileError(where, `eos_token_id: expected a token id, found ${describeJson(wrong)}`);
  }
  return ids.filter((id) => Number.isSafeInteger(id));
}
