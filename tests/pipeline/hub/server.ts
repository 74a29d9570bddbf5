/** A small Hugging Face Hub on this machine: its API, downloads, and a storage host for large files. */

import { createHash } from "node:crypto";

/** A request that the server got, in order of arrival. */
export interface HubRequest {
  host: "hub" | "storage";
  path: string;
  query: string;
  range: string | null;
  authorization: string | null;
}

/** A file of the repository. */
interface ServedFile {
  content: Uint8Array<ArrayBuffer>;
  /** Large files are listed with a SHA-256 and come from the storage host. */
  isLarge: boolean;
}

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";
export const TOKEN = "hf_secret_of_the_tests";

/** One model on the server. Change its fields to change what it answers. */
export class HubServer {
  readonly requests: HubRequest[] = [];
  readonly files = new Map<string, ServedFile>();
  commit = COMMIT;
  /** Branches and tags of {@link commit}. */
  revisions = ["main"];
  /** Files may only be read with {@link TOKEN}. */
  isGated = false;
  /** Nothing is shown without {@link TOKEN}. */
  isPrivate = false;
  /** Entries of one page of the list of files. */
  pageSize = 1000;
  /** Answers in the server's place, where it gives an answer. */
  intercept: (request: HubRequest) => Response | undefined | Promise<Response | undefined> = () => undefined;

  readonly #end = new AbortController();
  readonly #hub: Deno.HttpServer<Deno.NetAddr>;
  readonly #storage: Deno.HttpServer<Deno.NetAddr>;

  constructor(readonly id: string, files: Record<string, string | Uint8Array<ArrayBuffer>>) {
    for (const [name, content] of Object.entries(files)) this.put(name, content);
    const options = { hostname: "127.0.0.1", port: 0, signal: this.#end.signal, onListen() {} };
    this.#hub = Deno.serve(options, (request) => this.#receive("hub", request));
    this.#storage = Deno.serve(options, (request) => this.#receive("storage", request));
  }

  /** Adds or replaces a file: text is small, bytes are large. */
  put(name: string, content: string | Uint8Array<ArrayBuffer>): void {
    const isLarge = typeof content !== "string";
    this.files.set(name, { content: isLarge ? content : new TextEncoder().encode(content), isLarge });
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#hub.addr.port}`;
  }

  /** What HTTP calls the file's ETag: SHA-256 of a large file, git's hash of a small one. */
  etag(name: string): string {
    return etagOf(this.files.get(name)!);
  }

  /** Names of the files that were asked for, sorted; with `host`, of that host only. */
  asked(host?: HubRequest["host"]): string[] {
    const paths = this.requests.filter((request) =>
      host ? request.host === host : request.path.includes("/resolve/")
    );
    return paths.map(({ path }) => path.split("/").at(-1)!).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Not shutdown(), which waits for answers that nobody reads.
    this.#end.abort();
    await Promise.all([this.#hub.finished, this.#storage.finished]);
  }

  async #receive(host: HubRequest["host"], { url, headers, body }: Request): Promise<Response> {
    await body?.cancel();
    const { pathname: path, search: query } = new URL(url);
    const authorization = headers.get("authorization");
    const request: HubRequest = { host, path, query, range: headers.get("range"), authorization };
    this.requests.push(request);
    const other = await this.intercept(request);
    if (other) return other;
    if (host === "storage") return this.#content(path.slice(1), request.range);
    const mayRead = authorization === `Bearer ${TOKEN}`;
    if (authorization !== null && !mayRead) {
      return refusal(401, "", "Invalid credentials in Authorization header");
    }
    const [, api, org, name, what, revision] =
      /^(\/api\/models)?\/([^/]+)\/([^/]+)\/([^/]+)\/([^/]+)/.exec(path) ??
        [];
    if (`${org}/${name}` !== this.id || (this.isPrivate && !mayRead)) {
      return refusal(authorization ? 404 : 401, "RepoNotFound", "Repository not found");
    }
    if (![this.commit, ...this.revisions].includes(decodeURIComponent(revision))) {
      return refusal(404, "RevisionNotFound", `Invalid rev id: ${revision}`);
    }
    if (api) return what === "tree" ? this.#tree(path, query) : Response.json(this.#info());
    if (this.isGated && !mayRead) {
      return refusal(authorization ? 403 : 401, "GatedRepo", `Access to model ${this.id} is restricted.`);
    }
    return this.#resolve(decodeURIComponent(path.split("/").at(-1)!), request.range);
  }

  #info(): unknown {
    const { id, commit: sha, isGated, isPrivate } = this;
    return { _id: "1", id, sha, private: isPrivate, gated: isGated && "manual", lastModified: "2025-01-01" };
  }

  #tree(path: string, query: string): Response {
    const entries: unknown[] = [{ type: "directory", path: "original", oid: "d".repeat(40), size: 0 }];
    for (const [name, file] of this.files) {
      const size = file.content.byteLength;
      const lfs = { oid: etagOf(file), size, pointerSize: 134 };
      entries.push(
        file.isLarge
          ? { type: "file", path: name, oid: "e".repeat(40), size, lfs, xetHash: "f".repeat(64) }
          : { type: "file", path: name, oid: etagOf(file), size },
      );
    }
    const first = Number(new URLSearchParams(query).get("cursor") ?? 0);
    const next = first + this.pageSize;
    const headers = new Headers();
    if (next < entries.length) {
      headers.set("link", `<${this.endpoint}${path}?cursor=${next}>; rel="next"`);
    }
    return Response.json(entries.slice(first, next), { headers });
  }

  #resolve(name: string, range: string | null): Response {
    const file = this.files.get(name);
    if (!file) return refusal(404, "EntryNotFound", "Entry not found");
    const headers = new Headers({ "x-repo-commit": this.commit });
    if (!file.isLarge) return this.#content(name, range, headers);
    headers.set("x-linked-etag", `"${etagOf(file)}"`);
    headers.set("x-linked-size", String(file.content.byteLength));
    headers.set("location", `http://127.0.0.1:${this.#storage.addr.port}/${name}`);
    return new Response(null, { status: 302, headers });
  }

  #content(name: string, range: string | null, headers = new Headers()): Response {
    const file = this.files.get(name)!;
    headers.set("etag", `"${etagOf(file)}"`);
    return ranged(file.content, range, headers);
  }
}

/** Serves bytes, or the part that a Range header asks for. */
export function ranged(
  content: Uint8Array<ArrayBuffer>,
  range: string | null,
  headers = new Headers(),
): Response {
  const [, from] = /^bytes=(\d+)-$/.exec(range ?? "") ?? [];
  if (from === undefined) return new Response(content, { headers });
  const total = content.byteLength;
  if (Number(from) >= total) {
    headers.set("content-range", `bytes */${total}`);
    return new Response(null, { status: 416, headers });
  }
  headers.set("content-range", `bytes ${from}-${total - 1}/${total}`);
  return new Response(content.subarray(Number(from)), { status: 206, headers });
}

/**
 * An answer to a request for `content` from byte `first` on. It breaks off after some bytes or,
 * if `isSilent`, stays open without a word.
 */
export function cut(
  content: Uint8Array<ArrayBuffer>,
  first: number,
  bytes: number,
  isSilent = false,
): Response {
  let isSent = false;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (!isSent) controller.enqueue(content.subarray(first, first + bytes));
      isSent = true;
      // The bytes must be on their way before the connection ends.
      await new Promise((resolve) => setTimeout(resolve, 20));
      // Fewer bytes than promised: the server drops the connection.
      if (!isSilent) controller.close();
    },
  });
  const total = content.byteLength;
  const headers = new Headers({ "content-length": String(total - first) });
  if (first > 0) headers.set("content-range", `bytes ${first}-${total - 1}/${total}`);
  return new Response(body, { status: first > 0 ? 206 : 200, headers });
}

function etagOf({ content, isLarge }: ServedFile): string {
  return isLarge
    ? createHash("sha256").update(content).digest("hex")
    : createHash("sha1").update(`blob ${content.byteLength}\0`).update(content).digest("hex");
}

function refusal(status: number, code: string, message: string): Response {
  return Response.json({ error: message }, {
    status,
    headers: code ? { "x-error-code": code, "x-error-message": message } : { "x-error-message": message },
  });
}
