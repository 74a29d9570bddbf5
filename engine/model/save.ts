import type { Gpu } from "../gpu/context.ts";
import {
  type ModelDir,
  type SavedModelDir,
  saveModelDir,
  type SaveModelDirOptions,
} from "../io/model_dir.ts";
import { modelSpec } from "../models/families.ts";
import { readParameter } from "./load.ts";
import type { Parameters } from "./parameters.ts";

/**
 * Writes a Hugging Face folder with the present weights: the checkpoint's own tensor names and dtypes, and what else of the
 * source folder belongs to a model.
 * @returns what of it doesn't, and why
 * @throws FileWriteError or RangeError; nothing half-written stays.
 */
export async function saveParameters(
  gpu: Gpu,
  parameters: Parameters,
  source: ModelDir,
  dir: string,
  options: SaveModelDirOptions = {},
): Promise<SavedModelDir> {
  const { tensors: { head, embedding }, tied } = parameters.spec;
  // A tied checkpoint may hold a redundant copy of the head: it follows the embedding.
  const own = (name: string) => tied && name === head.weight ? embedding : name;
  // The head that is saved is trained apart from the embedding: config.json must not have it replaced on loading.
  const untied = !tied && modelSpec(source.config).tied;
  return await saveModelDir(source, dir, {
    untied,
    has: (name) => parameters.has(own(name)),
    read: (name, first, count) => readParameter(gpu, parameters.get(own(name)), first, count),
  }, options);
}
