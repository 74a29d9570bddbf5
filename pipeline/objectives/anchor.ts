import type { WorkProgress } from "../../engine/model/score.ts";
import type { Gpu } from "../../engine/gpu/context.ts";
import { Slot } from "../../engine/gpu/pool.ts";
import { type Sequence, weightedLosses } from "../../engine/model/batch.ts";
import type { RowTarget } from "../../engine/ops/cross_entropy.ts";
import type { SoftTables } from "../../engine/model/head.ts";
import type { LanguageModel } from "../../engine/language_model.ts";
import { byProbability, softmax } from "../../engine/infer/sample.ts";
import { sample, uniform } from "../../engine/tensor/random.ts";
import { type Losses, type ObjectiveKind, textWorkload } from "./objective.ts";

/** Settings of the anchor. */
export interface AnchorOptions {
  samples: number;
  /** Tokens of a text after its start. */
  length: number;
  seed: number;
  /** What every text starts with: BOS, or a token that stands for it. */
  startIds: readonly number[];
  /** A text ends here; undefined if the tokenizer has no EOS. */
  eosId?: number | undefined;
  /** Tokens listed by name where the vocabulary is too large to keep whole. Default 128. */
  topTokens?: number | undefined;
  /** Vocabularies up to this size are kept whole, if all distributions fit 128 MiB. Default 8192. */
  wholeUpTo?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Hears how far the texts are written. */
  onProgress?: WorkProgress | undefined;
}

/** Distributions of the base model, as the kernels read them. */
interface AnchorTables {
  targets: RowTarget[][];
  ids: Uint32Array<ArrayBuffer>;
  probabilities: Float32Array<ArrayBuffer>;
}

const TEXT_STREAM = 0x616e;
const BATCH_STREAM = 0x6263;

/**
 * The anchor: short texts of the model's own and its distribution at every position of them, to be held to while
 * fingerprints are learned (loss strength · mean KL(p_base ‖ p_model)). No outside data.
 */
export class Anchor {
  readonly #slots: SoftTables;

  private constructor(
    readonly texts: readonly (readonly number[])[],
    readonly targets: readonly (readonly RowTarget[])[],
    readonly seed: number,
    tables: AnchorTables,
    gpu: Gpu,
  ) {
    this.#slots = {
      kinds: [...new Set(tables.targets.flat().map(({ kind }) => kind))].filter((kind) => kind !== "label"),
      ids: new Slot(tables.ids.byteLength, "anchor ids").realize(gpu),
      probabilities: new Slot(tables.probabilities.byteLength, "anchor probabilities").realize(gpu),
    };
    gpu.write(this.#slots.ids.buffer, tables.ids);
    gpu.write(this.#slots.probabilities.buffer, tables.probabilities);
  }

  /** Lets the model write its texts, and keeps what it expects at each of their positions. */
  static async create(model: LanguageModel, options: AnchorOptions): Promise<Anchor> {
    const texts = await writeTexts(model, options);
    const tables = await baseDistributions(model, texts, options);
    return new Anchor(texts, tables.targets, options.seed, tables, model.gpu);
  }

  /** Tables of soft targets for the training pass. */
  get tables(): SoftTables {
    return this.#slots;
  }

  /** Positions whose distribution is held. */
  get longest(): number {
    return this.targets.reduce((longest, rows) => Math.max(longest, rows.length), 0);
  }

  /** `batch` texts drawn for a step, as rows that together weigh `strength`. */
  draw(step: number, batch: number, strength: number): Sequence[] {
    const indices = this.texts.map((_, i) => i);
    const drawn = sample(indices, Math.min(batch, indices.length), this.seed, BATCH_STREAM + step);
    const positions = drawn.reduce((sum, i) => sum + this.targets[i]!.length, 0);
    return drawn.map((i) => ({
      ids: this.texts[i]!.slice(0, rowsFrom(this.texts[i]!, this.targets[i]!) + this.targets[i]!.length),
      rows: this.targets[i]!.map((target, row) => ({
        position: rowsFrom(this.texts[i]!, this.targets[i]!) + row,
        weight: strength / positions,
        target,
      })),
    }));
  }

  dispose(): void {
    this.#slots.ids.dispose();
    this.#slots.probabilities.dispose();
  }
}

/** First position that predicts a written token: the start's last. */
function rowsFrom(text: readonly number[], targets: readonly RowTarget[]): number {
  return text.length - 1 - targets.length;
}

/** Texts at temperature 1, EOS included where one ends so. */
async function writeTexts(model: LanguageModel, options: AnchorOptions): Promise<number[][]> {
  const { samples, length, seed, startIds, eosId, signal, onProgress } = options;
  const texts = await model.generate(Array.from({ length: samples }, () => startIds), {
    maxNewTokens: length,
    temperature: 1,
    signal,
    onProgress,
    stop: eosId === undefined ? [] : [eosId],
    random: (index, place) => uniform(seed, TEXT_STREAM, index, place),
  });
  return texts.map((ids) => {
    const ended = ids.length < length && eosId !== undefined ? [eosId] : [];
    return [...startIds, ...ids, ...ended];
  });
}

/** Bytes of whole distributions that every adapter binds (WebGPU's guaranteed 128 MiB); more are kept in buckets. */
const WHOLE_BYTES = 128 << 20;

/** Numbers of a whole distribution in the table: each begins at a multiple of 4. */
function wholeWidth(vocabulary: number): number {
  return Math.ceil(vocabulary / 4) * 4;
}

/** Whether the distributions of all texts are kept whole, or as the likeliest tokens and one bucket. */
function keepsWhole(
  vocabulary: number,
  { samples, length, wholeUpTo = 8192 }: Pick<AnchorOptions, "samples" | "length" | "wholeUpTo">,
): boolean {
  return vocabulary <= wholeUpTo && samples * length * wholeWidth(vocabulary) * 4 <= WHOLE_BYTES;
}

async function baseDistributions(
  model: LanguageModel,
  texts: readonly (readonly number[])[],
  options: AnchorOptions,
): Promise<AnchorTables> {
  const { startIds, topTokens = 128, signal } = options;
  const V = model.spec.vocabulary;
  const whole = keepsWhole(V, options);
  const rowWidth = whole ? wholeWidth(V) : topTokens;
  const counts = texts.map((text) => text.length - startIds.length);
  const rows = counts.reduce((sum, count) => sum + count, 0);
  const ids = new Uint32Array(whole ? 4 : rows * rowWidth);
  const probabilities = new Float32Array(rows * rowWidth);
  const targets: RowTarget[][] = [];
  let begin = 0;
  const group = Math.max(1, Math.floor((64 << 20) / 4 / V / counts.reduce((a, b) => Math.max(a, b), 1)));
  for (let first = 0; first < texts.length; first += group) {
    signal?.throwIfAborted();
    const batch = texts.slice(first, first + group);
    const logits = await model.logitsAt(batch.map((text) => ({
      ids: text,
      positions: text.slice(startIds.length).map((_, i) => startIds.length - 1 + i),
    })));
    logits.forEach((values, i) => {
      const list: RowTarget[] = [];
      for (let row = 0; row < counts[first + i]!; row++, begin += rowWidth) {
        const p = softmax(values.subarray(row * V, (row + 1) * V));
        if (whole) {
          probabilities.set(p, begin);
          list.push({ kind: "dense", begin });
        } else {
          list.push(bucket(p, begin, ids, probabilities, topTokens));
        }
      }
      targets.push(list);
    });
  }
  return { targets, ids, probabilities };
}

/** The `count` likeliest tokens by id, and the mass of all others summed over themselves. */
function bucket(
  p: Float64Array,
  begin: number,
  ids: Uint32Array,
  probabilities: Float32Array,
  count: number,
): RowTarget {
  const order = byProbability(p);
  const top = order.subarray(0, count).sort();
  ids.set(top, begin);
  top.forEach((token, i) => probabilities[begin + i] = p[token]!);
  let rest = 0;
  for (const token of order.subarray(count)) rest += p[token]!;
  return { kind: "top", begin, count: top.length, rest };
}

/** Bytes of an anchor's tables, at most. */
export function anchorBytes(
  vocabulary: number,
  options: Pick<AnchorOptions, "samples" | "length" | "topTokens" | "wholeUpTo">,
): number {
  const { samples, length, topTokens = 128 } = options;
  return samples * length * (keepsWhole(vocabulary, options) ? wholeWidth(vocabulary) * 4 : topTokens * 8);
}

/** KL of the model from what it was, on texts that it wrote then; weighs its strength, beside the supervised loss. */
export const anchorKind: ObjectiveKind = {
  name: "anchor",
  isActive: ({ anchor_strength }) => anchor_strength > 0,
  workload: ({ prefix }, { anchor_batch, anchor_samples, anchor_length }) =>
    textWorkload(Math.min(anchor_batch, anchor_samples), anchor_length, prefix),
  tables: ({ vocabulary }, { anchor_samples: samples, anchor_length: length }) => ({
    name: "anchor distributions",
    bytes: anchorBytes(vocabulary, { samples, length }),
  }),
  phase: () => "writing anchor texts",
  async prepare({ model, tokenizer, startIds, settings, signal, onProgress }) {
    const { anchor_batch: batch, anchor_strength: strength } = settings;
    const anchor = await Anchor.create(model, {
      samples: settings.anchor_samples,
      length: settings.anchor_length,
      seed: settings.seed,
      signal,
      onProgress,
      startIds,
      eosId: tokenizer.eosId,
    });
    model.passes.release("logits");
    return {
      name: "anchor",
      draw: ({ step }) => anchor.draw(step, batch, strength),
      newSums: () => new AnchorSums(strength),
      tables: anchor.tables,
      dispose: () => anchor.dispose(),
    };
  },
};

/** Mean of the steps' KL, not scaled by the anchor's strength. */
class AnchorSums {
  #sum = 0;
  #steps = 0;

  constructor(readonly strength: number) {}

  add(shown: readonly Sequence[], losses: Float32Array): void {
    if (!shown.length) return;
    this.#sum += weightedLosses(shown, losses).reduce((sum, loss) => sum + loss, 0) / this.strength;
    this.#steps++;
  }

  log(): Losses {
    return this.#steps ? { anchorLoss: this.#sum / this.#steps } : {};
  }
}
