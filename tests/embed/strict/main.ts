// What a careful program does with every entry point. It is checked, by the strictest options, and not run.
import * as whole from "@whorl/whorl";
import type * as engine from "@whorl/whorl/engine";
import * as pipeline from "@whorl/whorl/pipeline";

/** Settings that a program may or may not have are handed on as they are. */
export async function generateTexts(
  folder: string,
  prompts: readonly string[],
  given: {
    seed?: number | undefined;
    signal?: AbortSignal | undefined;
    useChatTemplate?: boolean | undefined;
  },
): Promise<string[]> {
  using gpu: engine.Gpu = await whole.openGpu({ limits: { maxBufferSize: 2 ** 28 } });
  using model: pipeline.Model = await whole.Model.load(gpu, folder, { dtype: "auto", maxTokens: undefined });
  const texts: string[] = await model.generate(prompts, { maxNewTokens: 8, ...given });
  const ids: number[][] = await model.generate([[1, 2]], { maxNewTokens: 8, signal: given.signal });
  const tokenizer: pipeline.Tokenizer = await model.tokenizer();
  return [...texts, ...ids.map((each) => tokenizer.decode(each))];
}

/** A `whole.Model` is an engine's one. */
export async function train(model: whole.Model, examples: readonly engine.Example[]): Promise<number> {
  const engineModel: engine.Model = model;
  const options: engine.TrainerOptions = { learningRate: 1e-3, totalSteps: 1, seed: undefined };
  using trainer = new whole.Trainer(engineModel, options);
  const { loss, gradNorm }: engine.StepResult = await trainer.step(examples);
  const state: engine.TrainerState = await trainer.state();
  const [row] = (await model.score(examples))[0] ?? [];
  const probability: number | undefined = row && Math.exp(row.logProbability);
  return loss + gradNorm + state.steps + (probability ?? 0);
}

export async function fingerprint(folder: string, seed?: number): Promise<string> {
  const config: pipeline.FinetuneConfig = { model_path: folder, seed };
  const hooks: pipeline.FinetuneHooks = {
    onEvent(event) {
      if (event.type === "epoch" && event.log.plainLoss !== undefined) console.log(event.log.plainLoss);
    },
  };
  const planned: pipeline.DryRun = await whole.dryRun(config, hooks);
  if (planned.choice === undefined) return planned.error ?? "it doesn't fit";
  const { modelPath }: pipeline.FinetuneResult = await pipeline.finetune(config, hooks);
  const fingerprints: pipeline.GivenFingerprint[] = [{ key: "a", response: ["b", "c"] }];
  const checked = await pipeline.check({ model_path: modelPath, fingerprints, seed }, { signal: undefined });
  const [first] = checked.rows ?? [];
  return first?.top[0]?.token ?? `${checked.success_rate} %`;
}

export async function make(config: whole.GenerateConfig): Promise<readonly string[]> {
  try {
    const { fingerprints, summary } = await pipeline.generateFingerprints(config, { baseDir: "." });
    const reasons: (number | undefined)[] = [summary.rejected["too short"], summary.keyLength.mean];
    return [...fingerprints.map(({ key }) => key), ...reasons.map(String)];
  } catch (error) {
    if (error instanceof whole.HubNotFoundError) return [error.what];
    if (error instanceof pipeline.FingerprintFileError) return [`${error.entry ?? "the file"}`];
    throw error;
  }
}
