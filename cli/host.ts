/**
 * The process that the command line runs in, and what it changes of it. The library changes nothing of its host: a program that embeds it
 * does the like itself, or does without.
 * @module
 */

import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { readSystem } from "../engine/io/lock.ts";

/** `deno task` runs in the project's folder; relative paths mean the caller's. */
export function callerFolder(): string {
  const project = dirname(dirname(fileURLToPath(import.meta.url)));
  return Deno.cwd() === project ? Deno.env.get("INIT_CWD") ?? project : Deno.cwd();
}

const controller = new AbortController();

/** How the process was asked to stop, if it was. */
export const interruption = {
  signal: controller.signal,
  /** What to exit with. */
  code: 130,
  /** What is left of the work. */
  left: "nothing was saved",
};

/** What the worker that takes the signals says. */
export type FromWatch = { type: "ready" } | { type: "stop"; code: number } | { type: "there?" };
/** What it is told. */
export type ToWatch = { type: "here" } | { type: "work"; left: string; isOrderly: boolean };

let watch: Worker | undefined;

/**
 * Lets a run end in order; what doesn't end is ended, see cli/watch_signals.ts. Ctrl-C may arrive twice, from the terminal and
 * from the task runner; both mean the same.
 */
export async function stopOnSignals(): Promise<void> {
  const signals = ["SIGINT"];
  if (Deno.build.os !== "windows") signals.push("SIGTERM");
  if (endsOnHangup()) signals.push("SIGHUP");
  const file = new URL("./watch_signals.ts", import.meta.url);
  // The name is what a worker knows of its task from its beginning.
  const worker = new Worker(file, { type: "module", name: signals.join() });
  watch = worker;
  await new Promise<void>((resolve) => {
    worker.onmessage = ({ data }: MessageEvent<FromWatch>) => {
      if (data.type === "ready") return resolve();
      worker.postMessage({ type: "here" } satisfies ToWatch);
      if (data.type !== "stop" || controller.signal.aborted) return;
      interruption.code = data.code;
      controller.abort(new Error("interrupted"));
    };
  });
}

/** From here on there is something to end in order after a signal; `left` is said of a run that ended. */
export function endInOrder(left: string): void {
  interruption.left = left;
  watch?.postMessage({ type: "work", left, isOrderly: true } satisfies ToWatch);
}

/**
 * Whether a terminal that is closed ends the run: not where it was started to outlive it (nohup ignores the signal, and a
 * listener would undo that). Where that can't be asked, a run without any terminal is taken for such a one.
 */
function endsOnHangup(): boolean {
  if (Deno.build.os === "windows") return false;
  const [, ignored] = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readSystem("/proc/self/status") ?? "") ?? [];
  if (ignored !== undefined) return (BigInt(`0x${ignored}`) & 1n) === 0n;
  return [Deno.stdin, Deno.stdout, Deno.stderr].some((stream) => stream.isTerminal());
}

/** A terminal that is full or gone never ends a run: what it doesn't take is left out. */
export function outliveTerminal(): void {
  for (const name of ["log", "error"] as const) {
    const print = console[name];
    console[name] = (...values: unknown[]) => {
      try {
        print(...values);
      } catch (error) {
        const before = isUnprinted;
        noteUnprinted(error);
        // What goes to stderr is no result.
        if (name === "error") isUnprinted = before;
      }
    };
  }
}

/** Whether something that was to be printed is lost. */
export let isUnprinted = false;

/** Notes that a terminal took no more; any other error is thrown. */
export function noteUnprinted(error: unknown): void {
  // A system's error has a code; or it is Deno's, of a pipe without a reader.
  if (!(error instanceof Error) || error instanceof TypeError || error instanceof RangeError) throw error;
  isUnprinted = true;
}

/** Asks on a terminal where to save what couldn't be saved; undefined where nobody can be asked, or gives up. */
export function askForPlace(folder: string): ((error: Error) => Promise<string | undefined>) | undefined {
  if (!Deno.stdin.isTerminal() || !Deno.stdout.isTerminal()) return undefined;
  return async (error) => {
    console.error(
      `\n${error.message}\nThe trained model is still in memory. Free some space and press Enter to try again, name another ` +
        "folder, or give up with q:",
    );
    const answer = (await readLine())?.trim();
    if (answer === undefined || answer === "q") return undefined;
    return answer === "" ? folder : resolve(callerFolder(), answer);
  };
}

/** A line from the terminal; undefined at its end. Ctrl-C ends the wait. */
async function readLine(): Promise<string | undefined> {
  const { signal } = controller;
  const stopped = new Promise<never>((_, reject) => {
    signal.throwIfAborted();
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  const buffer = new Uint8Array(4096);
  const count = await Promise.race([Deno.stdin.read(buffer), stopped]);
  return count === null ? undefined : new TextDecoder().decode(buffer.subarray(0, count));
}

/**
 * On Linux asks Deno for Vulkan, unless DENO_WEBGPU_BACKEND says otherwise: where Vulkan fails Deno would take OpenGL, and
 * only then be refused. Must come before the first adapter request.
 */
export async function askForVulkan(): Promise<void> {
  const variable = "DENO_WEBGPU_BACKEND";
  if (Deno.build.os !== "linux") return;
  const { state } = await Deno.permissions.query({ name: "env", variable });
  if (state === "granted" && !Deno.env.get(variable)) Deno.env.set(variable, "vulkan");
}

/** Polls of one wait that follow each other at once: some 5 ms of them. */
const EAGER_POLLS = 200;

let isThrottled = false;

/**
 * While Dawn waits it asks for its next look by the global setImmediate, 36,000 times a second in Deno: that takes a whole
 * core, which a software adapter needs itself, and tens of megabytes. Here long waits look once a millisecond. Dawn's
 * callbacks are native; everybody else's are left alone.
 */
export function throttleDawnPolling(): void {
  if (isThrottled) return;
  isThrottled = true;
  const original = globalThis.setImmediate;
  let polls = 0;
  let isPolling = false;
  const throttled = (callback: (...args: unknown[]) => void, ...args: unknown[]) => {
    if (!/\{\s*\[native code\]\s*\}$/.test(Function.prototype.toString.call(callback))) {
      return original(callback, ...args);
    }
    polls = isPolling ? polls + 1 : 0;
    const poll = () => {
      isPolling = true;
      try {
        callback(...args);
      } finally {
        isPolling = false;
      }
    };
    return polls < EAGER_POLLS ? original(poll) : setTimeout(poll, 1);
  };
  globalThis.setImmediate = Object.assign(throttled, original) as typeof original;
}
