/**
 * What the Hub says of a model: the commit of a revision, its files, and which of them a model folder needs.
 * @module
 */

import { type ListFileEntry, listFiles, modelInfo } from "@huggingface/hub";
import { HubError, HubNotFoundError } from "../../engine/io/hub_errors.ts";
import type { HubFile } from "./file.ts";
import type { HubClient } from "./http.ts";
import { INDEX_FILE, SINGLE_FILE } from "../../engine/io/weight_files.ts";

/** Options of the look-ups. */
export interface LookUpOptions {
  signal?: AbortSignal | undefined;
  /** Failures in a row before giving up; default the client's. */
  retries?: number | undefined;
}

/**
 * The commit that a branch, a tag or the beginning of a commit's hash stands for now.
 * @throws HubError and its subclasses
 */
export async function resolveRevision(client: HubClient, options: LookUpOptions = {}): Promise<string> {
  const { id, revision } = client.subject;
  const { sha } = await lookUp(client, options, async (fetch) =>
    await modelInfo({
      name: id,
      revision,
      hubUrl: client.endpoint,
      fetch,
      additionalFields: ["sha"],
    }));
  if (typeof sha !== "string" || !/^[0-9a-f]{40}$/.test(sha)) {
    throw new HubError(
      `${id}: expected ${client.endpoint} to name the commit of ${revision}, found ${JSON.stringify(sha)}`,
    );
  }
  return sha;
}

/**
 * The files at the top level of a commit.
 * @throws HubError and its subclasses
 */
export async function listModel(
  client: HubClient,
  commit: string,
  options: LookUpOptions = {},
): Promise<HubFile[]> {
  const repo = { type: "model" as const, name: client.subject.id };
  return await lookUp(client, options, async (fetch) => {
    const files: HubFile[] = [];
    const params = { repo, revision: commit, recursive: false, hubUrl: client.endpoint, fetch };
    for await (const entry of listFiles(params)) {
      if (entry.type === "file") files.push(checkedFile(client, entry));
    }
    return files;
  });
}

/** A file of the list; its name and hash become names of files here. */
function checkedFile(client: HubClient, { path: name, size, oid, lfs }: ListFileEntry): HubFile {
  const bytes = lfs?.size ?? size;
  const etag = lfs?.oid ?? oid ?? "";
  const isSafe = typeof name === "string" && /^[^/\\:\0]+$/.test(name) && name !== "." && name !== "..";
  const isHash = typeof etag === "string" && (lfs ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(etag);
  if (!isSafe || !isHash || !Number.isSafeInteger(bytes) || bytes < 0) {
    throw new HubError(
      `${client.subject.id}: the list of files of ${client.endpoint} is malformed: expected a plain ` +
        `name, a size and a hash, found ${JSON.stringify({ path: name, size: bytes, hash: etag })}`,
    );
  }
  return { name, bytes, etag };
}

/** Calls a function of Hugging Face's library with our requests, which throw our errors. */
async function lookUp<T>(
  client: HubClient,
  options: LookUpOptions,
  call: (send: typeof fetch) => Promise<T>,
): Promise<T> {
  try {
    return await call((url, init) => {
      const address = url instanceof Request ? url.url : String(url);
      return client.fetchWhole(address, init?.headers, options);
    });
  } catch (cause) {
    if (cause instanceof HubError || options.signal?.aborted) throw cause;
    throw new HubError(
      `${client.subject.id}: the answer of ${client.endpoint} is not the Hub's: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** The files of a commit that a model folder needs. */
export interface NeededFiles {
  /** Configuration, tokenizer, licence and, with shards, their index. */
  small: HubFile[];
  /** `model.safetensors`; undefined if the weights are the shards that {@link INDEX_FILE} names. */
  single: HubFile | undefined;
}

const CONFIG_FILE = "config.json";
const SMALL_FILES = new Set([
  CONFIG_FILE,
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
]);
/** What must or should go along when the model is published. */
const PAPERS = /^(licen[cs]e|notice|copying)([._-].*)?$|^[^.].*\.md$/i;
const MOST_PAPER_BYTES = 1024 * 1024;
const OTHER_WEIGHTS = /\.(bin|pth|pt|gguf|onnx|h5|msgpack|ckpt|safetensors)$/;

/**
 * Chooses the files to download: no weights in other formats, and no other copies of the weights.
 *
 * @param configOnly only config.json
 * @throws HubNotFoundError if the commit has no config.json or no safetensors weights
 */
export function neededFiles(client: HubClient, files: readonly HubFile[], configOnly: boolean): NeededFiles {
  const { id, revision } = client.subject;
  const find = (name: string) => files.find((file) => file.name === name);
  const config = find(CONFIG_FILE);
  if (!config) {
    throw new HubNotFoundError(
      `${id}@${revision} has no ${CONFIG_FILE}: expected a Transformers model`,
      "file",
    );
  }
  if (configOnly) return { small: [config], single: undefined };
  const single = find(SINGLE_FILE);
  const index = find(INDEX_FILE);
  if (!single && !index) {
    const others = files.map(({ name }) => name).filter((name) => OTHER_WEIGHTS.test(name));
    const list = others.length > 3 ? `${others.slice(0, 3).join(", ")}, …` : others.join(", ");
    throw new HubNotFoundError(
      `${id}@${revision} has no safetensors weights (${SINGLE_FILE} or ${INDEX_FILE})` +
        (list
          ? `; it has ${list}: convert such weights first (save_pretrained of Hugging Face Transformers ` +
            `does it) and pass the folder`
          : ""),
      "file",
    );
  }
  const small = files.filter(({ name, bytes }) =>
    SMALL_FILES.has(name) || (PAPERS.test(name) && bytes <= MOST_PAPER_BYTES) ||
    (!single && name === INDEX_FILE)
  );
  return { small, single };
}
