import { join } from "node:path";
import { describeJson, isJsonObject, JsonFileError, readJsonIfThere } from "../io/json.ts";
import type { ModelDir } from "../io/model_dir.ts";

/**
 * Ids that end a text, of generation_config.json, else config.json; none if neither names one.
 * @throws JsonFileError for a number there that is no id
 */
export async function readEosIds({ dir, config }: Pick<ModelDir, "dir" | "config">): Promise<number[]> {
  const path = join(dir, "generation_config.json");
  const settings = await readJsonIfThere(path, { nonFinite: true }) ?? {};
  if (!isJsonObject(settings)) {
    throw new JsonFileError(path, `expected a JSON object, found ${describeJson(settings)}`);
  }
  const value = settings.eos_token_id ?? config.eos_token_id ?? [];
  const ids = Array.isArray(value) ? value : [value];
  const wrong = ids.find((id) => !Number.isSafeInteger(id));
  if (wrong !== undefined) {
    const where = settings.eos_token_id == null ? join(dir, "config.json") : path;
    throw new JsonFileError(where, `eos_token_id: expected a token id, found ${describeJson(wrong)}`);
  }
  return ids.filter((id) => Number.isSafeInteger(id));
}
