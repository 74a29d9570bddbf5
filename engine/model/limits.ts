import type { KernelTarget } from "../gpu/recorder.ts";
import type { ModelSpec } from "../models/spec.ts";
import type { PassCapacity } from "./batch.ts";
import { VOCABULARY_CHUNK } from "./head.ts";
import type { PassKind } from "./pass.ts";

/** Bytes of logits that one pass may hold. */
const LOGITS_BYTES = 64 << 20;

/** `count`, or the multiple of 64 below it; at least 1. */
function roundDown(count: number): number {
  return count >= 64 ? Math.floor(count / 64) * 64 : Math.max(1, Math.floor(count));
}

/** Floats of the widest activation of a token. */
function widestActivation(spec: ModelSpec): number {
  const { heads, kvHeads, headDim, feedForward, gated, width } = spec;
  return Math.max((heads + 2 * kvHeads) * headDim, (gated ? 2 : 1) * feedForward, width);
}

/**
 * The largest micro-batch of a pass: at most `maxTokens`, what keeps a chunk of logits within 64 MiB, and no buffer larger
 * than the device binds.
 */
export function maxCapacity(
  spec: ModelSpec,
  target: KernelTarget,
  maxTokens: number,
  kind: PassKind,
): PassCapacity {
  const limit = target.maxBindingBytes ?? Infinity;
  const tokens = Math.min(maxTokens, roundDown(limit / 4 / widestActivation(spec)));
  const columns = kind === "logits" ? spec.vocabulary : Math.min(spec.vocabulary, VOCABULARY_CHUNK);
  const rows = roundDown(Math.min(LOGITS_BYTES, limit) / 4 / columns);
  return { tokens, rows: Math.min(tokens, Math.max(rows, Math.min(64, roundDown(limit / 4 / columns)))) };
}

/** @throws RangeError when the device can't hold a micro-batch of so many tokens. */
export function checkTokens(spec: ModelSpec, target: KernelTarget, tokens: number): void {
  const limit = target.maxBindingBytes ?? Infinity;
  const most = Math.floor(limit / 4 / widestActivation(spec));
  if (tokens > most) {
    throw new RangeError(
      `a sequence of ${tokens} tokens: this model and device take at most ${most} at a time ` +
        `(${widestActivation(spec)} numbers a token, ${limit} bytes in one binding)`,
    );
  }
}
