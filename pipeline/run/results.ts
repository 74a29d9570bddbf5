import { dirname, join } from "node:path";
import { attempt, removeQuietly, saveAtomic, syncFolder } from "../../engine/io/atomic.ts";
import type { KernelSpan } from "../../engine/gpu/profiler.ts";
import { FileLock, LockedError, type LockOwner, ownerText } from "../../engine/io/lock.ts";
import { CONFIG_FILE, FINGERPRINTS_FILE, MODEL_FOLDER, SECRET_FOLDER } from "../measure/found_results.ts";
import type { WrittenFingerprint } from "../fingerprints/file.ts";
import { writeFingerprintFile } from "../fingerprints/file.ts";
import { lockPath, previousPath, settleRun, stagingPath } from "./leftovers.ts";

const LOG_FILE = "log.jsonl";
const TRACE_FILE = "trace.json";

/** A results folder is there already, or can't be written. */
export class ResultsError extends Error {
  /** Always "ResultsError". */
  override name: string = "ResultsError";
}

/** The results of the same configuration are there: nothing is left to do. */
export class ResultsExistError extends ResultsError {
  /** Always "ResultsExistError". */
  override name = "ResultsExistError";
  /** `results` is the folder that is there. */
  constructor(
    /** results/<hash>. */
    readonly results: string,
  ) {
    super(`${results} has the results of this very configuration already; --force runs it again`);
  }
}

/** Another run is making the same results. */
export class ResultsLockedError extends ResultsError {
  /** Always "ResultsLockedError". */
  override name = "ResultsLockedError";
  /** `results` is the folder that is being made, `owner` who makes it. */
  constructor(
    /** results/<hash>. */
    readonly results: string,
    /** Who makes them, where it can be told. */
    readonly owner: LockOwner | undefined,
    options?: ErrorOptions,
  ) {
    super(
      `${results} is being made by ${
        ownerText(owner)
      }: expected to be the only run of this configuration there`,
      options,
    );
  }
}

/** The trained model could not be saved as results. */
export class ResultsNotSavedError extends ResultsError {
  /** Always "ResultsNotSavedError". */
  override name = "ResultsNotSavedError";
  /** `kept` are the folders with what could be saved, `reason` is the system's. */
  constructor(
    /** The folders with what could be saved. */
    readonly kept: readonly string[],
    reason: string,
    options?: ErrorOptions,
  ) {
    super(
      `${reason}. The trained model is not whole on the disk; what could be saved is kept in ${
        kept.join(" and ")
      }. --rescue_dir names a folder ` +
        "on another disk for such a case",
      options,
    );
  }
}

/**
 * A run's results, gathered in a hidden folder beside the final one and put in place by one rename, so that a run that
 * stops leaves nothing that looks finished. While it is open no other run can make the same.
 */
export class ResultsWriter implements Disposable {
  readonly final: string;
  readonly #staging: string;

  private constructor(
    readonly outputDir: string,
    readonly hash: string,
    readonly lock: FileLock,
  ) {
    this.final = join(outputDir, hash);
    this.#staging = stagingPath(outputDir, hash);
  }

  /**
   * @throws ResultsExistError when results of the same run are there and `force` is false
   * @throws ResultsLockedError when another run is making them
   * @throws ResultsError when the folder can't be written
   */
  static async open(outputDir: string, hash: string, force: boolean): Promise<ResultsWriter> {
    const final = join(outputDir, hash);
    if (!force && await exists(final)) throw new ResultsExistError(final);
    let lock: FileLock | undefined;
    try {
      await Deno.mkdir(outputDir, { recursive: true });
      lock = await FileLock.take(lockPath(outputDir, hash));
      await settleRun(outputDir, hash);
      if (!force && await exists(final)) throw new ResultsExistError(final);
      await Deno.mkdir(stagingPath(outputDir, hash));
      return new ResultsWriter(outputDir, hash, lock);
    } catch (error) {
      lock?.[Symbol.dispose]();
      if (error instanceof ResultsError) throw error;
      if (error instanceof LockedError) throw new ResultsLockedError(final, error.owner, { cause: error });
      const reason = error instanceof Error ? error.message : String(error);
      throw new ResultsError(`the results folder ${outputDir} can't be written: ${reason}`, { cause: error });
    }
  }

  /** Where the model goes before {@link ResultsWriter.commit}. */
  get modelFolder(): string {
    return join(this.#staging, MODEL_FOLDER);
  }

  /** Settings and measurements. */
  async writeConfig(content: unknown): Promise<void> {
    await saveAtomic(join(this.#staging, CONFIG_FILE), JSON.stringify(content, null, 2) + "\n");
  }

  /** One line an epoch. */
  async writeLog(lines: readonly unknown[]): Promise<void> {
    const text = lines.map((line) => JSON.stringify(line) + "\n").join("");
    await saveAtomic(join(this.#staging, LOG_FILE), text);
  }

  /** Times of dispatches as chrome://tracing and Perfetto read them. */
  async writeTrace(spans: readonly KernelSpan[]): Promise<void> {
    const traceEvents = spans.map(({ name, begin, milliseconds }) => ({
      name,
      ph: "X",
      cat: "kernel",
      pid: 1,
      tid: 1,
      ts: 1000 * begin,
      dur: 1000 * milliseconds,
    }));
    await saveAtomic(join(this.#staging, TRACE_FILE), JSON.stringify({ traceEvents, displayTimeUnit: "ms" }));
  }

  /** The fingerprints in use: folder 0700, file 0600. */
  async writeSecrets(fingerprints: readonly WrittenFingerprint[]): Promise<void> {
    const folder = join(this.#staging, SECRET_FOLDER);
    await attempt(folder, () => Deno.mkdir(folder, { recursive: true, mode: 0o700 }));
    await writeFingerprintFile(join(folder, FINGERPRINTS_FILE), fingerprints);
  }

  /** Puts everything in its final place, an older result aside first. */
  async commit(): Promise<void> {
    const old = previousPath(this.outputDir, this.hash);
    const replaces = await exists(this.final);
    if (replaces) await attempt(this.final, () => Deno.rename(this.final, old));
    try {
      await attempt(this.final, () => Deno.rename(this.#staging, this.final));
    } catch (error) {
      if (replaces) await attempt(this.final, () => Deno.rename(old, this.final));
      throw error;
    }
    await syncFolder(dirname(this.final));
    // What can't be removed now, the next run tries again.
    await removeQuietly(old);
  }

  /** Removes what was gathered. */
  async discard(): Promise<void> {
    await removeQuietly(this.#staging);
  }

  /** Puts what was gathered where no run looks for something to remove. @returns its folder */
  async keep(): Promise<string> {
    for (let number = 1;; number++) {
      const kept = `${this.final}.incomplete${number > 1 ? `-${number}` : ""}`;
      if (await exists(kept)) continue;
      try {
        await Deno.rename(this.#staging, kept);
        return kept;
      } catch {
        return this.#staging;
      }
    }
  }

  /** Lets other runs make the same. */
  [Symbol.dispose](): void {
    this.lock[Symbol.dispose]();
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
