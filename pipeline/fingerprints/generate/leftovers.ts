/**
 * Copies of fingerprints that killed runs of generation left beside their files: temporary files of a write that was cut
 * off, and journals of files that are finished. A journal of an unfinished file is no leftover: its run goes on with it.
 * @module
 */
import { basename, dirname, join } from "node:path";
import { FileLock } from "../../../engine/io/lock.ts";
import { holdsFingerprints } from "../../../engine/io/secret_content.ts";
import { fingerprintText, type WrittenFingerprint } from "../file.ts";

/** Of `replaceFile`: `.<file>.<process>-<number>.tmp`. */
const TEMPORARY = /^\.(.+)\.\d+-\d+\.tmp$/;
const JOURNAL = ".partial";
/** More than a journal that a run goes on with. */
const MAX_BYTES = 384 * 2 ** 20;

/** The lock of whoever makes a fingerprint file. */
export function generateLockPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.lock`);
}

/**
 * Removes what killed runs left in a folder, of every file that nobody is making now.
 * @param except a file whose leftovers its own run deals with
 * @returns what was removed
 */
export async function removeLeftovers(folder: string, except?: string): Promise<string[]> {
  const removed: string[] = [];
  const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name).catch(() => []);
  for (const name of names.sort()) {
    const path = join(folder, name);
    const [, temporary] = TEMPORARY.exec(name) ?? [];
    const file = temporary !== undefined
      ? join(folder, temporary.replace(/\.secret(?:\.[0-9a-f]{16})?$/, ""))
      : name.endsWith(JOURNAL)
      ? path.slice(0, -JOURNAL.length)
      : undefined;
    if (file === undefined || file === except) continue;
    try {
      if (!(await Deno.lstat(path)).isFile) continue;
      const isOurs = temporary !== undefined
        ? (await Deno.stat(path)).size === 0 || await holdsFingerprints(path)
        : await isFinished(file);
      if (!isOurs) continue;
      const lock = await FileLock.tryTake(generateLockPath(file), true);
      if (!(lock instanceof FileLock)) continue;
      using _ = lock;
      await Deno.remove(path);
      removed.push(path);
    } catch {
      // Somebody else's, or gone by now.
    }
  }
  return removed;
}

/** Removes the temporary files of one fingerprint file and its secret; its lock must be held. */
export async function removeTemporaries(path: string): Promise<void> {
  const folder = dirname(path), file = basename(path);
  for await (const { name, isFile } of Deno.readDir(folder)) {
    const [, of = ""] = TEMPORARY.exec(name) ?? [];
    const isOurs = of.startsWith(file) && /^(?:\.secret(?:\.[0-9a-f]{16})?)?$/.test(of.slice(file.length));
    if (isFile && isOurs) await Deno.remove(join(folder, name)).catch(() => {});
  }
}

/** Whether a fingerprint file is just what its journal says: the run that made it was killed before the journal's end. */
export async function isFinished(path: string): Promise<boolean> {
  try {
    const journal = `${path}${JOURNAL}`;
    const info = await Deno.lstat(journal);
    if (!info.isFile || info.size === 0 || info.size > MAX_BYTES) return false;
    const [header, ...lines] = (await Deno.readTextFile(journal)).trimEnd().split("\n").map((line) =>
      JSON.parse(line)
    );
    if (typeof header?.journal !== "string") return false;
    const entries: WrittenFingerprint[] = lines.flatMap((line) => line.entries ?? []);
    if (entries.length === 0) return false;
    const text = await Deno.readTextFile(path);
    // Of the whole set, so that no line of a journal has it.
    const set_commitment = /"set_commitment":"([0-9a-f]{64})"/.exec(text)?.[1];
    return text === fingerprintText(entries.map((entry) => ({ ...entry, set_commitment })));
  } catch {
    return false;
  }
}
