/**
 * Whorl fingerprints language models on any GPU: the whole of its public API, that is the engine
 * (`@whorl/whorl/engine`) and the pipeline (`@whorl/whorl/pipeline`) together.
 *
 * ```ts
 * import { Model, openGpu } from "@whorl/whorl";
 *
 * const gpu = await openGpu();
 * const model = await Model.load(gpu, "path/to/model");
 * const [answer] = await model.generate(["The capital of France is"], { maxNewTokens: 8 });
 * console.log(answer);
 * model.dispose();
 * gpu.dispose();
 * ```
 * @module
 */
export * from "./engine/mod.ts";
export * from "./pipeline/mod.ts";

// Names of both: the pipeline's, which can do all that the engine's can, and the engine's beside them.
export { Model, openGpu, type OpenOptions } from "./pipeline/mod.ts";
export { Model as LanguageModel, type OpenOptions as DeviceOptions } from "./engine/mod.ts";
