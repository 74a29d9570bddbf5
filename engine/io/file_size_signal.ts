let users = 0;
let deliveries = 0;
const waiting = new Set<() => void>();

function handler(): void {
  deliveries++;
  for (const resolve of waiting) resolve();
  waiting.clear();
}

/**
 * Runs `work` with SIGXFSZ caught, so that a write beyond the process's file size limit fails with EFBIG.
 * By default that signal kills the process (Deno leaves it so), which would leave a half-written file behind.
 *
 * @param isLimit whether an error of `work` says that the limit was hit
 */
export async function withFileSizeSignal<T>(
  work: () => Promise<T>,
  isLimit: (error: unknown) => boolean,
): Promise<T> {
  // Windows has neither the signal nor the limit.
  if (Deno.build.os === "windows") return await work();
  if (users++ === 0) Deno.addSignalListener("SIGXFSZ", handler);
  const before = deliveries;
  try {
    return await work();
  } catch (error) {
    if (isLimit(error)) await nextDelivery(before);
    throw error;
  } finally {
    if (--users === 0) Deno.removeSignalListener("SIGXFSZ", handler);
  }
}

/**
 * Waits until the signal of a failed write has arrived. Deno delivers signals from another thread, some time after
 * the write has failed, and one that finds no listener any more (or a process about to exit) kills after all.
 */
async function nextDelivery(before: number): Promise<void> {
  if (deliveries > before) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  waiting.add(resolve);
  // A process that was started with the signal ignored never gets it.
  const timer = setTimeout(resolve, 500);
  await promise;
  clearTimeout(timer);
}
