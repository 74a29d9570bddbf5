/**
 * What a run of generation has done so far, in `<file>.partial`: a line with the settings, then one a batch.
 * A run that is stopped, however, goes on after the last whole line.
 *
 * Each line is a JSON object with its number, from 1, and at its end a hash over the hash of the line before and the
 * line without its hash, so that a line that is missing, repeated, swapped or changed is found. The hash has no key: it
 * is against damage. Whoever can write a file that its owner alone may read and write can do as its owner can.
 * @module
 */

import { createHash } from "node:crypto";
import { z } from "zod";
import { attempt, FileWriteError, writeAll } from "../../../engine/io/atomic.ts";
import { withFileSizeSignal } from "../../../engine/io/file_size_signal.ts";
import {
  isJsonObject,
  JsonFileError,
  type JsonOptions,
  parseJson,
  readJsonBytes,
} from "../../../engine/io/json.ts";
import { FileReadError, regularFile } from "../../../engine/io/read_file.ts";
import type { WrittenFingerprint } from "../file.ts";
import { FileLock, LockedError, ownerText } from "../../../engine/io/lock.ts";
import { privacyFault } from "../private_file.ts";
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

const NAME = "whorl generate 2";
/** Without numbers and hashes. */
const OLD_NAME = "whorl generate 1";
const FILE: JsonOptions = { what: "the journal", maxBytes: 384 * 2 ** 20, secret: true };

const headerSchema = z.object({
  journal: z.literal(NAME),
  /** Whether the file that is there is to be replaced. */
  replaces: z.boolean(),
  run: z.record(z.string(), z.unknown()),
});

type Header = z.output<typeof headerSchema>;

const texts = z.union([z.string(), z.array(z.string())]);
const ids = z.array(z.int().min(0)).min(1);
const entrySchema = z.looseObject({
  key: z.string(),
  response: texts,
  key_ids: ids,
  response_ids: z.union([ids, z.array(ids).min(1)]),
});
const batchSchema = z.object({ outcomes: z.array(z.string()), entries: z.array(entrySchema) })
  .refine(({ outcomes, entries }) => entries.length === outcomes.filter((outcome) => outcome === "").length);

/** Where the journal of a fingerprint file is. */
function journalPath(path: string): string {
  return `${path}.partial`;
}

/** The journal of one run, locked against other processes until it is closed. */
export class Journal implements Disposable {
  #bytes: number;
  /** Of the last line. */
  #hash = "";
  #lines = 0;

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
   * @throws GenerateFileError when another process has it, when it is a link, or readable by others
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
      const info = await Deno.lstat(path).catch(() => undefined);
      const fault = info && privacyFault(path, info);
      if (fault !== undefined) throw new GenerateFileError(path, fault);
      // One made anew can't be the target of a link; of one that was there it is seen below.
      const options = { read: true, write: true, ...(info ? {} : { createNew: true, mode: 0o600 }) };
      file = await attempt(path, () => Deno.open(path, options));
      if (!await isSame(path, file)) {
        throw new GenerateFileError(
          path,
          "expected a file that stays in its place, found it replaced meanwhile",
        );
      }
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
    return (parseLine(this.path, first) as Partial<Header> | null | undefined)?.replaces === true;
  }

  /**
   * Goes on with a stopped run; begins anew if there is none, and with `force` always.
   * @returns the batches so far
   * @throws GenerateFileError when it is another run's, or damaged: which line, and how; it stays as it is
   */
  async begin(run: RunIdentity, force: boolean): Promise<Batch[]> {
    const { batches, bytes, hash } = read(this.path, force ? "" : await readText(this.path), run);
    await attempt(this.path, () => this.file.truncate(bytes));
    await this.file.seek(bytes, Deno.SeekMode.Start);
    this.#bytes = bytes;
    this.#hash = hash;
    this.#lines = bytes === 0 ? 0 : 1 + batches.length;
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

  async #append(value: object): Promise<void> {
    const content = JSON.stringify({ ...value, line: ++this.#lines });
    this.#hash = hashOf(this.#hash, content);
    const bytes = new TextEncoder().encode(`${content.slice(0, -1)},"hash":"${this.#hash}"}\n`);
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

/** Running hash after a line, hex. */
function hashOf(before: string, content: string): string {
  return createHash("sha256").update(`${before}\n${content}`).digest("hex");
}

/** What whole lines of a journal hold, their bytes, and the hash of the last one. */
interface Read {
  batches: Batch[];
  bytes: number;
  hash: string;
}

function read(path: string, text: string, run: RunIdentity): Read {
  const whole = wholeLines(text);
  const lines = whole.split("\n").slice(0, -1);
  let hash = "";
  const batches: Batch[] = [];
  for (const [index, line] of lines.entries()) {
    const fail = (why: string): never => {
      throw new GenerateFileError(
        path,
        `this journal of a stopped run is damaged at line ${
          index + 1
        }: ${why}. Nothing was changed; --force begins anew`,
      );
    };
    const value = parseLine(path, line);
    if (!isJsonObject(value)) fail("it is not a JSON object");
    if (index === 0 && (value as Partial<Record<"journal", unknown>>).journal === OLD_NAME) {
      throw new GenerateFileError(
        path,
        "this journal of a stopped run is of an older Whorl, which gave its lines no hashes: that one can finish it, " +
          "--force begins anew",
      );
    }
    const { line: number, ...content } = value as Record<string, unknown>;
    if (number !== index + 1) {
      fail(
        Number.isInteger(number)
          ? `expected line number ${
            index + 1
          }, found ${number}: a line is missing, repeated or in another place`
          : "it has no number",
      );
    }
    const end = /,"hash":"([0-9a-f]{64})"\}$/.exec(line);
    hash = hashOf(hash, end ? line.slice(0, end.index) + "}" : line);
    if (end?.[1] !== hash) {
      fail("its hash doesn't follow from it and the lines before, so something was changed");
    }
    if (index === 0) {
      const header = headerSchema.safeParse(content);
      if (!header.success) fail("expected the settings of a run");
      else refuseOther(path, header.data.run, run);
    } else {
      const batch = batchSchema.safeParse(content);
      if (!batch.success) fail("expected what a batch of attempts gave, with its fingerprints");
      const { hash: _, ...fields } = content;
      batches.push(fields as unknown as Batch);
    }
  }
  return { batches, bytes: new TextEncoder().encode(whole).length, hash };
}

/** A journal's text without a last line that was torn when its run was killed. */
function wholeLines(text: string): string {
  // A line is written before its end, so what comes after the last end is torn.
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  const last = whole.slice(0, -1).lastIndexOf("\n") + 1;
  // Blocks that a crash of the machine left unwritten are zeros, which no JSON has.
  return whole.includes("\0", last) ? whole.slice(0, last) : whole;
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

function parseLine(path: string, line: string): unknown {
  try {
    return parseJson(path, line, FILE);
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

/** Whether an open file is still the one at a path, not one that a link there leads to. */
async function isSame(path: string, file: Deno.FsFile): Promise<boolean> {
  if (Deno.build.os === "windows") return true;
  const [there, open] = await Promise.all([Deno.lstat(path).catch(() => undefined), file.stat()]);
  return there?.ino === open.ino && there?.dev === open.dev;
}
