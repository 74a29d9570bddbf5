/**
 * Downloads a file of a model into the cache's blobs: resumed where it was cut, checked, renamed into place.
 * @module
 */

import { createHash, type Hash } from "node:crypto";
import { dirname } from "node:path";
import { attempt, removeQuietly, syncFolder, writeAll } from "../../engine/io/atomic.ts";
import { sizeOf } from "./cache.ts";
import { HubIntegrityError, TransientHubError } from "../../engine/io/hub_errors.ts";
import { type HubClient, Watchdog } from "./http.ts";

const READ_BYTES = 1024 * 1024;

/** A file of a commit, as the Hub lists it. */
export interface HubFile {
  name: string;
  bytes: number;
  /** Its ETag and name in the cache: the SHA-256 of a large (LFS) file, else the git hash. In hexadecimal. */
  etag: string;
}

/** Options of {@link downloadBlob}. */
export interface DownloadBlobOptions {
  signal?: AbortSignal | undefined;
  /** Called with the bytes of the file that are on disk; they fall back to 0 if it must begin anew. */
  onBytes?: ((bytes: number) => void) | undefined;
}

/**
 * Downloads a file's content to `blobPath`. Until it is complete and has the right hash it is
 * `<blobPath>.incomplete`, which stays after an interruption and is resumed by the next call.
 *
 * @throws HubIntegrityError if size or hash are wrong, also after beginning anew once; nothing is left then
 * @throws FileWriteError; what {@link HubClient.retry} throws; the signal's reason
 */
export async function downloadBlob(
  client: HubClient,
  url: string,
  file: HubFile,
  blobPath: string,
  options: DownloadBlobOptions = {},
): Promise<void> {
  const partial = `${blobPath}.incomplete`;
  for (const isLast of [false, true]) {
    try {
      await complete(client, url, file, partial, options);
      break;
    } catch (error) {
      if (!(error instanceof HubIntegrityError)) throw error;
      await removeQuietly(partial);
      options.onBytes?.(0);
      if (isLast) throw error;
    }
  }
  await attempt(blobPath, async () => {
    try {
      await Deno.rename(partial, blobPath);
    } catch (error) {
      // Without working locks another process may have finished the same file.
      if (await sizeOf(blobPath) !== file.bytes) throw error;
    }
  });
  await syncFolder(dirname(blobPath));
}

/** Adds what is missing to the partial file, and checks the whole. */
async function complete(
  client: HubClient,
  url: string,
  file: HubFile,
  partial: string,
  { signal, onBytes }: DownloadBlobOptions,
): Promise<void> {
  using disk = await attempt(
    partial,
    () => Deno.open(partial, { read: true, write: true, create: true }),
  );
  const present = (await disk.stat()).size;
  if (present > file.bytes) throw mismatch(file, `${file.bytes} bytes`, `${present} in ${partial}`);
  let hash = newHash(file);
  let received = 0;
  const buffer = new Uint8Array(READ_BYTES);
  for (let count: number | null; (count = await disk.read(buffer)) !== null;) {
    signal?.throwIfAborted();
    hash.update(buffer.subarray(0, count));
    received += count;
  }
  onBytes?.(received);
  let furthest = received;

  await client.retry(`${client.subject.id}: ${file.name}`, { signal }, async (progressed) => {
    if (received === file.bytes) return;
    using watchdog = new Watchdog(client.stallMs, signal);
    // Compressed, the bytes would not be those of the range.
    const headers = new Headers({ "accept-encoding": "identity" });
    if (received > 0) headers.set("range", `bytes=${received}-`);
    const response = await client.request(url, headers, watchdog.signal);
    if (!await continues(response, file, received)) {
      hash = newHash(file);
      received = 0;
      await disk.seek(0, Deno.SeekMode.Start);
      onBytes?.(0);
    }
    for await (const bytes of bodyOf(client, response, url, watchdog.signal)) {
      watchdog.feed();
      if (received + bytes.byteLength > file.bytes) throw mismatch(file, `${file.bytes} bytes`, "more");
      await attempt(partial, () => writeAll(disk, bytes));
      hash.update(bytes);
      received += bytes.byteLength;
      // Not what was there before: a server without ranges that always breaks off must not be asked for ever.
      if (received > furthest) progressed();
      furthest = Math.max(furthest, received);
      onBytes?.(received);
    }
    if (received < file.bytes) {
      throw new TransientHubError(`the connection ended after ${received} of ${file.bytes} bytes`);
    }
  });

  const found = hash.digest("hex");
  if (found !== file.etag) throw mismatch(file, `the ${hashName(file)} ${file.etag}`, found);
  await attempt(partial, () => disk.sync());
}

/** Whether the answer goes on where the file ends (or, with nothing received, begins it). */
async function continues(response: Response, file: HubFile, received: number): Promise<boolean> {
  if (response.status === 200) return received === 0;
  const range = response.headers.get("content-range") ?? "";
  const [, first, total] = /^bytes (?:(\d+)-\d+|\*)\/(\d+|\*)$/.exec(range) ?? [];
  if (
    response.status === 206 && Number(first) === received && (total === "*" || Number(total) === file.bytes)
  ) {
    return true;
  }
  await response.body?.cancel();
  const found = `HTTP ${response.status} with the range ${JSON.stringify(range)}`;
  throw mismatch(file, `${file.bytes} bytes`, `${found} from byte ${received} on`);
}

/** The body's pieces; a connection that breaks becomes a TransientHubError. */
async function* bodyOf(
  client: HubClient,
  response: Response,
  url: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  if (response.body === null) return;
  const reader = response.body.getReader();
  try {
    while (true) {
      const piece = await reader.read();
      if (piece.done) return;
      yield piece.value;
    }
  } catch (cause) {
    throw client.cut(cause, new URL(url).host, signal);
  } finally {
    await reader.cancel().catch(() => {});
  }
}

const isSha256 = (file: HubFile) => file.etag.length === 64;
const hashName = (file: HubFile) => isSha256(file) ? "SHA-256" : "git hash";

/** SHA-256 of the content, or git's blob hash: SHA-1 of "blob <size>\0" and the content. */
function newHash(file: HubFile): Hash {
  return isSha256(file) ? createHash("sha256") : createHash("sha1").update(`blob ${file.bytes}\0`);
}

function mismatch(file: HubFile, expected: string, found: string): HubIntegrityError {
  return new HubIntegrityError(
    `${file.name}: the download is not what the Hub lists: expected ${expected}, found ${found}`,
  );
}
