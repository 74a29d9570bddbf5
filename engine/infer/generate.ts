import { NAN_TOKEN } from "../ops/argmax.ts";
import { type Sequence, splitMicroBatches } from "../model/batch.ts";
import { checkTokens } from "../model/limits.ts";
import { UNWEIGHTED } from "../model/logits.ts";
import type { WorkProgress } from "../model/score.ts";
import type { Model } from "../model/model.ts";
import type { Pass } from "../model/pass.ts";
import { cacheRows, KvCache } from "./kv_cache.ts";
import { drawToken, type Sampling, tokenUniform } from "./sample.ts";

/** How texts are continued. */
export interface GenerateOptions {
  /** Most new tokens of a text. */
  maxNewTokens: number;
  /** See {@link Sampling}. Default 0, the likeliest token. */
  temperature?: number | undefined;
  /** See {@link Sampling}. Default 0, all tokens. */
  topK?: number | undefined;
  /** See {@link Sampling}. Default 1, all tokens. */
  topP?: number | undefined;
  /** See {@link Sampling}. Default 0, all tokens. */
  minP?: number | undefined;
  /** Text i is drawn with (seed, firstIndex + i) and its place, whatever else is in the batch. Default 0. */
  seed?: number | undefined;
  /** Index of the first prompt, so that a batch can be a part of a larger one. Default 0. */
  firstIndex?: number | undefined;
  /** Numbers in [0, 1) by index and place, instead of those of `seed`. */
  random?: ((index: number, place: number) => number) | undefined;
  /** Ids that end a text; default those of the model's generation_config.json or config.json, [] is none. */
  stop?: readonly number[] | undefined;
  /** Stops between two tokens; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Hears how many of the tokens asked for are made, or will not be since a text has ended. */
  onProgress?: WorkProgress | undefined;
}

/** A text under way. */
interface Text {
  ids: number[];
  index: number;
  newTokens: number[];
  /** Its place in the cache. */
  firstRow: number;
  /** Tokens whose keys and values are there, rotated with short or long frequencies. */
  count: number;
  isLong: boolean;
}

/**
 * Continues prompts, with a cache of keys and values. Gives the new ids only, without the one that ended a text. A text
 * also ends where the model's logits are NaN.
 * @throws RangeError for wrong options, an empty prompt, or one that is too long for the device.
 */
export async function generate(
  model: Model,
  prompts: readonly (readonly number[])[],
  options: GenerateOptions & { stop: readonly number[] },
): Promise<number[][]> {
  checkOptions(options);
  const { spec, gpu } = model;
  const rows = cacheRows(spec, gpu);
  const atOnce = model.passes.maxCapacity(options.temperature ? "logits" : "greedy").rows;
  const out: number[][] = [];
  for (let first = 0; first < prompts.length;) {
    const group: Text[] = [];
    let used = 0;
    for (let i = first; i < prompts.length && group.length < atOnce; i++) {
      const ids = [...prompts[i]!];
      if (!ids.length) throw new RangeError(`prompt ${i} is empty`);
      const needed = ids.length + options.maxNewTokens;
      checkTokens(spec, gpu, ids.length);
      if (needed > rows) {
        throw new RangeError(
          `prompt ${i}: ${ids.length} tokens and ${options.maxNewTokens} new ones, but the cache of keys and ` +
            `values holds ${rows} tokens of this model`,
        );
      }
      if (used + needed > rows) break;
      group.push({ ids, index: i, newTokens: [], firstRow: used, count: 0, isLong: false });
      used += needed;
    }
    const { maxNewTokens, onProgress } = options;
    const before = first * maxNewTokens;
    await continueGroup(model, group, used, options, (tokens) => {
      onProgress?.(before + tokens, prompts.length * maxNewTokens);
    });
    for (const { newTokens } of group) out.push(newTokens);
    first += group.length;
  }
  return out;
}

async function continueGroup(
  model: Model,
  group: readonly Text[],
  rows: number,
  options: GenerateOptions & { stop: readonly number[] },
  onDone: (tokens: number) => void,
): Promise<void> {
  const { maxNewTokens, signal, temperature = 0 } = options;
  if (!maxNewTokens) return;
  const kind = temperature ? "logits" : "greedy";
  const largest = model.passes.maxCapacity(kind);
  const { gpu } = model;
  const longest = Math.max(...group.map(({ ids }) => ids.length));
  const cache = new KvCache(gpu, model.spec, rows, longest + maxNewTokens);
  const passes: Pass[] = [];
  try {
    const record = (tokens: number) => {
      const capacity = { tokens, rows: Math.min(tokens, group.length) };
      const pass = model.passes.record({ kind, capacity, cache });
      passes.push(pass);
      return pass;
    };
    const prompted = group.reduce((sum, { ids }) => sum + ids.length, 0);
    // longrope: a text that crosses the limit is run anew as a whole.
    const whole = Math.max(longest, Math.min(longest + maxNewTokens, longAfter(model) + 1));
    const prefill = record(Math.max(whole, Math.min(prompted, largest.tokens)));
    const step = record(group.length);
    for (let open = [...group]; open.length;) {
      signal?.throwIfAborted();
      switchToLong(model, open);
      const whole = open.filter(({ count }) => count === 0);
      const single = open.filter(({ count }) => count > 0);
      for (const batch of splitMicroBatches(whole.map(sequenceOf), prefill.options.capacity)) {
        await advance(prefill, batch, options);
      }
      if (single.length) await advance(step, single.map(sequenceOf), options);
      open = open.filter(({ newTokens, ids, count }) =>
        ids.length > count && newTokens.length < maxNewTokens
      );
      const left = open.reduce((sum, { newTokens }) => sum + maxNewTokens - newTokens.length, 0);
      onDone(group.length * maxNewTokens - left);
    }
  } finally {
    for (const pass of passes) pass.dispose();
    cache.dispose();
  }
}

/** Most tokens of a text that is rotated with the short frequencies; −1 where there are no others. */
function longAfter({ spec }: Model): number {
  const limits = spec.ropes.flatMap(({ long }) => long ? [long.after] : []);
  return limits.length ? Math.min(...limits) : -1;
}

/** longrope: a text that has grown beyond the limit is rotated anew. */
function switchToLong(model: Model, open: readonly Text[]): void {
  const after = longAfter(model);
  if (after < 0) return;
  for (const text of open) {
    if (text.isLong || text.ids.length <= after) continue;
    text.isLong = true;
    text.count = 0;
  }
}

/** What a pass takes of a text: the tokens that aren't in the cache, and the last one as its target row. */
function sequenceOf(text: Text): Sequence & { text: Text } {
  const { ids, count, firstRow, isLong } = text;
  const rest = ids.slice(count);
  const rows = [{ position: rest.length - 1, ...UNWEIGHTED }];
  return { ids: rest, rows, cached: { firstRow, count, isLong }, text };
}

/** Runs a micro-batch and adds a token to each of its texts, unless it ends there. */
async function advance(
  pass: Pass,
  batch: readonly (Sequence & { text: Text })[],
  options: GenerateOptions & { stop: readonly number[] },
): Promise<void> {
  const { seed = 0, firstIndex = 0, stop } = options;
  const random = options.random ?? ((index: number, place: number) => tokenUniform(seed, index, place));
  const packed = pass.pack(batch);
  const V = pass.parameters.spec.vocabulary;
  const { best, logits } = pass.plan;
  let next: (row: number) => number;
  if (options.temperature) {
    const sampling = { temperature: options.temperature, topK: 0, topP: 1, minP: 0, ...chosen(options) };
    const [bytes] = await pass.run(packed, [{ slot: logits, bytes: batch.length * V * 4 }]);
    const values = new Float32Array(bytes.buffer);
    next = (row) => {
      const { text } = batch[row]!;
      const u = random(firstIndex + text.index, text.newTokens.length);
      return drawToken(values.subarray(row * V, (row + 1) * V), sampling, u);
    };
  } else {
    const [bytes] = await pass.run(packed, [{ slot: best, bytes: batch.length * 8 }]);
    const tokens = new Uint32Array(bytes.buffer);
    next = (row) => tokens[row * 2 + 1] === NAN_TOKEN ? -1 : tokens[row * 2 + 1]!;
  }
  batch.forEach(({ text }, row) => {
    text.count = text.ids.length;
    const token = next(row);
    // An ended text has all of its tokens in the cache.
    if (token < 0 || stop.includes(token)) return;
    text.ids.push(token);
    text.newTokens.push(token);
  });
}

function chosen({ topK, topP, minP }: GenerateOptions): Partial<Sampling> {
  const given = Object.entries({ topK, topP, minP }).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given);
}

function checkOptions(
  { maxNewTokens, temperature = 0, topK = 0, topP = 1, minP = 0, seed = 0 }: GenerateOptions,
) {
  const require = (name: string, value: number, ok: boolean, expected: string) => {
    if (!ok) throw new RangeError(`${name} is ${value}, expected ${expected}`);
  };
  const isCount = (value: number) => Number.isSafeInteger(value) && value >= 0;
  require("maxNewTokens", maxNewTokens, isCount(maxNewTokens), "a whole number of at least 0");
  require("temperature", temperature, temperature >= 0 && temperature < Infinity, "a number of at least 0");
  require("topK", topK, isCount(topK), "a whole number of at least 0");
  require("topP", topP, topP > 0 && topP <= 1, "a number in (0, 1]");
  require("minP", minP, minP >= 0 && minP <= 1, "a number from 0 to 1");
  require("seed", seed, Number.isSafeInteger(seed), "a whole number");
}
