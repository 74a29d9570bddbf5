/**
 * Whether files are still what they were: by size, time of the last change, and inode.
 * @module
 */
import { stat } from "node:fs/promises";

/** What stood at each path; null where there was no file. */
export type FileStamps = ReadonlyMap<string, string | null>;

/** Looks at files, links followed. */
export async function stampFiles(paths: Iterable<string>): Promise<FileStamps> {
  const stamps = new Map<string, string | null>();
  for (const path of paths) stamps.set(path, await stamp(path));
  return stamps;
}

/** The files that are other ones than they were, or gone, or new. */
export async function changedFiles(stamps: FileStamps): Promise<string[]> {
  const changed: string[] = [];
  for (const [path, before] of stamps) if (await stamp(path) !== before) changed.push(path);
  return changed;
}

async function stamp(path: string): Promise<string | null> {
  try {
    const { size, mtimeNs, ino } = await stat(path, { bigint: true });
    return `${size} ${mtimeNs} ${ino}`;
  } catch {
    return null;
  }
}
