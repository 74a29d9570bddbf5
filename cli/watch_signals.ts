/**
 * The worker that takes the process's signals, since its thread is free when the main one is not: in a loop, in a regular
 * expression, in an open that waits. It passes a signal on, and ends the process when the main thread hasn't.
 * @module
 */

import type { FromWatch, ToWatch } from "./host.ts";

/** How long a process may go on after a signal that has nothing to end in order. */
const GRACE_MS = 800;
/** How long one that has may leave this thread without an answer; it waits for a GPU. A further signal ends it at once. */
const PATIENCE_MS = 10_000;

const port = self as unknown as {
  postMessage(message: FromWatch): void;
  onmessage: ((event: MessageEvent<ToWatch>) => void) | null;
};

/** What a process that a signal ended exits with; which signals to take the worker's name says. */
const CODES: readonly [Deno.Signal, number][] = [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]];
const SIGNALS = CODES.filter(([signal]) => self.name.split(",").includes(signal));

/** What is said when the process is ended from here. */
let left = "nothing was saved";
/** Whether there is something to end in order: then it takes more patience, or a further signal. */
let isOrderly = false;
/** When the first signal came. */
let askedAt: number | undefined;
/** When the main thread last answered. */
let answeredAt = 0;

port.onmessage = ({ data }) => {
  if (data.type === "here") answeredAt = performance.now();
  else ({ left, isOrderly } = data);
};

for (const [signal, code] of SIGNALS) {
  const listener = () => {
    const now = performance.now();
    if (askedAt === undefined) {
      askedAt = answeredAt = now;
      port.postMessage({ type: "stop", code });
      setInterval(() => watch(signal, listener), 100);
    } else if (now - askedAt > GRACE_MS) end(signal, listener);
  };
  Deno.addSignalListener(signal, listener);
}
port.postMessage({ type: "ready" });

function watch(signal: Deno.Signal, listener: () => void): void {
  port.postMessage({ type: "there?" });
  const now = performance.now();
  if (isOrderly ? now - answeredAt > PATIENCE_MS : now - askedAt! > GRACE_MS) end(signal, listener);
}

/** Ends the process by the signal itself, so that whoever started it sees how. */
function end(signal: Deno.Signal, listener: () => void): void {
  try {
    console.error(`interrupted: ${left}`);
  } catch {
    // The terminal is gone.
  }
  Deno.removeSignalListener(signal, listener);
  Deno.kill(Deno.pid, Deno.build.os === "windows" ? "SIGKILL" : signal);
}
