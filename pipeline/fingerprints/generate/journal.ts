/**
 * What a run of generation has done so far, in `<file>.partial`: a line with the settings, then one a batch.
 * A run that is stopped, however, goes on after the last whole line.
 * @module
 */

import { attempt, FileWriteError, writeAll } from "../../../engine/io/atomic.ts";
import { withFileSizeSignal } from "../../../engine/io/file_size_signal.ts";
import { JsonFileError, type JsonOptions, parseJson, readJsonBytes } from "../../../engine/io/json.ts";
import { FileReadError, regularFile } from "../../../engine/io/read_file.ts";
import type { WrittenFingerprint } from "../file.ts";
import { FileLock, LockedError, ownerText } from "../../../engine/io/lock.ts";
import { GenerateFileError } from "./errors.ts";
import { generateLockPath } from "./leftovers.ts";

/** A batch of attempts. */
export interface Batch {
  /** How each ended: "" if it gave a fingerprint, else why not. */
  outcomes: string[];
  /** The fingerprints, in order. */
  entries: WrittenFingerprint[];
}

/** What a run's result depends on, by name. */
export type RunIdentity = Readonly<Record<string, unknown>>;

const NAME = "whorl generate 1";
const FILE: JsonOptions = { what: "the journal", maxBytes: 384 * 2 ** 20, secret: true };

interface Header {
  journal: typeof NAME;
  /** Whether the file that is there is to be replaced. */
  replaces: boolean;
  run: RunIdentity;
}

/** Where the journal of a fingerprint file is. */
function journalPath(path: string): string {
  return `${path}.partial`;
}

/** The journal of one run, locked against other processes until it is closed. */
export class Journal implements Disposable {
  #bytes: number;

  private constructor(
    readonly path: string,
    readonly file: Deno.FsFile,
    readonly lock: FileLock,
    bytes: number,
  ) {
    this.#bytes = bytes;
  }

  /**
   * Opens the journal of a fingerprint file, making an empty one that goes away again when nothing is begun
   * in it.
   * @throws GenerateFileError when another process has it
   * @throws FileWriteError
   */
  static async open(outputPath: string): Promise<Journal> {
    const path = journalPath(outputPath);
    await refuseIrregular(path);
    const lock = await FileLock.take(generateLockPath(outputPath)).catch((error) => {
      // The user named a file, and knows of no lock.
      if (error instanceof FileWriteError) {
        throw new FileWriteError(path, error.reason, error.code, { cause: error });
      }
      if (!(error instanceof LockedError)) throw error;
      const reason = `another process is making these fingerprints: ${ownerText(error.owner)}`;
      throw new GenerateFileError(path, reason, { cause: error });
    });
    let file: Deno.FsFile | undefined;
    try {
      const options = { read: true, write: true, create: true, mode: 0o600 };
      file = await attempt(path, () => Deno.open(path, options));
      if (Deno.build.os !== "windows") await attempt(path, () => Deno.chmod(path, 0o600));
      return new Journal(path, file, lock, (await file.stat()).size);
    } catch (error) {
      file?.close();
      lock[Symbol.dispose]();
      throw error;
    }
  }

  /** Whether it is a run's that was allowed to replace the file that is there. */
  async replaces(): Promise<boolean> {
    const [first = ""] = (await readText(this.path)).split("\n");
    return parseLine<Header>(this.path, first)?.replaces === true;
  }

  /**
   * Goes on with a stopped run; begins anew if there is none, and with `force` always.
   * @returns the batches so far
   * @throws GenerateFileError when it is another run's
   */
  async begin(run: RunIdentity, force: boolean): Promise<Batch[]> {
    const { batches, bytes } = read(this.path, force ? "" : await readText(this.path), run);
    await attempt(this.path, () => this.file.truncate(bytes));
    await this.file.seek(bytes, Deno.SeekMode.Start);
    this.#bytes = bytes;
    if (bytes === 0) await this.#append({ journal: NAME, replaces: force, run } satisfies Header);
    return batches;
  }

  /** Adds a batch; when this returns it is on the disk. */
  async append(batch: Batch): Promise<void> {
    await this.#append(batch);
  }

  /** Removes the journal of a file that is finished. */
  async remove(): Promise<void> {
    await attempt(this.path, () => Deno.remove(this.path));
  }

  async #append(value: unknown): Promise<void> {
    const bytes = new TextEncoder().encode(JSON.stringify(value) + "\n");
    this.#bytes += bytes.length;
    await withFileSizeSignal(
      () =>
        attempt(this.path, async () => {
          await writeAll(this.file, bytes);
          await this.file.sync();
        }),
      (error) => error instanceof FileWriteError && error.code === "EFBIG",
    );
  }

  [Symbol.dispose](): void {
    this.file.close();
    try {
      if (this.#bytes === 0) Deno.removeSync(this.path);
    } catch {
      // It is removed already, or an empty file is left; the next run takes it.
    }
    this.lock[Symbol.dispose]();
  }
}

/** Whole lines of a journal. */
function read(path: string, text: string, run: RunIdentity): { batches: Batch[]; bytes: number } {
  // A line is written before its end, so what comes after the last end is torn.
  const lines = text.slice(0, text.lastIndexOf("\n") + 1).split("\n").slice(0, -1);
  if (lines.length === 0) return { batches: [], bytes: 0 };
  const parsed = lines.map((line) => parseLine<Record<string, unknown>>(path, line));
  const last = parsed.at(-1) === undefined ? parsed.length - 1 : parsed.length;
  const header = parsed[0] as Header | undefined;
  const isWhole = parsed.slice(1, last).every((line) =>
    Array.isArray(line?.outcomes) && Array.isArray(line.entries) &&
    line.entries.length === line.outcomes.filter((outcome) => outcome === "").length
  );
  if (header?.journal !== NAME || !isWhole) {
    throw new GenerateFileError(path, "this journal of a stopped run is broken: --force begins anew");
  }
  refuseOther(path, header.run, run);
  const kept = lines.slice(0, last).map((line) => line + "\n").join("");
  return {
    batches: parsed.slice(1, last) as unknown as Batch[],
    bytes: new TextEncoder().encode(kept).length,
  };
}

function refuseOther(path: string, was: RunIdentity, is: RunIdentity): void {
  const shown = (value: unknown) => JSON.stringify(value) ?? "nothing";
  const names = new Set([...Object.keys(was), ...Object.keys(is)]);
  const changes = [...names].filter((name) => shown(was[name]) !== shown(is[name]))
    .map((name) => `${name} was ${shown(was[name])}, is ${shown(is[name])}`);
  if (changes.length === 0) return;
  throw new GenerateFileError(
    path,
    `the stopped run had other settings (${changes.join("; ")}): give it those, or --force to begin anew`,
  );
}

function parseLine<T>(path: string, line: string): T | undefined {
  try {
    return parseJson(path, line, FILE) as T;
  } catch {
    return undefined;
  }
}

async function readText(path: string): Promise<string> {
  try {
    // The last line may be torn, inside a character too.
    return new TextDecoder().decode(await readJsonBytes(path, FILE));
  } catch (cause) {
    if (!(cause instanceof JsonFileError)) throw cause;
    if (cause.isMissing) return "";
    throw new GenerateFileError(path, cause.reason, { cause });
  }
}

/** What is no regular file isn't ours to open, nor to remove. */
async function refuseIrregular(path: string): Promise<void> {
  try {
    await regularFile(path);
  } catch (cause) {
    if (cause instanceof FileReadError) throw new GenerateFileError(path, cause.reason, { cause });
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
  }
}
