/**
 * The process that the command line runs in, and what it changes of it. The library changes nothing of its host: a program that embeds it
 * does the like itself, or does without.
 * @module
 */

import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

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

/** Lets a run end in order. Ctrl-C may arrive twice, from the terminal and from the task runner; both mean the same. */
export function stopOnSignals(): void {
  const signals: [Deno.Signal, number][] = [["SIGINT", 130]];
  if (Deno.build.os !== "windows") signals.push(["SIGTERM", 143]);
  for (const [signal, code] of signals) {
    Deno.addSignalListener(signal, () => {
      if (controller.signal.aborted) return;
      interruption.code = code;
      controller.abort(new Error("interrupted"));
    });
  }
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
