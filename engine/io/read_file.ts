/**
 * Reading files whole, of bounded size. What is no regular file is refused before it is opened: opening a FIFO waits for a
 * writer for ever, and a device may never end.
 * @module
 */

/** A file that can't be read; the message names it. */
export class FileReadError extends Error {
  /** Always "FileReadError". */
  override readonly name = "FileReadError";

  /** The message is path and reason. */
  constructor(
    /** The file. */
    readonly path: string,
    /** What was expected and found. */
    readonly reason: string,
    options?: ErrorOptions,
  ) {
    super(`${path}: ${reason}`, options);
  }

  /** Whether it is that there is no such file. */
  get isMissing(): boolean {
    return this.cause instanceof Deno.errors.NotFound;
  }
}

/** How a file is read. */
export interface ReadOptions {
  /** What the file is, for a message: "the tokenizer". */
  what?: string | undefined;
  maxBytes: number;
}

/** The bytes of a regular file, links followed. Throws FileReadError. */
export async function readBytes(path: string, options: ReadOptions): Promise<Uint8Array<ArrayBuffer>> {
  const { what, maxBytes } = options;
  try {
    refuseSize(path, await regularFile(path), maxBytes);
    using file = await Deno.open(path, { read: true });
    return await readAll(path, file, maxBytes);
  } catch (cause) {
    if (cause instanceof FileReadError) throw cause;
    const cannot = what === undefined ? "cannot be read" : `cannot read ${what}`;
    throw new FileReadError(path, `${cannot}: ${whyNot(cause)}`, { cause });
  }
}

/** As {@linkcode readBytes}; undefined if there is no such file. */
export async function readBytesIfThere(
  path: string,
  options: ReadOptions,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    return await readBytes(path, options);
  } catch (error) {
    if (error instanceof FileReadError && error.isMissing) return undefined;
    throw error;
  }
}

/** What is known of a file without opening it. Throws FileReadError if it isn't a regular one, else as Deno.stat. */
export async function regularFile(path: string): Promise<Deno.FileInfo> {
  const info = await Deno.stat(path);
  if (info.isFile) return info;
  throw new FileReadError(path, irregular(info));
}

/** Why what is no regular file isn't read. */
export function irregular({ isDirectory, isFifo }: Pick<Deno.FileInfo, "isDirectory" | "isFifo">): string {
  return `expected a regular file, found ${
    isDirectory ? "a directory" : isFifo ? "a FIFO" : "a device or socket"
  }`;
}

/** By what comes, not by what was said: files grow, and those of /proc have no size. */
async function readAll(
  path: string,
  file: Deno.FsFile,
  maxBytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  let bytes = new Uint8Array(Math.min(maxBytes, (await file.stat()).size) + 1);
  let done = 0;
  for (;;) {
    const count = await file.read(bytes.subarray(done));
    if (count === null) return bytes.subarray(0, done);
    done += count;
    if (done > maxBytes) refuseSize(path, { size: done }, maxBytes);
    if (done < bytes.length) continue;
    const larger = new Uint8Array(Math.min(2 * done, maxBytes) + 1);
    larger.set(bytes);
    bytes = larger;
  }
}

function refuseSize(path: string, { size }: { size: number }, maxBytes: number): void {
  if (size > maxBytes) {
    throw new FileReadError(path, `expected a file of at most ${maxBytes} bytes, found ${size}`);
  }
}

function whyNot(cause: unknown): string {
  if (cause instanceof Deno.errors.NotFound) return "there is no such file";
  if (cause instanceof Deno.errors.PermissionDenied) return "permission denied";
  return (cause as Error).message;
}
