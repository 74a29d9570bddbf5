import { basename, dirname, join } from "node:path";
import { withFileSizeSignal } from "./file_size_signal.ts";

/** A file or folder that could not be written; `code` is "ENOSPC", "EFBIG", … where the system gave one. */
export class FileWriteError extends Error {
  /** Always "FileWriteError". */
  override readonly name = "FileWriteError";
  /** `reason` is what the system said, for a person. */
  constructor(
    readonly path: string,
    readonly reason: string,
    readonly code?: string,
    options?: ErrorOptions,
  ) {
    super(`cannot write ${path}: ${reason}`, options);
  }

  /** Describes what the system answered to a write; an error of this class is returned as it is. */
  static from(path: string, cause: unknown): FileWriteError {
    if (cause instanceof FileWriteError) return cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    const code = systemCode(cause, message);
    return new FileWriteError(path, REASONS[code ?? ""] ?? message, code, { cause });
  }
}

const REASONS: Record<string, string> = {
  ENOSPC: "no space left on the disk (ENOSPC)",
  EFBIG: "the file would exceed the process's file size limit (EFBIG; see ulimit -f)",
  EDQUOT: "disk quota exceeded (EDQUOT)",
  EACCES: "permission denied (EACCES)",
  EROFS: "the file system is read-only (EROFS)",
  ENOENT: "its folder does not exist (ENOENT)",
};

function systemCode(cause: unknown, message: string): string | undefined {
  const code = (cause as { code?: unknown } | null)?.code;
  if (typeof code === "string") return code;
  // Deno gives EFBIG no code; 27 on Linux, macOS and the BSDs.
  if (/\(os error 27\)/.test(message) && Deno.build.os !== "windows") return "EFBIG";
  return undefined;
}

/** Appends to the file being written; the bytes may be reused once the promise resolves. */
export type Append = (bytes: Uint8Array) => Promise<void>;

let temporaries = 0;

/**
 * Creates or replaces one file: what `produce` appends goes to a temporary file in the same folder, which is
 * synced and renamed to `path`. On any error nothing is left and an existing file stays as it was.
 *
 * @param options.mode permission bits of the file, exactly (default: 0o666 less the umask)
 * @throws FileWriteError naming `path` when the system refuses; an error of `produce` passes unchanged
 */
export async function replaceFile(
  path: string,
  produce: (append: Append) => Promise<void>,
  options: { mode?: number } = {},
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${Deno.pid}-${temporaries++}.tmp`);
  const { mode } = options;
  await withFileSizeSignal(async () => {
    const file = await attempt(
      path,
      () => Deno.open(temporary, { write: true, createNew: true, ...(mode === undefined ? {} : { mode }) }),
    );
    let renamed = false;
    try {
      try {
        if (mode !== undefined && Deno.build.os !== "windows") {
          await attempt(path, () => Deno.chmod(temporary, mode));
        }
        await produce((bytes) => attempt(path, () => writeAll(file, bytes)));
        await attempt(path, () => file.sync());
      } finally {
        file.close();
      }
      await attempt(path, () => Deno.rename(temporary, path));
      renamed = true;
    } finally {
      if (!renamed) await removeQuietly(temporary);
    }
    await syncFolder(dirname(path));
  }, (error) => error instanceof FileWriteError && error.code === "EFBIG");
}

/** Writes a small file whole, as {@link replaceFile} does. */
export function saveAtomic(
  path: string,
  content: Uint8Array | string,
  options: { mode?: number } = {},
): Promise<void> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return replaceFile(path, (append) => append(bytes), options);
}

/** Makes a rename inside `folder` durable, where the platform can sync a folder. */
export async function syncFolder(folder: string): Promise<void> {
  try {
    using handle = await Deno.open(folder, { read: true });
    await handle.sync();
  } catch {
    // Windows and some network file systems can't open or sync a folder; the content is synced already.
  }
}

/** Removes a file or folder. Its absence and any failure are ignored: the error that led here matters more. */
export async function removeQuietly(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch {
    // See above.
  }
}

/** Runs a system call and turns its failure into a FileWriteError about `path`. */
export async function attempt<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw FileWriteError.from(path, error);
  }
}

/** Writes all bytes at the file's position; a system call may take fewer. */
export async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.byteLength) {
    const written = await file.write(bytes.subarray(done));
    if (written === 0) throw new Error(`the system took ${done} of ${bytes.byteLength} bytes`);
    done += written;
  }
}
