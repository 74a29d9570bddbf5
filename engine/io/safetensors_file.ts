import { FileReadError, regularFile } from "./read_file.ts";
import {
  parseHeader,
  parseHeaderLength,
  SafetensorsError,
  type SafetensorsHeader,
} from "./safetensors_header.ts";

/**
 * An open safetensors file and its header. The handle is kept, so that replacing the file can't mix old and new
 * data.
 */
export class Shard {
  #file: Deno.FsFile | undefined;
  /** The last read that was asked for, while it is not done. */
  #turn: Promise<void> | undefined;

  private constructor(readonly path: string, readonly header: SafetensorsHeader, file: Deno.FsFile) {
    this.#file = file;
  }

  /** Opens a file and checks its header. Throws SafetensorsError. */
  static async open(path: string): Promise<Shard> {
    let file: Deno.FsFile;
    try {
      await regularFile(path);
      file = await Deno.open(path, { read: true });
    } catch (cause) {
      if (cause instanceof FileReadError) throw new SafetensorsError(path, cause.reason, { cause });
      const missing = cause instanceof Deno.errors.NotFound;
      const reason = missing ? "does not exist" : `cannot be opened: ${(cause as Error).message}`;
      throw new SafetensorsError(path, reason, { cause });
    }
    try {
      const fileBytes = (await file.stat()).size;
      const prefix = new Uint8Array(8);
      const found = await readFully(file, prefix);
      const header = new Uint8Array(parseHeaderLength(path, prefix.subarray(0, found), fileBytes));
      if (await readFully(file, header) < header.byteLength) {
        throw new SafetensorsError(path, `ended inside its header of ${header.byteLength} bytes`);
      }
      return new Shard(path, parseHeader(path, header, fileBytes), file);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /**
   * Fills `bytes` from the file's byte `at`. Reads take turns, since a handle has one position; one that finds no other
   * begins before this returns, so that it goes on while the caller computes.
   */
  read(name: string, at: number, bytes: Uint8Array): Promise<void> {
    const result = this.#turn
      ? this.#turn.then(() => this.#read(name, at, bytes))
      : this.#read(name, at, bytes);
    const turn = result.catch(() => {}).then(() => {
      if (this.#turn === turn) this.#turn = undefined;
    });
    this.#turn = turn;
    return result;
  }

  async #read(name: string, at: number, bytes: Uint8Array): Promise<void> {
    if (this.#file === undefined) {
      throw new SafetensorsError(this.path, `tensor ${JSON.stringify(name)}: the checkpoint is closed`);
    }
    this.#file.seekSync(at, Deno.SeekMode.Start);
    const found = await readFully(this.#file, bytes);
    if (found < bytes.byteLength) {
      throw new SafetensorsError(
        this.path,
        `tensor ${JSON.stringify(name)}: expected ${bytes.byteLength} bytes at ${at}, found ${found}: ` +
          `the file has shrunk since it was opened`,
      );
    }
  }

  /** Closes the file; later reads throw. */
  close(): void {
    this.#file?.close();
    this.#file = undefined;
  }
}

async function readFully(file: Deno.FsFile, bytes: Uint8Array): Promise<number> {
  let done = 0;
  while (done < bytes.byteLength) {
    const count = await file.read(bytes.subarray(done));
    if (count === null) break;
    done += count;
  }
  return done;
}
