/**
 * What runs that were killed left in a results folder: settled by the next run there, whatever its configuration.
 * @module
 */
import { join } from "node:path";
import { syncFolder } from "../../engine/io/atomic.ts";
import { FileLock } from "../../engine/io/lock.ts";
import { removeLeftovers } from "../fingerprints/generate/leftovers.ts";
import { OWN_FOLDER } from "../fingerprints/own.ts";
import { CONFIG_FILE } from "../measure/found_results.ts";

/** Places of a run in a results folder, by its hash. */
export const lockPath = (outputDir: string, hash: string) => join(outputDir, `.${hash}.lock`);
export const stagingPath = (outputDir: string, hash: string) => join(outputDir, `.${hash}.partial`);
/** Older results while newer ones take their place. */
export const previousPath = (outputDir: string, hash: string) => join(outputDir, `.${hash}.partial.old`);

/** What was found and done, by path. */
export interface Leftovers {
  /** Removed: halves of results, older results whose newer ones are there, temporary files. */
  removed: string[];
  /** Put in place: results that were whole when their run was killed. */
  recovered: string[];
  /** Still there, since they could not be removed or put in place. */
  stuck: string[];
}

/**
 * Settles what all runs but those still at work left behind in a results folder, with the fingerprints that they made.
 * @returns undefined if nothing was left
 */
export async function settleLeftovers(outputDir: string): Promise<Leftovers | undefined> {
  const all: Leftovers = { removed: [], recovered: [], stuck: [] };
  const hashes = new Set<string>();
  for (const { name } of await Array.fromAsync(Deno.readDir(outputDir)).catch(() => [])) {
    const [, hash] = /^\.([0-9a-f]{16})\.(?:lock|partial|partial\.old)$/.exec(name) ?? [];
    if (hash) hashes.add(hash);
  }
  for (const hash of [...hashes].sort()) {
    try {
      const lock = await FileLock.tryTake(lockPath(outputDir, hash), true);
      if (!(lock instanceof FileLock)) continue;
      using _ = lock;
      addLeftovers(all, await settleRun(outputDir, hash));
    } catch {
      // Not ours to remove.
      all.stuck.push(stagingPath(outputDir, hash));
    }
  }
  all.removed.push(...await removeLeftovers(join(outputDir, OWN_FOLDER)));
  return Object.values(all).some(({ length }) => length > 0) ? all : undefined;
}

/** Settles what a run left behind; its lock must be held. */
export async function settleRun(outputDir: string, hash: string): Promise<Leftovers> {
  const found: Leftovers = { removed: [], recovered: [], stuck: [] };
  const final = join(outputDir, hash);
  const staging = stagingPath(outputDir, hash), previous = previousPath(outputDir, hash);
  // The run's config.json is written last: a folder that has it was only to be moved into its place.
  const isWhole = await exists(join(staging, CONFIG_FILE));
  if (!await exists(final)) {
    const whole = isWhole ? staging : await exists(previous) ? previous : undefined;
    if (whole !== undefined && await isDone(() => Deno.rename(whole, final))) {
      found.recovered.push(final);
      await syncFolder(outputDir);
    }
  }
  for (const path of [staging, previous]) {
    if (!await exists(path)) continue;
    // Never the only results that there are.
    const isNeeded = path === previous && !await exists(final);
    const isGone = !isNeeded && await isDone(() => Deno.remove(path, { recursive: true }));
    (isGone ? found.removed : found.stuck).push(path);
  }
  return found;
}

/** Adds what was found to what was found before. */
export function addLeftovers(all: Leftovers, more: Leftovers): void {
  all.removed.push(...more.removed);
  all.recovered.push(...more.recovered);
  all.stuck.push(...more.stuck);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

async function isDone(work: () => Promise<void>): Promise<boolean> {
  return await work().then(() => true, () => false);
}
