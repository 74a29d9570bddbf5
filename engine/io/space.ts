import { dirname } from "node:path";
import { statfs } from "node:fs/promises";
import { FileWriteError } from "./atomic.ts";

/**
 * Refuses what a disk has no room for, before it is begun. Where the system doesn't say how much is free, nothing is.
 * @param folder where it goes; it need not be there yet
 * @param what needs the bytes, and what else would do
 * @throws FileWriteError
 */
export async function requireSpace(
  folder: string,
  bytes: number,
  { what, instead }: { what: string; instead: string },
): Promise<void> {
  const free = await freeBytes(folder);
  // Some network file systems say 0 and mean that they don't know.
  if (!free || free >= bytes) return;
  const reason = `${what} needs ${sizeText(bytes)}, and ${sizeText(free)} are free (${instead})`;
  throw new FileWriteError(folder, reason, "ENOSPC");
}

/** Bytes free for us on the disk of a folder, or of the one that it would be made in; undefined if nobody says. */
export async function freeBytes(folder: string): Promise<number | undefined> {
  // Nobody is asked for a permission in the middle of a run.
  if ((await Deno.permissions.query({ name: "sys", kind: "statfs" })).state !== "granted") return undefined;
  for (let path = folder;; path = dirname(path)) {
    try {
      const { bavail, bsize } = await statfs(path);
      return bavail * bsize;
    } catch (error) {
      if ((error as { code?: string }).code !== "ENOENT" || path === dirname(path)) return undefined;
    }
  }
}

function sizeText(bytes: number): string {
  const [unit, size] = bytes < 2 ** 20
    ? ["KiB", 2 ** 10]
    : bytes < 2 ** 30
    ? ["MiB", 2 ** 20]
    : ["GiB", 2 ** 30];
  return `${(bytes / size).toFixed(1)} ${unit}`;
}
