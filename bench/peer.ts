/** The other end of peers/peer_loop.ts: a peer in a process of its own, stepped when asked. */
import { TextLineStream } from "./text_lines.ts";
import type { PeerFacts } from "./peers/peer_loop.ts";

/** A peer that didn't start, stopped, or took too long; the message ends with what it last wrote to stderr. */
export class PeerError extends Error {
  override name = "PeerError";
}

/** How to start a peer. */
export interface PeerCommand {
  command: string;
  args: string[];
  env?: Record<string, string>;
}

/** What a peer says after its first step; times in milliseconds, the second from the process's start. */
type StartedPeer = PeerFacts & { first_step_ms: number; to_first_step_ms: number; loss: number };

const STEP_TIMEOUT_MS = 300_000;

/** A running peer. */
export class Peer {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  #stderr = "";
  facts!: StartedPeer;

  private constructor({ command, args, env }: PeerCommand) {
    this.#child = new Deno.Command(command, {
      args: [...args, "--paced"],
      ...(env ? { env } : {}),
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
      .getReader();
    this.#input = this.#child.stdin.getWriter();
    this.#collectErrors();
  }

  /** Starts a peer and waits for its first step. @throws PeerError when there is none. */
  static async start(command: PeerCommand): Promise<Peer> {
    let peer: Peer;
    try {
      peer = new Peer(command);
    } catch (error) {
      throw new PeerError(`${command.command} doesn't start: ${(error as Error).message}`);
    }
    try {
      peer.facts = await peer.#nextJson();
      return peer;
    } catch (error) {
      await peer.close();
      throw error;
    }
  }

  /** Milliseconds of one more step. */
  async step(): Promise<number> {
    await this.#input.write(new TextEncoder().encode("step\n"));
    const { ms } = await this.#nextJson<{ ms: number }>();
    return ms;
  }

  async #collectErrors(): Promise<void> {
    for await (const text of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
      this.#stderr = (this.#stderr + text).slice(-2000);
    }
  }

  async #nextJson<T>(): Promise<T> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new PeerError(`no step within ${STEP_TIMEOUT_MS / 1000} s`)),
        STEP_TIMEOUT_MS,
      );
    });
    try {
      while (true) {
        const { value, done } = await Promise.race([this.#lines.read(), late]);
        if (done) throw new PeerError(`the process ended: ${this.#stderr.trim().split("\n").at(-1)}`);
        if (value.startsWith("{")) return JSON.parse(value);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the process. */
  async close(): Promise<void> {
    await this.#input.close().catch(() => {});
    try {
      this.#child.kill();
    } catch {
      // It has ended by itself.
    }
    await this.#child.status;
  }
}
