import { dirname, join } from "node:path";
import { attempt, removeQuietly, saveAtomic, syncFolder } from "../../engine/io/atomic.ts";
import type { KernelSpan } from "../../engine/gpu/profiler.ts";
import { CONFIG_FILE, FINGERPRINTS_FILE, MODEL_FOLDER, SECRET_FOLDER } from "../measure/found_results.ts";
import type { WrittenFingerprint } from "../fingerprints/file.ts";
import { writeFingerprintFile } from "../fingerprints/file.ts";

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

/**
 * A run's results, gathered in a hidden folder beside the final one and put in place by one rename, so that a run that
 * stops leaves nothing that looks finished.
 */
export class ResultsWriter {
  readonly final: string;
  readonly #staging: string;

  private constructor(outputDir: string, readonly hash: string) {
    this.final = join(outputDir, hash);
    this.#staging = join(outputDir, `.${hash}.partial`);
  }

  /**
   * @throws ResultsExistError when results of the same run are there and `force` is false
   * @throws ResultsError when the folder can't be written
   */
  static async open(outputDir: string, hash: string, force: boolean): Promise<ResultsWriter> {
    const writer = new ResultsWriter(outputDir, hash);
    if (!force && await exists(writer.final)) throw new ResultsExistError(writer.final);
    try {
      await Deno.mkdir(outputDir, { recursive: true });
      // What a killed run left behind.
      await Deno.remove(writer.#staging, { recursive: true }).catch(ignoreMissing);
      await Deno.mkdir(writer.#staging);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new ResultsError(`the results folder ${outputDir} can't be written: ${reason}`);
    }
    return writer;
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
    await attempt(folder, () => Deno.mkdir(folder, { mode: 0o700 }));
    await writeFingerprintFile(join(folder, FINGERPRINTS_FILE), fingerprints);
  }

  /** Puts everything in its final place, an older result aside first. */
  async commit(): Promise<void> {
    const old = `${this.#staging}.old`;
    if (await exists(this.final)) await attempt(this.final, () => Deno.rename(this.final, old));
    await attempt(this.final, () => Deno.rename(this.#staging, this.final));
    await syncFolder(dirname(this.final));
    await Deno.remove(old, { recursive: true }).catch(ignoreMissing);
  }

  /** Removes what was gathered. */
  async discard(): Promise<void> {
    await removeQuietly(this.#staging);
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
