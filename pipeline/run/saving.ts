/**
 * Saving what a run has trained where it can be saved: when one place refuses, the next one is tried.
 * @module
 */
import { attempt, FileWriteError } from "../../engine/io/atomic.ts";
import { requireSpace } from "../../engine/io/space.ts";
import type { LanguageModel } from "../../engine/language_model.ts";
import type { WrittenFingerprint } from "../fingerprints/file.ts";
import { Checkpoint } from "../../engine/io/safetensors.ts";
import { elementsOf } from "../../engine/io/safetensors_header.ts";
import { carriedFiles } from "../../engine/io/model_dir.ts";
import type { LeftFile } from "../../engine/io/carried_files.ts";
import { dtypeBytes, type FloatDtype, isFloatDtype } from "../../engine/tensor/dtype.ts";
import { DivergedError } from "./train.ts";
import { ResultsError, ResultsNotSavedError, ResultsWriter } from "./results.ts";

/** What a run's results take on the disk, and what of the model's folder isn't among them. */
export interface ResultsSize {
  bytes: number;
  left: LeftFile[];
}

/** Log, settings and headers take less; a fingerprint's line too. */
const MARGIN = 64 * 2 ** 10, FINGERPRINT_BYTES = 1024;

/** Looks at a model's folder before it is trained. Throws as opening its checkpoint does. */
export async function resultsSize(
  dir: string,
  fingerprints: number,
  saveDtype: FloatDtype | null,
): Promise<ResultsSize> {
  const checkpoint = await Checkpoint.open(dir);
  try {
    const { carried, left } = await carriedFiles({ dir, checkpoint });
    let bytes = MARGIN + FINGERPRINT_BYTES * fingerprints;
    for (const { dtype, shape, begin, end } of checkpoint.tensors.values()) {
      bytes += saveDtype && isFloatDtype(dtype) ? elementsOf(shape) * dtypeBytes(saveDtype) : end - begin;
    }
    return { bytes: carried.reduce((sum, file) => sum + file.bytes, bytes), left };
  } finally {
    checkpoint.close();
  }
}

/** Where else results may go. */
export interface OtherPlaces {
  /** Tried first. */
  rescueDir: string | null;
  /** Asked then, as often as it names a folder; the same one is tried again. */
  onRefused?: ((error: Error) => Promise<string | undefined>) | undefined;
  signal?: AbortSignal | undefined;
  /** Owns the writers that are opened. */
  open: DisposableStack;
}

/**
 * Saves with the first writer that the system lets, and discards what the others have.
 * @throws ResultsNotSavedError when none can; what could be saved is kept
 */
export async function saveSomewhere<T>(
  first: ResultsWriter,
  save: (writer: ResultsWriter) => Promise<T>,
  { rescueDir, onRefused, signal, open }: OtherPlaces,
): Promise<{ writer: ResultsWriter; saved: T; refused: Error | undefined }> {
  const writers = new Map([[first.outputDir, first]]);
  let writer = first;
  let rescue = rescueDir ?? undefined;
  let refused: Error | undefined;
  while (true) {
    try {
      const saved = await save(writer);
      for (const other of writers.values()) if (other !== writer) await other.discard();
      return { writer, saved, refused };
    } catch (error) {
      if (!(error instanceof FileWriteError)) throw error;
      refused = error;
    }
    for (let next: ResultsWriter | undefined; next === undefined;) {
      signal?.throwIfAborted();
      const dir = rescue ?? await onRefused?.(refused);
      rescue = undefined;
      if (dir === undefined) {
        const kept = [];
        for (const each of writers.values()) kept.push(await each.keep());
        throw new ResultsNotSavedError(kept, refused.message, { cause: refused });
      }
      try {
        next = writers.get(dir) ?? open.use(await ResultsWriter.open(dir, first.hash, true));
        writers.set(dir, writer = next);
      } catch (error) {
        if (!(error instanceof ResultsError)) throw error;
        refused = error;
      }
    }
  }
}

/** How a run's results are followed; see `FinetuneHooks`. */
export interface KeeperHooks {
  signal?: AbortSignal | undefined;
  onRefused?: ((error: Error) => Promise<string | undefined>) | undefined;
  onEvent?: ((event: KeeperEvent) => void) | undefined;
}

/** What happens to results that can't be saved as planned. */
export type KeeperEvent =
  /** A file beside the model that can't be written; the run goes on without it. */
  | { type: "unwritten"; error: FileWriteError }
  /** The results couldn't be saved where they were to go, but elsewhere. */
  | { type: "rescued"; results: string; reason: string }
  /** How far saving is, in bytes. */
  | { type: "work"; done: number; total: number }
  /** A run that failed after training keeps the saved model. */
  | { type: "kept"; path: string };

/** Keeps what a run has made: what can't be written doesn't end it, and a trained model goes where it can. */
export class ResultsKeeper implements Disposable {
  #writer: ResultsWriter;
  #isSaved = false;
  readonly #open = new DisposableStack();
  readonly #unwritten = new Set<string>();

  constructor(writer: ResultsWriter, readonly rescueDir: string | null, readonly hooks: KeeperHooks) {
    this.#writer = this.#open.use(writer);
  }

  /** Where results are gathered now. */
  get writer(): ResultsWriter {
    return this.#writer;
  }

  /** Refuses a run whose results there is no room for. @throws FileWriteError */
  async requireSpace(bytes: number): Promise<void> {
    const what = "the result";
    await requireSpace(this.writer.outputDir, bytes, { what, instead: "--output_dir names another folder" });
    const { rescueDir } = this;
    if (rescueDir === null) return;
    await attempt(rescueDir, () => Deno.mkdir(rescueDir, { recursive: true }));
    await requireSpace(rescueDir, bytes, { what, instead: "--rescue_dir names another folder" });
  }

  /** Writes a file that a run can do without. */
  async tryWrite(write: (writer: ResultsWriter) => Promise<void>): Promise<void> {
    try {
      await write(this.writer);
    } catch (error) {
      if (!(error instanceof FileWriteError)) throw error;
      if (!this.#unwritten.has(error.path)) this.hooks.onEvent?.({ type: "unwritten", error });
      this.#unwritten.add(error.path);
    }
  }

  /**
   * Saves a trained model and its fingerprints, here or elsewhere.
   * @returns what of the model's folder isn't carried over
   * @throws ResultsNotSavedError
   */
  async save(
    model: LanguageModel,
    logs: readonly unknown[],
    fingerprints: readonly WrittenFingerprint[],
    saveDtype: FloatDtype | undefined,
  ): Promise<LeftFile[]> {
    const { signal, onRefused } = this.hooks;
    const save = async (writer: ResultsWriter) => {
      await writer.writeSecrets(fingerprints);
      return await model.save(writer.modelFolder, {
        saveDtype,
        signal,
        overwrite: true,
        keepPartial: true,
        onProgress: ({ bytesDone, bytesTotal }) => {
          this.hooks.onEvent?.({ type: "work", done: bytesDone, total: bytesTotal });
        },
      });
    };
    const first = this.writer;
    const places = { rescueDir: this.rescueDir, onRefused, signal, open: this.#open };
    const { writer, saved, refused } = await saveSomewhere(first, save, places);
    this.#writer = writer;
    this.#isSaved = true;
    await this.tryWrite((writer) => writer.writeLog(logs));
    if (writer !== first) {
      this.hooks.onEvent?.({ type: "rescued", results: writer.final, reason: refused!.message });
    }
    return saved.left;
  }

  /** Leaves nothing of a run that failed but a model that it has trained and saved. */
  async giveUp(error: unknown): Promise<void> {
    // It has kept what there is.
    if (error instanceof ResultsNotSavedError) return;
    const isWanted = this.#isSaved && !this.hooks.signal?.aborted && !(error instanceof DivergedError);
    if (!isWanted) return await this.writer.discard();
    this.hooks.onEvent?.({ type: "kept", path: await this.writer.keep() });
  }

  [Symbol.dispose](): void {
    this.#open.dispose();
  }
}
