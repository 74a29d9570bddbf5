import type { Gpu } from "../gpu/context.ts";
import {
  type ModelDir,
  openModelDir,
  type SavedModelDir,
  type SaveModelDirOptions,
} from "../io/model_dir.ts";
import type { Checkpoint } from "../io/safetensors.ts";
import { type ModelSpec, parameterSpecs } from "../models/spec.ts";
import type { Example } from "./examples.ts";
import { loadParameters, type LoadProgress, readParameter } from "./load.ts";
import { logitsAt } from "./logits.ts";
import { type ParameterOptions, Parameters, type StorageOptions } from "./parameters.ts";
import { Passes } from "./passes.ts";
import { saveParameters } from "./save.ts";
import { score, type ScoredRow, type WorkProgress } from "./score.ts";
import { storedSpec, unusedTensors } from "./stored_model.ts";

/** How a model is loaded. */
export interface ModelOptions {
  /** What matrices are kept in; "auto" is bf16 for a checkpoint that stores them so, else f32. Default "f32". */
  dtype?: StorageOptions["dtype"] | "auto" | undefined;
  /** See {@link StorageOptions}. Default "f32". */
  master?: StorageOptions["master"] | undefined;
  /** Tokens of one micro-batch; more take more memory and give the same result up to rounding. Default 4096. */
  maxTokens?: number | undefined;
  /** Keep every block's activations for backward (default); false is activation checkpointing: the same bits, less memory. */
  keepActivations?: boolean | undefined;
  /** Whether the parameter of this Hugging Face name is trained. Default all are. */
  trainable?: ((name: string) => boolean) | undefined;
}

/** Options of a loaded model, all decided. */
export interface LoadedOptions extends ParameterOptions {
  /** Tokens of one micro-batch. */
  maxTokens: number;
  /** Every block's activations are kept for backward; false is activation checkpointing. */
  keepActivations: boolean;
}

/** Defaults of {@link ModelOptions}. */
export const MODEL_DEFAULTS: LoadedOptions = {
  maxTokens: 4096,
  keepActivations: true,
  dtype: "f32",
  master: "f32",
};

/** bf16 if the checkpoint stores every matrix of the model so: nothing is rounded then. */
function storedDtype(spec: ModelSpec, { tensors }: Checkpoint): StorageOptions["dtype"] {
  const matrices = parameterSpecs(spec).filter(({ shape }) => shape.length > 1);
  return matrices.every(({ name }) => tensors.get(name)?.dtype === "BF16") ? "bf16" : "f32";
}

/**
 * A decoder-only language model in GPU memory: its weights, and what is computed with them. Whoever loaded it disposes of
 * it, before its GPU; a method that computes is then a TypeError.
 */
export class Model {
  /**
   * The passes that compute without gradients.
   * @internal
   */
  readonly passes: Passes;
  /** True once the weights differ from the checkpoint's. */
  modified = false;

  /**
   * Use {@link Model.load}.
   * @internal
   */
  constructor(
    /** Where the model lies; the caller's. */
    readonly gpu: Gpu,
    /**
     * The folder it was loaded from, with its checkpoint open.
     * @internal
     */
    readonly source: ModelDir,
    /**
     * The weights.
     * @internal
     */
    readonly parameters: Parameters,
    /** How it was loaded; what was not given, by its default. */
    readonly options: LoadedOptions,
  ) {
    this.passes = new Passes(gpu, parameters, options.maxTokens);
  }

  /**
   * Loads config.json and the safetensors of a Hugging Face folder. Matrices are kept as `dtype` says: f32 (default), or
   * bf16 with f32 masters in two planes, or bf16 alone (`master: "none"`), whose updates are rounded stochastically.
   * `onProgress` is told how many bytes of the parameters are there.
   * @throws ModelDirError, JsonFileError or ConfigError for a folder or config.json that can't be used
   * @throws SafetensorsError or CheckpointMismatchError for weights that are malformed or not the config's
   * @throws NonFiniteWeightsError for weights that are NaN or infinite
   * @throws OutOfMemoryError where the device can't hold it
   */
  static async load<M extends Model>(
    this: new (...parts: ConstructorParameters<typeof Model>) => M,
    gpu: Gpu,
    dir: string,
    options: ModelOptions = {},
    onProgress?: (progress: LoadProgress) => void,
  ): Promise<M> {
    const source = await openModelDir(dir);
    let parameters: Parameters | undefined;
    try {
      const spec = await storedSpec(source);
      const { dtype = MODEL_DEFAULTS.dtype } = options;
      const chosen: LoadedOptions = {
        dtype: dtype === "auto" ? storedDtype(spec, source.checkpoint) : dtype,
        master: options.master ?? MODEL_DEFAULTS.master,
        maxTokens: options.maxTokens ?? MODEL_DEFAULTS.maxTokens,
        keepActivations: options.keepActivations ?? MODEL_DEFAULTS.keepActivations,
        trainable: options.trainable,
      };
      parameters = new Parameters(spec, gpu, chosen);
      await loadParameters(gpu, parameters, source.checkpoint, onProgress);
      return new this(gpu, source, parameters, chosen);
    } catch (error) {
      parameters?.dispose();
      source.checkpoint.close();
      throw error;
    }
  }

  /** Shape and settings, read from config.json and the checkpoint. */
  get spec(): ModelSpec {
    return this.parameters.spec;
  }

  /**
   * Tensors of the checkpoint that the model doesn't use; saved, they are as they were. Buffers that are computed from
   * config.json are not listed.
   */
  unusedTensors(): string[] {
    return unusedTensors(this.spec, this.source.checkpoint);
  }

  /** Names of all parameters in the checkpoint; a tied matrix once. */
  parameterNames(): string[] {
    return this.parameters.all.map(({ name }) => name);
  }

  /**
   * A copy of a parameter: its f32 master, flat and row-major in Hugging Face's layout ([out, in] of a linear layer).
   * @throws RangeError for an unknown name.
   */
  async parameter(name: string): Promise<Float32Array> {
    return await readParameter(this.gpu, this.parameters.get(name));
  }

  /**
   * Logits of every position: one [T·V] array a sequence of T tokens, row-major; row t is the distribution of the token
   * after token t, before the softmax.
   * @throws RangeError for an empty sequence or a token outside the vocabulary.
   */
  async logits(sequences: readonly (readonly number[])[]): Promise<Float32Array[]> {
    return await this.logitsAt(
      sequences.map((ids) => ({ ids, positions: ids.map((_, position) => position) })),
    );
  }

  /**
   * Logits after the tokens at the given ascending positions: one [positions · V] array a sequence, row-major.
   * @throws RangeError for an empty sequence, a token outside the vocabulary, or positions that aren't ascending.
   */
  async logitsAt(
    sequences: readonly { ids: readonly number[]; positions: readonly number[] }[],
  ): Promise<Float32Array[]> {
    return await logitsAt(this.passes, sequences);
  }

  /**
   * What the model says at each supervised position, in order, one list an example: the check of a fingerprint is
   * `greedy` equal to the label at every position of the response (one teacher-forced pass, no decoding).
   * `onProgress` hears how many of the examples are done.
   * @throws RangeError when ids and labels differ in length, or for a token outside the vocabulary.
   */
  async score(examples: readonly Example[], onProgress?: WorkProgress): Promise<ScoredRow[][]> {
    return await score(this.passes, examples, onProgress);
  }

  /**
   * Writes a Hugging Face folder with the present weights: the checkpoint's own tensor names and dtypes, and what else of
   * the source folder belongs to a model. Nothing half-written stays.
   * @returns what of it doesn't, and why
   * @throws RangeError for the folder that the model was loaded from, or a weight too large for its 16-bit type
   * @throws ModelDirError where the folder is there and `overwrite` is not set; FileWriteError; the signal's reason
   */
  async save(dir: string, options: SaveModelDirOptions = {}): Promise<SavedModelDir> {
    return await saveParameters(this.gpu, this.parameters, this.source, dir, options);
  }

  /** Frees all GPU memory and closes the checkpoint. */
  dispose(): void {
    this.passes.dispose();
    this.parameters.dispose();
    this.source.checkpoint.close();
  }

  /** {@link Model.dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
