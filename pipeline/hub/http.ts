/**
 * Requests to the Hugging Face Hub: access token, redirects, time-outs, retries, and what its refusals mean.
 * @module
 */

import {
  HubAccessError,
  HubError,
  HubNotFoundError,
  HubUnreachableError,
  TransientHubError,
} from "../../engine/io/hub_errors.ts";

/** How the Hub is reached. */
export interface HubConnection {
  /** Base URL of the Hub or of a mirror, as HF_ENDPOINT. */
  endpoint: string;
  /** Access token. It goes to the endpoint's own origin only. */
  token?: string | undefined;
  /** Used instead of the global fetch. */
  fetch?: typeof fetch;
  /** Failures in a row before a request or a download is given up; default 5. */
  retries?: number | undefined;
  /** Wait after the first failure, doubled with each in a row; default 500. */
  retryDelayMs?: number | undefined;
  /** Silence after which a connection counts as cut; default 60,000. */
  stallMs?: number | undefined;
}

/** What the requests are about, for the messages of errors. */
export interface HubSubject {
  id: string;
  revision: string;
}

const REDIRECTS = [301, 302, 303, 307, 308];
const MOST_REDIRECTS = 10;
const MOST_WAIT_MS = 5 * 60_000;

/** Aborts a request that is silent for too long, or when `outer` is aborted. */
export class Watchdog {
  readonly signal: AbortSignal;
  readonly #stall = new AbortController();
  readonly #ms: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(ms: number, outer?: AbortSignal) {
    this.#ms = ms;
    this.signal = outer ? AbortSignal.any([outer, this.#stall.signal]) : this.#stall.signal;
    this.feed();
  }

  /** Starts the wait anew. */
  feed(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#stall.abort(new TransientHubError(`no data for ${this.#ms / 1000} s`));
    }, this.#ms);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** Asks one Hub about one repository. */
export class HubClient {
  readonly endpoint: string;
  readonly subject: HubSubject;
  readonly stallMs: number;
  readonly #origin: string;
  readonly #options: HubConnection;

  /** @throws HubError if the endpoint is not an http(s) URL or the token can't be one. */
  constructor(subject: HubSubject, options: HubConnection) {
    const url = URL.canParse(options.endpoint) ? new URL(options.endpoint) : undefined;
    if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
      throw new HubError(
        `the Hub's endpoint: expected an address such as https://huggingface.co, without user, password or ` +
          `query${url ? "" : `, found ${JSON.stringify(options.endpoint)}`}`,
      );
    }
    if (options.token && !/^[\x21-\x7e]+$/.test(options.token)) {
      // Headers would refuse it with a message that quotes it.
      throw new HubAccessError("the access token has characters that no token has: check HF_TOKEN");
    }
    this.subject = subject;
    this.endpoint = url.href.replace(/\/+$/, "");
    this.stallMs = options.stallMs ?? 60_000;
    this.#origin = url.origin;
    this.#options = options;
  }

  /** Where a file of a commit is downloaded. */
  fileUrl(commit: string, name: string): string {
    return `${this.endpoint}/${this.subject.id}/resolve/${commit}/${encodeURIComponent(name)}`;
  }

  /**
   * One request, redirects followed. Succeeds with any status under 300 and with 416 (range not satisfiable).
   *
   * @param signal ends the request, and later the reading of its body
   * @throws TransientHubError for what may pass; HubAccessError, HubNotFoundError or HubError for what won't
   */
  async request(url: string, headers: HeadersInit | undefined, signal: AbortSignal): Promise<Response> {
    const { token, fetch: send = fetch } = this.#options;
    let at = new URL(url);
    for (let redirects = 0; redirects <= MOST_REDIRECTS; redirects++) {
      const own = at.origin === this.#origin;
      const sent = new Headers(headers);
      if (own && token) sent.set("authorization", `Bearer ${token}`);
      let response: Response;
      try {
        response = await send(at, { headers: sent, redirect: "manual", signal });
      } catch (cause) {
        throw this.cut(cause, at.host, signal);
      }
      const location = response.headers.get("location");
      if (!REDIRECTS.includes(response.status) || location === null) {
        if (response.ok || response.status === 416) return response;
        throw await this.#refusal(response, at, own);
      }
      await response.body?.cancel();
      const next = new URL(location, at);
      const safe = next.protocol === "https:" || (next.protocol === "http:" && at.protocol === "http:");
      if (!safe) throw new HubError(`${at.host} redirects to ${next.protocol}//${next.host}: not followed`);
      at = next;
    }
    throw new HubError(`${new URL(url).host}: more than ${MOST_REDIRECTS} redirects`);
  }

  /** Calls `request` until it succeeds, and reads the whole answer. For small answers. */
  async fetchWhole(
    url: string,
    headers: HeadersInit | undefined,
    options: { retries?: number | undefined; signal?: AbortSignal | undefined },
  ): Promise<Response> {
    return await this.retry(new URL(url).pathname, options, async () => {
      using watchdog = new Watchdog(this.stallMs, options.signal);
      const response = await this.request(url, headers, watchdog.signal);
      try {
        return new Response(await response.arrayBuffer(), response);
      } catch (cause) {
        throw this.cut(cause, new URL(url).host, watchdog.signal);
      }
    });
  }

  /**
   * Repeats `attempt` while it throws TransientHubError, with growing waits. It may call `progressed` when it
   * got something, so that only failures in a row count.
   *
   * @throws HubUnreachableError after too many; what `attempt` throws otherwise; the signal's reason
   */
  async retry<T>(
    what: string,
    options: { retries?: number | undefined; signal?: AbortSignal | undefined },
    attempt: (progressed: () => void) => Promise<T>,
  ): Promise<T> {
    const most = options.retries ?? this.#options.retries ?? 5;
    let failures = 0;
    while (true) {
      options.signal?.throwIfAborted();
      try {
        return await attempt(() => failures = 0);
      } catch (cause) {
        if (!(cause instanceof TransientHubError)) throw cause;
        if (failures++ >= most) {
          const tries = failures === 1 ? "1 attempt" : `${failures} attempts`;
          throw new HubUnreachableError(`${what}: ${cause.message} (${tries})`, { cause });
        }
        const wait = (this.#options.retryDelayMs ?? 500) * 2 ** (failures - 1);
        await delay(Math.min(Math.max(wait, cause.retryAfterMs), MOST_WAIT_MS), options.signal);
      }
    }
  }

  /** The error for a connection that failed: the signal's own reason if that ended it. */
  cut(cause: unknown, host: string, signal: AbortSignal): unknown {
    if (signal.aborted) return signal.reason;
    if (cause instanceof HubError) return cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    const text = `the connection to ${host} failed: ${message}`;
    // What the process may not do it may not do a second later either.
    if (cause instanceof Deno.errors.NotCapable) return new HubUnreachableError(text, { cause });
    return new TransientHubError(text, 0, { cause });
  }

  async #refusal(response: Response, url: URL, own: boolean): Promise<HubError> {
    const { status, headers } = response;
    const code = headers.get("x-error-code") ?? "";
    const said = headers.get("x-error-message") ?? "";
    await response.body?.cancel();
    const what = `${url.host} answered HTTP ${status}${said ? ` (${said})` : ""}`;
    if (status === 408 || status === 429 || status >= 500) {
      return new TransientHubError(what, retryAfterMs(headers));
    }
    // Storage hosts answer so when a signed address has expired; the next attempt gets a new one.
    if (!own) return new TransientHubError(what);

    const { id, revision } = this.subject;
    const page = `${this.endpoint}/${id}`;
    const hasToken = Boolean(this.#options.token);
    if (code === "GatedRepo" || /gated|restricted/i.test(said)) {
      return new HubAccessError(
        hasToken
          ? `${id} is gated, and the account of the access token has no access to it. Ask for it and ` +
            `accept the terms on ${page}, with the same account; a fine-grained token must allow reading ` +
            `gated repositories.`
          : `${id} is gated: its owner wants you to accept terms first. Log in and accept them on ${page}, ` +
            `create a token on ${this.endpoint}/settings/tokens, and set HF_TOKEN to it.`,
      );
    }
    if (code === "RevisionNotFound") {
      return new HubNotFoundError(
        `${id} has no revision ${JSON.stringify(revision)} on ${url.host}`,
        "revision",
      );
    }
    if (code === "EntryNotFound") {
      return new HubNotFoundError(`${id}@${revision} has no ${decodeURIComponent(url.pathname)}`, "file");
    }
    if (status === 401 && hasToken && /invalid/i.test(said) && /credential|token/i.test(said)) {
      return new HubAccessError(
        `${url.host} does not accept the access token: it is wrong, expired or revoked. Create one on ` +
          `${this.endpoint}/settings/tokens and set HF_TOKEN to it, or unset it for public models.`,
      );
    }
    if (code === "RepoNotFound" || status === 401 || status === 404) {
      return new HubNotFoundError(
        `${url.host} has no model ${id} (revision ${JSON.stringify(revision)}), or it is private and ` +
          (hasToken
            ? "the account of the access token can't see it"
            : `only shown with an access token: set HF_TOKEN to one from ${this.endpoint}/settings/tokens`),
        "repository",
      );
    }
    if (status === 403) {
      return new HubAccessError(
        `${what}: the access token may not read ${id}` + (hasToken ? "" : ", and none is set (HF_TOKEN)"),
      );
    }
    return new HubError(`${what} to ${url.pathname}`);
  }
}

/** The wait asked for: Retry-After in seconds or as a date, or the Hub's `RateLimit: "api";r=0;t=55`. */
function retryAfterMs(headers: Headers): number {
  const after = headers.get("retry-after") ?? /;\s*t=(\d+)/.exec(headers.get("ratelimit") ?? "")?.[1] ?? "";
  if (after === "") return 0;
  const ms = /^\d+$/.test(after) ? Number(after) * 1000 : Date.parse(after) - Date.now();
  return ms > 0 ? ms : 0;
}

/** Waits, or throws the signal's reason. */
export async function delay(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => resolve(), { once: true });
  await promise;
  clearTimeout(timer);
  signal?.throwIfAborted();
}
