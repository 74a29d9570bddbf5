/**
 * Models of the Hugging Face Hub as local folders, in the cache that Hugging Face's Python tools use too.
 * @module
 */

import { dirname, join } from "node:path";
import { FileWriteError } from "../../engine/io/atomic.ts";
import { requireSpace } from "../../engine/io/space.ts";
import { withFileSizeSignal } from "../../engine/io/file_size_signal.ts";
import { makeFolder, ModelCache, shardNames, sizeOf } from "./cache.ts";
import { HubError, HubNotFoundError, HubUnreachableError } from "../../engine/io/hub_errors.ts";
import { downloadBlob, type HubFile } from "./file.ts";
import { HubClient, type HubConnection } from "./http.ts";
import { listModel, neededFiles, resolveRevision } from "./listing.ts";
import { INDEX_FILE } from "../../engine/io/weight_files.ts";

export {
  HubAccessError,
  HubError,
  HubIntegrityError,
  HubNotFoundError,
  HubUnreachableError,
} from "../../engine/io/hub_errors.ts";

/** A model on the Hub. */
export interface HubModel {
  /** `org/name`. */
  id: string;
  /** Branch, tag or commit; default "main". */
  revision?: string | undefined;
}

/** How far a download is, over all files of the model; what was already there counts as done. */
export interface HubProgress {
  /** The file that is being read, by its name in the repository. */
  file: string;
  /** Bytes there, of all files. */
  bytesDone: number;
  /** Bytes of all files. */
  bytesTotal: number;
}

/** Options of {@link downloadModel}. */
export interface DownloadModelOptions extends HubConnection {
  /** The cache folder: `~/.cache/huggingface/hub` unless set otherwise. */
  cacheDir: string;
  /** Ask nobody; take what the cache has. */
  offline?: boolean | undefined;
  /** Only config.json, to plan memory without the weights. */
  configOnly?: boolean | undefined;
  /** Ends the download; what is there stays, and a later call goes on from it. */
  signal?: AbortSignal | undefined;
  /** Called about once a MiB, and when a file is complete. */
  onProgress?: ((progress: HubProgress) => void) | undefined;
}

/** A model in the cache. */
export interface LocalModel {
  /** Its folder: config.json, safetensors weights, tokenizer. */
  dir: string;
  /** The commit, 40 hexadecimal digits. */
  commit: string;
}

const FILES_AT_ONCE = 4;
const PROGRESS_BYTES = 1024 * 1024;

/** What Hugging Face allows as `org/name`. */
export function isModelId(text: string): boolean {
  const [org = "", name, ...more] = text.split("/");
  const part = /^[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?$/;
  return more.length === 0 && name !== undefined && part.test(org) && part.test(name) && name.length <= 96 &&
    !/--|\.\./.test(text) && !text.endsWith(".git");
}

/** What git allows as the name of a branch, a tag or a commit, as far as files and addresses care. */
export function isRevision(text: string): boolean {
  // deno-lint-ignore no-control-regex
  return !/[\x00-\x20\x7f\\:?*[~^]|\.\.|\/\/|@\{|^[/.-]|[/.]$|\/\.|\.lock$/.test(text) && text !== "";
}

/**
 * Brings a model into the cache and gives its folder. What the cache has is not asked for again: a complete
 * commit takes no request at all, a branch or tag takes one, for the commit it stands for. If that fails, a
 * complete model of the branch or tag in the cache is used as it is, as the Python tools do.
 *
 * @throws RangeError if `id` or `revision` is not of the Hub's form
 * @throws HubNotFoundError, HubAccessError, HubUnreachableError, HubIntegrityError or HubError
 * @throws FileWriteError naming the path when the system refuses
 * @throws the signal's reason when aborted
 */
export async function downloadModel(model: HubModel, options: DownloadModelOptions): Promise<LocalModel> {
  const { id, revision = "main" } = model;
  if (!isModelId(id)) {
    throw new RangeError(`expected a model of the Hub as org/name, found ${JSON.stringify(id)}`);
  }
  if (!isRevision(revision)) {
    throw new RangeError(`${id}: expected a branch, tag or commit, found ${JSON.stringify(revision)}`);
  }
  const { configOnly = false, signal } = options;
  signal?.throwIfAborted();
  const cache = new ModelCache(options.cacheDir, id);
  const isCommit = /^[0-9a-f]{40}$/.test(revision);
  const known = isCommit ? revision : await cache.readRef(revision);
  const lacking = async (commit: string) => {
    if (!configOnly) return await cache.missing(commit);
    return await sizeOf(join(cache.snapshot(commit), "config.json")) === undefined ? ["config.json"] : [];
  };
  const knownLacks = known === undefined ? [] : await lacking(known);
  const local = (commit: string): LocalModel => ({ dir: cache.snapshot(commit), commit });
  // A model may have no tokenizer_config.json: then that is never there.
  const usable = known !== undefined && knownLacks.every((name) => name.startsWith("tokenizer"))
    ? local(known)
    : undefined;
  if (options.offline) {
    if (usable) return usable;
    throw new HubUnreachableError(
      `${id}@${revision} is not in the cache ${options.cacheDir}${lackText(known, knownLacks)}, and ` +
        `downloads are off (HF_HUB_OFFLINE): download it once with them on, or pass the folder of a model`,
    );
  }

  const client = new HubClient({ id, revision }, options);
  let commit: string;
  let listed: HubFile[] | undefined;
  try {
    // With something to fall back on there is no point in waiting for a network.
    const look = { signal, retries: usable ? 0 : undefined };
    commit = isCommit ? revision : await resolveRevision(client, look);
    if ((await lacking(commit)).length > 0) listed = await listModel(client, commit, look);
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    if (error instanceof HubNotFoundError && error.what === "revision") throw error;
    if (usable) return usable;
    if (!(error instanceof HubUnreachableError)) throw error;
    throw new HubUnreachableError(
      `${client.endpoint} can't be reached to find ${id}@${revision}: ${error.message}. The cache ` +
        `${options.cacheDir} doesn't have it${lackText(known, knownLacks)}. Check the network, a proxy ` +
        `(HTTPS_PROXY) or a mirror (HF_ENDPOINT), or pass the folder of a model`,
      { cause: error },
    );
  }
  if (listed) {
    const files = listed;
    const download = new Download(client, cache, commit, options);
    await withFileSizeSignal(
      () => download.run(files, configOnly),
      (error) => error instanceof FileWriteError && error.code === "EFBIG",
    );
  }
  // A configuration alone must not hide an older complete model that offline runs use.
  if (!configOnly || known === undefined) {
    try {
      await cache.writeRef(revision, commit);
    } catch (error) {
      // A cache that is complete may be read-only.
      if (listed || !(error instanceof FileWriteError)) throw error;
    }
  }
  return local(commit);
}

function lackText(known: string | undefined, lacks: readonly string[]): string {
  if (known === undefined) return "";
  const names = lacks.length > 3
    ? `${lacks.slice(0, 3).join(", ")} and ${lacks.length - 3} more`
    : lacks.join(", ");
  return ` (of ${known} it lacks ${names})`;
}

/** The download of one commit. */
class Download {
  readonly #client: HubClient;
  readonly #cache: ModelCache;
  readonly #commit: string;
  readonly #options: DownloadModelOptions;
  /** Bytes on disk by file name. */
  readonly #done = new Map<string, number>();
  #files: readonly HubFile[] = [];
  #reported = 0;

  constructor(client: HubClient, cache: ModelCache, commit: string, options: DownloadModelOptions) {
    this.#client = client;
    this.#cache = cache;
    this.#commit = commit;
    this.#options = options;
  }

  async run(listed: readonly HubFile[], configOnly: boolean): Promise<void> {
    const { small, single } = neededFiles(this.#client, listed, configOnly);
    const index = small.find(({ name }) => name === INDEX_FILE);
    // It says which other files there are.
    if (index) await this.#fetch(index, this.#options.signal);
    const shards = index ? await this.#shards(listed) : [];
    const weights = single ? [single] : shards;
    this.#files = [...small, ...weights];
    await this.#checkSpace();
    // Weights last: a snapshot with all weights has the small files too.
    await this.#fetchAll(small);
    await this.#fetchAll(weights);
  }

  async #shards(listed: readonly HubFile[]): Promise<HubFile[]> {
    const path = join(this.#cache.snapshot(this.#commit), INDEX_FILE);
    return (await shardNames(path)).map((name) => {
      const shard = listed.find((file) => file.name === name);
      if (shard) return shard;
      const { id, revision } = this.#client.subject;
      throw new HubNotFoundError(`${id}@${revision} has no ${name}, which its ${INDEX_FILE} names`, "file");
    });
  }

  /** Fails before gigabytes are written, not after. */
  async #checkSpace(): Promise<void> {
    let needed = 0;
    for (const file of this.#files) {
      const present = await this.#hasFile(file) || await this.#hasBlob(file)
        ? file.bytes
        : await sizeOf(`${this.#cache.blob(file.etag)}.incomplete`) ?? 0;
      needed += Math.max(0, file.bytes - present);
    }
    await makeFolder(this.#cache.dir);
    const what = this.#client.subject.id;
    await requireSpace(this.#cache.dir, needed, { what, instead: "HF_HOME moves the cache" });
  }

  async #fetchAll(files: readonly HubFile[]): Promise<void> {
    const failure = new AbortController();
    const outer = this.#options.signal;
    const signal = outer ? AbortSignal.any([outer, failure.signal]) : failure.signal;
    const queue = files.values();
    const work = async () => {
      try {
        for (const file of queue) {
          signal.throwIfAborted();
          await this.#fetch(file, signal);
        }
      } catch (error) {
        // The first failure ends the others; theirs is then the same error.
        failure.abort(error);
        throw error;
      }
    };
    const results = await Promise.allSettled(Array.from({ length: FILES_AT_ONCE }, work));
    if (results.some(({ status }) => status === "rejected")) throw failure.signal.reason;
  }

  async #fetch(file: HubFile, signal: AbortSignal | undefined): Promise<void> {
    const cache = this.#cache;
    const blob = cache.blob(file.etag);
    if (!await this.#hasFile(file)) {
      let isNew = false;
      if (!await this.#hasBlob(file)) {
        await makeFolder(dirname(blob));
        await cache.locked(file.etag, signal, async () => {
          // Another process may have brought it meanwhile.
          if (await this.#hasFile(file) || await this.#hasBlob(file)) return;
          const url = this.#client.fileUrl(this.#commit, file.name);
          const onBytes = (bytes: number) => this.#report(file, bytes);
          await downloadBlob(this.#client, url, file, blob, { signal, onBytes });
          isNew = true;
        });
      }
      if (!await this.#hasFile(file)) await cache.link(this.#commit, file.name, file.etag, isNew);
    }
    this.#report(file, file.bytes);
  }

  async #hasFile({ name, bytes }: HubFile): Promise<boolean> {
    return await sizeOf(join(this.#cache.snapshot(this.#commit), name)) === bytes;
  }

  async #hasBlob({ etag, bytes }: HubFile): Promise<boolean> {
    return await sizeOf(this.#cache.blob(etag)) === bytes;
  }

  #report(file: HubFile, bytes: number): void {
    this.#done.set(file.name, bytes);
    // Before all files are known there is no total.
    if (this.#files.length === 0) return;
    let bytesDone = 0;
    for (const value of this.#done.values()) bytesDone += value;
    if (bytes < file.bytes && Math.abs(bytesDone - this.#reported) < PROGRESS_BYTES) return;
    this.#reported = bytesDone;
    const bytesTotal = this.#files.reduce((total, file) => total + file.bytes, 0);
    this.#options.onProgress?.({ file: file.name, bytesDone, bytesTotal });
  }
}
