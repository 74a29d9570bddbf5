/**
 * What the command line changes of its own process. The library changes nothing of its host: a program that embeds it
 * does the like itself, or does without.
 * @module
 */

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

let isCalm = false;

/**
 * While Dawn waits it asks for its next look by the global setImmediate, 36,000 times a second in Deno: that takes a whole
 * core, which a software adapter needs itself, and tens of megabytes. Here long waits look once a millisecond. Dawn's
 * callbacks are native; everybody else's are left alone.
 */
export function calmPolling(): void {
  if (isCalm) return;
  isCalm = true;
  const original = globalThis.setImmediate;
  let polls = 0;
  let isPolling = false;
  const calm = (callback: (...args: unknown[]) => void, ...args: unknown[]) => {
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
  globalThis.setImmediate = Object.assign(calm, original) as typeof original;
}
