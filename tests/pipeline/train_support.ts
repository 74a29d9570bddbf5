/** Trains tiny models for tests of the loop and of objectives. */
import { LanguageModel } from "../../engine/language_model.ts";
import type { Objective, ObjectiveContext, ObjectiveKind } from "../../pipeline/objectives/objective.ts";
import { prepareObjectives } from "../../pipeline/objectives/prepare.ts";
import { type EpochLog, trainFingerprints, type TrainingTask } from "../../pipeline/run/train.ts";
import { type FinetuneConfig, resolveSettings } from "../../pipeline/settings/finetune.ts";
import { sharedGpu } from "../gpu_device.ts";
import { Random } from "../random.ts";
import { modelFolder, parametersOf, TINY } from "../train/support.ts";
import { fingerprint, NUMBERS } from "./tokenizer/number_tokenizer.ts";

export const V = TINY.vocab_size as number;
const random = new Random(31);
export const FINGERPRINTS = Array.from({ length: 7 }, (_, i) => {
  const [key, response] = [random.integers(5, 3, V), random.integers(1 + i % 2, 3, V)];
  return fingerprint(key, response);
});
export const TEMPLATES = ["5 6 {} 8", "{} 4", "9 9 9 {}"];

/** What of a run differs from a plain one. */
interface TrainOptions
  extends
    Partial<Pick<ObjectiveContext, "prompts" | "fingerprints" | "templates" | "benignFile">>,
    Partial<Pick<TrainingTask, "learningRate" | "signal" | "onEpoch">> {
  kinds?: readonly ObjectiveKind[];
}

/** Trains a tiny model, without benign texts unless they are asked for, and gives what came of it. */
export async function train<T = void>(
  config: FinetuneConfig,
  { kinds, learningRate = 1e-2, onEpoch, ...given }: TrainOptions = {},
  body?: (model: LanguageModel, objectives: readonly Objective[]) => Promise<T>,
) {
  using folder = modelFolder(TINY, 3);
  using model = await LanguageModel.load(await sharedGpu(), folder.dir);
  const logs: EpochLog[] = [];
  const defaults = {
    recipe: "scalable",
    averaging: "none",
    early_stop_loss: 0,
    benign_proportion: 0,
  } as const;
  const task = {
    model,
    tokenizer: NUMBERS,
    prompts: NUMBERS,
    fingerprints: FINGERPRINTS,
    templates: [],
    startIds: [1],
    settings: resolveSettings({ ...defaults, ...config }),
    ...given,
  };
  using objectives = await prepareObjectives(task, { kinds });
  const result = await trainFingerprints({
    ...task,
    objectives: objectives.list,
    learningRate,
    onEpoch: onEpoch ?? ((log) => void logs.push(log)),
  });
  const value = await body?.(model, objectives.list);
  return { ...result, logs, value, parameters: await parametersOf(model), folder };
}
