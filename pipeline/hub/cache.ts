/**
 * The cache folder that Hugging Face's Python tools use too. A model has `refs/` (branch or tag → commit),
 * `blobs/` (content by hash) and `snapshots/<commit>/` (links to the blobs by file name).
 * @module
 */

import { getRepoFolderName } from "@huggingface/hub";
import { dirname, join } from "node:path";
import { attempt, saveAtomic } from "../../engine/io/atomic.ts";
import { HubError } from "../../engine/io/hub_errors.ts";
import { delay } from "./http.ts";
import { describeJson, isJsonObject, readJsonObject } from "../../engine/io/json.ts";
import { INDEX_FILE, SINGLE_FILE } from "../../engine/io/weight_files.ts";

const LOCK_POLL_MS = 100;
let temporaries = 0;

/** One model's folder in the cache. */
export class ModelCache {
  /** `models--org--name` in the cache folder. */
  readonly dir: string;
  readonly #locks: string;

  constructor(readonly cacheDir: string, readonly id: string) {
    const folder = getRepoFolderName({ type: "model", name: id });
    this.dir = join(cacheDir, folder);
    this.#locks = join(cacheDir, ".locks", folder);
  }

  /** The folder of a commit's files. */
  snapshot(commit: string): string {
    return join(this.dir, "snapshots", commit);
  }

  /** The file with the content of this hash. */
  blob(etag: string): string {
    return join(this.dir, "blobs", etag);
  }

  /** The commit that a branch or tag was when it was last asked for; undefined if it never was. */
  async readRef(revision: string): Promise<string | undefined> {
    const path = join(this.dir, "refs", revision);
    if (await sizeOf(path) === undefined) return undefined;
    const commit = (await Deno.readTextFile(path)).trim();
    return /^[0-9a-f]{40}$/.test(commit) ? commit : undefined;
  }

  /** Notes which commit a branch or tag is. @throws FileWriteError */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit || await this.readRef(revision) === commit) return;
    const path = join(this.dir, "refs", revision);
    await makeFolder(dirname(path));
    await saveAtomic(path, commit);
  }

  /**
   * What the snapshot lacks of the files that every model needs: configuration, weights with all shards,
   * tokenizer. Blobs and links appear complete or not at all, so what is there is whole.
   */
  async missing(commit: string): Promise<string[]> {
    const dir = this.snapshot(commit);
    const needed = ["config.json", "tokenizer.json", "tokenizer_config.json"];
    if (await sizeOf(join(dir, SINGLE_FILE)) === undefined) {
      const isSharded = await sizeOf(join(dir, INDEX_FILE)) !== undefined;
      needed.push(...isSharded ? await shardNames(join(dir, INDEX_FILE)) : [SINGLE_FILE]);
    }
    const sizes = await Promise.all(needed.map((name) => sizeOf(join(dir, name))));
    return needed.filter((_, i) => sizes[i] === undefined);
  }

  /**
   * Makes a blob appear in a snapshot: a relative link, or where there are no links the file itself.
   *
   * @param isNew nothing else refers to the blob yet: without links it can be moved instead of copied
   * @throws FileWriteError
   */
  async link(commit: string, name: string, etag: string, isNew: boolean): Promise<void> {
    const path = join(this.snapshot(commit), name);
    await makeFolder(dirname(path));
    const temporary = `${path}.${Deno.pid}-${temporaries++}.tmp`;
    try {
      await Deno.symlink(join("..", "..", "blobs", etag), temporary, { type: "file" });
    } catch {
      // Windows without developer mode, file systems without links, or no permission for them.
      if (isNew) return await attempt(path, () => Deno.rename(this.blob(etag), path));
      await attempt(path, () => Deno.copyFile(this.blob(etag), temporary));
    }
    await attempt(path, () => Deno.rename(temporary, path));
  }

  /**
   * Runs `work` while no other process, ours or one of the Python tools, downloads the same blob. Where the
   * file system has no locks both may: that costs time, but both write the same bytes at the same places.
   */
  async locked<T>(etag: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const path = join(this.#locks, `${etag}.lock`);
    await makeFolder(this.#locks);
    using file = await attempt(path, () => Deno.open(path, { write: true, create: true }));
    while (!await tryLock(file)) await delay(LOCK_POLL_MS, signal);
    return await work();
  }
}

/** Bytes of a file, links followed; undefined if there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const info = await Deno.stat(path);
    return info.isFile ? info.size : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

/** Creates a folder and those above it. @throws FileWriteError */
export function makeFolder(path: string): Promise<void> {
  return attempt(path, () => Deno.mkdir(path, { recursive: true }));
}

/**
 * The files that the index of a sharded checkpoint names.
 *
 * @throws HubError if a name is not that of a safetensors file in the same folder
 * @throws JsonFileError if the index is malformed
 */
export async function shardNames(indexPath: string): Promise<string[]> {
  const map = (await readJsonObject(indexPath)).weight_map;
  const names = isJsonObject(map) ? [...new Set(Object.values(map))] : [];
  if (names.length === 0) {
    throw new HubError(
      `${indexPath}: expected weight_map to name a file a tensor, found ${describeJson(map)}`,
    );
  }
  for (const name of names) {
    if (typeof name !== "string" || !/^[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors$/.test(name)) {
      throw new HubError(
        `${indexPath}: expected weight_map to name safetensors files in the same folder, found ${
          describeJson(name)
        }`,
      );
    }
  }
  return names as string[];
}

async function tryLock(file: Deno.FsFile): Promise<boolean> {
  try {
    return await file.tryLock(true);
  } catch {
    return true;
  }
}
