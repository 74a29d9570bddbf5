/**
 * What every peer process prints: one JSON line when its first step is done (facts, and that step's time from the
 * process's start), one line a further step where it is paced, and one line at the end with all step times.
 */
import { median } from "../statistics.ts";

/** What a peer says of itself. */
export interface PeerFacts {
  peer: string;
  /** Trainable numbers. */
  parameters: number;
  /** Fingerprints and tokens (with padding) of one optimizer step. */
  fingerprints: number;
  tokens: number;
}

/**
 * Runs `step` (which returns the loss once all its work is done): `steps` times after two to warm up, or with `paced`
 * once for each line on standard input.
 */
export async function servePeer(
  facts: PeerFacts,
  step: () => Promise<number>,
  { steps, paced }: { steps: number; paced: boolean },
): Promise<void> {
  const times: number[] = [];
  const timed = async () => {
    const began = performance.now();
    const loss = await step();
    const ms = performance.now() - began;
    times.push(ms);
    return { ms, loss };
  };
  const first = await timed();
  const started = {
    ...facts,
    first_step_ms: first.ms,
    to_first_step_ms: performance.now(),
    loss: first.loss,
  };
  if (paced) {
    console.log(JSON.stringify(started));
    for await (const _ of Deno.stdin.readable) console.log(JSON.stringify(await timed()));
    return;
  }
  let { loss } = await timed();
  for (let i = 0; i < steps; i++) ({ loss } = await timed());
  const step_ms = median(times.slice(2));
  const fingerprints_per_s = facts.fingerprints / step_ms * 1000;
  console.log(
    JSON.stringify({ ...started, step_ms, min_ms: Math.min(...times.slice(2)), fingerprints_per_s, loss }),
  );
}
