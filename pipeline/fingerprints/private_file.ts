/**
 * Files that hold secrets: for their owner only, and what is written is never reached through a link.
 * @module
 */
import { irregular } from "../../engine/io/read_file.ts";

/** What {@linkcode privacyFault} looks at. */
export type FileFacts = Pick<Deno.FileInfo, "mode" | "isSymlink" | "isFile" | "isDirectory" | "isFifo">;

/**
 * Why a file that holds secrets can't be used as it is, with the line that mends it; undefined if nothing is wrong.
 * @param info of `lstat`, where a link is refused too; of `stat`, where one may be followed
 */
export function privacyFault(path: string, info: FileFacts): string | undefined {
  if (info.isSymlink) {
    return "expected a file of its own, found a link; nothing is written through a link: put the file itself there";
  }
  if (!info.isFile) return irregular(info);
  const others = exposedMode(info);
  if (others === undefined) return undefined;
  return `expected a secret that only its owner can read, found mode 0${others.toString(8)}: ` +
    `whoever could read it has it; if that was nobody: chmod 600 ${quoted(path)}`;
}

/** The mode of a file that others than its owner may read or write; undefined where there are none. */
export function exposedMode({ mode }: Pick<Deno.FileInfo, "mode">): number | undefined {
  if (mode === null || Deno.build.os === "windows") return undefined;
  // What is no program and yet may be run lies on a file system that keeps no modes (FAT, a share of Windows).
  const keepsModes = (mode & 0o111) !== 0o111;
  return keepsModes && (mode & 0o077) !== 0 ? mode & 0o777 : undefined;
}

/** For a shell. */
function quoted(path: string): string {
  return /^[\w./@%+=:,-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}
