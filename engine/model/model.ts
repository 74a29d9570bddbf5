import type { Gpu } from "../gpu/context.ts";
import { Slot } from "../gpu/pool.ts";
import type { KernelSpan } from "../gpu/profiler.ts";
import { readSlot } from "../gpu/transfer.ts";
import { type ModelDir, openModelDir, saveModelDir, type SaveModelDirOptions } from "../io/model_dir.ts";
import type { Checkpoint } from "../io/safetensors.ts";
import { modelSpec } from "../models/families.ts";
import { type ModelSpec, parameterSpecs } from "../models/spec.ts";
import { NAN_TOKEN } from "../ops/argmax.ts";
import {
  neededCapacity,
  type PackedBatch,
  type PassCapacity,
  type Sequence,
  splitMicroBatches,
  weightedLosses,
} from "./batch.ts";
import { countSupervised, type Example, exampleSequences } from "./examples.ts";
import { Gradients } from "./gradients.ts";
import type { SoftTables } from "./head.ts";
import { checkTokens, passLimits } from "./limits.ts";
import { loadParameters, type LoadProgress, readParameter } from "./load.ts";
import { type Parameter, Parameters, type StorageOptions } from "./parameters.ts";
import { packMicroBatch, Pass, type PassKind } from "./pass.ts";

/** How a model is loaded. */
export interface ModelOptions {
  /** What matrices are kept in; "auto" is bf16 for a checkpoint that stores them so, else f32. Default "f32". */
  dtype?: StorageOptions["dtype"] | "auto";
  /** See {@link StorageOptions}. Default "f32". */
  master?: StorageOptions["master"];
  /** Tokens of one micro-batch; more take more memory and give the same result up to rounding. Default 4096. */
  maxTokens?: number;
  /** Keep each block's inside for backward (default), or compute it twice to save memory. */
  saveBlocks?: boolean;
}

/** What the model said at one supervised position. */
export interface ScoredRow {
  /** Log-probability of the label, in nats. */
  logProbability: number;
  /** The greedy token; −1 if a logit is NaN. */
  greedy: number;
}

/** A row whose logits alone are wanted. */
const UNWEIGHTED = { weight: 0, target: { kind: "label", token: 0 } } as const;

/** Options of a loaded model, all decided. */
export type LoadedOptions = Required<ModelOptions> & StorageOptions;

/** Defaults of {@link ModelOptions}. */
export const MODEL_DEFAULTS: LoadedOptions = {
  maxTokens: 4096,
  saveBlocks: true,
  dtype: "f32",
  master: "f32",
};

/** bf16 if the checkpoint stores every matrix of the model so: nothing is rounded then. */
function storedDtype(spec: ModelSpec, { tensors }: Checkpoint): StorageOptions["dtype"] {
  const matrices = parameterSpecs(spec).filter(({ shape }) => shape.length > 1);
  return matrices.every(({ name }) => tensors.get(name)?.dtype === "BF16") ? "bf16" : "f32";
}

/** Sequences in micro-batches, and the pass that they need. */
interface Schedule<T> {
  batches: T[][];
  capacity: PassCapacity;
  /** Tokens of the longest sequence. */
  longest: number;
}

/** A forward and backward pass that is ready to be submitted; made by {@link Model.prepareBackward}. */
export interface PreparedBackward extends Omit<Schedule<Sequence>, "batches"> {
  batches: readonly PackedBatch[];
  /** Supervised rows of all micro-batches. */
  rows: number;
}

/** A decoder-only language model in GPU memory. */
export class Model {
  readonly #passes = new Map<PassKind, Pass>();
  readonly gradients: Gradients;
  #soft: SoftTables | undefined;
  /** True once the weights differ from the checkpoint's. */
  modified = false;

  /** Use {@link Model.load}. */
  constructor(
    readonly gpu: Gpu,
    readonly source: ModelDir,
    readonly parameters: Parameters,
    readonly options: LoadedOptions,
  ) {
    this.gradients = new Gradients(gpu);
  }

  /**
   * Loads config.json and the safetensors of a Hugging Face folder. Matrices are kept as `dtype` says: f32 (default), or
   * bf16 with f32 masters in two planes, or bf16 alone (`master: "none"`), whose updates are rounded stochastically.
   * @throws ConfigError, SafetensorsError, CheckpointMismatchError or OutOfMemoryError.
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
      const spec = modelSpec(source.config);
      const { dtype = MODEL_DEFAULTS.dtype } = options;
      const chosen = {
        ...MODEL_DEFAULTS,
        ...options,
        dtype: dtype === "auto" ? storedDtype(spec, source.checkpoint) : dtype,
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

  /** Shape and settings, read from config.json. */
  get spec(): ModelSpec {
    return this.parameters.spec;
  }

  /** Hugging Face names of all parameters; a tied matrix once. */
  parameterNames(): string[] {
    return this.parameters.all.map(({ name }) => name);
  }

  /** A parameter's f32 master, row-major in Hugging Face's layout. @throws RangeError for an unknown name. */
  async parameter(name: string): Promise<Float32Array> {
    return await readParameter(this.gpu, this.parameters.get(name));
  }

  /** Tables that soft targets point into, from now on. The caller keeps them alive. */
  useSoftTables(soft: SoftTables | undefined): void {
    if (soft === this.#soft) return;
    this.#soft = soft;
    this.release("train");
  }

  /** A recorded pass with room for `capacity`. */
  pass(kind: PassKind, capacity: PassCapacity): Pass {
    const cached = this.#passes.get(kind);
    if (cached?.fits(capacity)) return cached;
    const previous = cached?.options.capacity ?? { tokens: 0, rows: 0 };
    cached?.dispose();
    this.#passes.delete(kind);
    const pass = Pass.record(this.gpu, this.parameters, {
      kind,
      capacity: {
        tokens: Math.max(capacity.tokens, previous.tokens),
        rows: Math.max(capacity.rows, previous.rows),
      },
      saveBlocks: this.options.saveBlocks,
      ...(kind === "train"
        ? { gradient: (parameter: Parameter) => this.gradients.of(parameter), soft: this.#soft }
        : {}),
    });
    this.#passes.set(kind, pass);
    return pass;
  }

  /** Micro-batches of `sequences` and the pass that takes them. */
  schedule<T extends Sequence>(kind: PassKind, sequences: readonly T[]): { pass: Pass; batches: T[][] } {
    const { batches, ...needed } = this.#split(kind, sequences);
    return { pass: this.#passFor(kind, needed), batches };
  }

  #split<T extends Sequence>(kind: PassKind, sequences: readonly T[], limit?: number): Schedule<T> {
    const limits = this.limits(kind);
    const batches = splitMicroBatches(sequences, limits, limit);
    const longest = Math.max(...sequences.map(({ ids }) => ids.length));
    checkTokens(this.spec, this.gpu, longest);
    return { batches, capacity: neededCapacity(batches, limits), longest };
  }

  #passFor(kind: PassKind, { capacity, longest }: Omit<Schedule<Sequence>, "batches">): Pass {
    const pass = this.pass(kind, capacity);
    pass.useLongest(longest);
    return pass;
  }

  /** The largest micro-batch, see {@link passLimits}. */
  limits(kind: PassKind): PassCapacity {
    return passLimits(this.spec, this.gpu, this.options.maxTokens, kind);
  }

  /**
   * Logits of every position: one [T·V] array a sequence, row-major.
   * @throws RangeError for an empty sequence or a token outside the vocabulary.
   */
  async logits(sequences: readonly (readonly number[])[]): Promise<Float32Array[]> {
    return await this.logitsAt(
      sequences.map((ids) => ({ ids, positions: ids.map((_, position) => position) })),
    );
  }

  /** Logits after the tokens at the given ascending positions: one [positions · V] array a sequence. */
  async logitsAt(
    sequences: readonly { ids: readonly number[]; positions: readonly number[] }[],
  ): Promise<Float32Array[]> {
    const V = this.spec.vocabulary;
    const out = sequences.map(({ positions }) => new Float32Array(positions.length * V));
    const maxRows = this.limits("logits").rows;
    const pieces = sequences.flatMap(({ ids, positions }, sequence) => {
      const count = Math.max(1, Math.ceil(positions.length / maxRows));
      return Array.from({ length: count }, (_, i) => {
        const first = i * maxRows;
        const rows = positions.slice(first, first + maxRows).map((position) => ({ position, ...UNWEIGHTED }));
        // What follows the last row can't be seen from it.
        return { ids: ids.slice(0, (rows.at(-1)?.position ?? 0) + 1), rows, sequence, first };
      });
    });
    const { pass, batches } = this.schedule("logits", pieces);
    for (const batch of batches) {
      const rows = batch.reduce((sum, piece) => sum + piece.rows.length, 0);
      const [bytes] = await pass.run(pass.pack(batch), [{ slot: pass.plan.logits, bytes: rows * V * 4 }]);
      const values = new Float32Array(bytes.buffer);
      let at = 0;
      for (const { sequence, first, rows } of batch) {
        out[sequence].set(values.subarray(at, at + rows.length * V), first * V);
        at += rows.length * V;
      }
    }
    return out;
  }

  /**
   * What the model says at each supervised position, in order, one list an example: the check of a fingerprint is
   * `greedy` equal to the label at every position of the response (one teacher-forced pass, no decoding).
   */
  async score(examples: readonly Example[]): Promise<ScoredRow[][]> {
    const sequences = examples.map((example, index) => ({
      index,
      sequence: exampleSequences([example], 1)[0],
    }))
      .filter(({ sequence }) => sequence !== undefined)
      .map(({ index, sequence }) => ({ ...sequence, index }));
    const out: ScoredRow[][] = examples.map(() => []);
    if (!sequences.length) return out;
    const { pass, batches } = this.schedule("score", sequences);
    for (const batch of batches) {
      const packed = pass.pack(batch);
      const [stats, best] = await pass.run(packed, [
        { slot: pass.plan.stats, bytes: packed.sizes.rows * 16 },
        { slot: pass.plan.best, bytes: packed.sizes.rows * 8 },
      ]);
      const [stat, token] = [new Float32Array(stats.buffer), new Uint32Array(best.buffer)];
      let row = 0;
      for (const { index, rows } of batch) {
        for (let i = 0; i < rows.length; i++, row++) {
          const [top, listed, others, label] = stat.subarray(row * 4, row * 4 + 4);
          out[index].push({
            logProbability: label - top - Math.log(listed + others),
            greedy: token[row * 2 + 1] === NAN_TOKEN ? -1 : token[row * 2 + 1],
          });
        }
      }
    }
    return out;
  }

  /**
   * Mean cross-entropy over all supervised tokens, and its unclipped gradient under Hugging Face's names.
   * @throws RangeError when nothing is supervised.
   */
  async lossAndGradients(
    examples: readonly Example[],
  ): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
    const supervised = countSupervised(examples);
    if (!supervised) throw new RangeError("no supervised token: every label is −100");
    const sequences = exampleSequences(examples, 1 / supervised);
    const losses = weightedLosses(sequences, await this.backward(sequences));
    const gradients = await this.readGradients();
    return { loss: losses.reduce((sum, loss) => sum + loss, 0), gradients };
  }

  /** Accumulates the gradients of all sequences into the gradient buffers; returns each row's loss, unweighted. */
  async backward(sequences: readonly Sequence[]): Promise<Float32Array> {
    const prepared = this.prepareBackward(sequences);
    const losses = new Slot(prepared.rows * 4, "losses of all rows").realize(this.gpu);
    try {
      this.submitBackward(prepared, losses);
      const bytes = await readSlot(this.gpu, losses, 0, prepared.rows * 4);
      return new Float32Array(bytes.buffer);
    } finally {
      losses.dispose();
    }
  }

  /**
   * Splits and packs sequences for {@link Model.submitBackward} without touching the device: it may be working. `limit`
   * bounds the sequences of a micro-batch.
   * @throws RangeError for sequences that can't be trained.
   */
  prepareBackward(sequences: readonly Sequence[], limit?: number): PreparedBackward {
    const { batches, ...needed } = this.#split("train", sequences, limit);
    return {
      ...needed,
      batches: batches.map((batch) => packMicroBatch(this.gpu, this.spec, batch)),
      rows: sequences.reduce((sum, { rows }) => sum + rows.length, 0),
    };
  }

  /**
   * Submits all micro-batches without waiting. The gradients go to the gradient buffers, the loss of every row, unweighted and
   * in order, to `losses`.
   */
  submitBackward({ batches, ...needed }: PreparedBackward, losses: Slot): void {
    const pass = this.#passFor("train", needed);
    let done = 0;
    for (const [i, batch] of batches.entries()) {
      const bytes = batch.sizes.rows * 4;
      const to = { slot: losses, byteOffset: done };
      pass.submit(batch, i > 0, [{ from: { slot: pass.plan.rowLoss }, to, bytes }]);
      done += bytes;
    }
  }

  /** Times of all dispatches of the first micro-batch's forward and backward pass, once their kernels are compiled. */
  async profileBackward({ batches, ...needed }: PreparedBackward): Promise<KernelSpan[]> {
    return await this.#passFor("train", needed).profile(batches[0]);
  }

  /** Copies of all gradient buffers. */
  async readGradients(): Promise<Map<string, Float32Array>> {
    const out = new Map<string, Float32Array>();
    for (const parameter of this.parameters.all) {
      out.set(parameter.name, await this.gradients.read(this.gpu, parameter));
    }
    return out;
  }

  /**
   * Writes a Hugging Face folder with the present weights: the checkpoint's own tensor names and dtypes, and every other
   * file of the source folder.
   * @throws FileWriteError or RangeError; nothing half-written stays.
   */
  async save(dir: string, options: SaveModelDirOptions = {}): Promise<void> {
    const { tensors: { head, embedding }, tied } = this.spec;
    // A tied checkpoint may hold a redundant copy of the head: it follows the embedding.
    const own = (name: string) => tied && name === head.weight ? embedding : name;
    await saveModelDir(this.source, dir, {
      has: (name) => this.parameters.has(own(name)),
      read: (name, first, count) => readParameter(this.gpu, this.parameters.get(own(name)), first, count),
    }, options);
  }

  /** Frees a recorded pass's buffers; the next use records anew. */
  release(kind: PassKind): void {
    this.#passes.get(kind)?.dispose();
    this.#passes.delete(kind);
  }

  dispose(): void {
    for (const kind of [...this.#passes.keys()]) this.release(kind);
    this.gradients.dispose();
    this.parameters.dispose();
    this.source.checkpoint.close();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
