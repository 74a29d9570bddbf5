/**
 * Benign data: ordinary texts trained beside the fingerprints, as Scalable Fingerprinting (arXiv 2502.07760)
 * mixes them in, so that a model keeps its language while it memorises.
 * @module
 */

import type { WorkProgress } from "../../engine/model/score.ts";
import { JsonFileError } from "../../engine/io/json.ts";
import type { Sequence } from "../../engine/model/batch.ts";
import type { LanguageModel } from "../../engine/language_model.ts";
import { hash32, shuffle } from "../../engine/tensor/random.ts";
import { type Tokenizer, UntokenizableError } from "../tokenizer/tokenizer.ts";
import type { BenignFile } from "./benign_file.ts";
import { type ObjectiveContext, type ObjectiveKind, textWorkload } from "./objective.ts";
import { RowMean } from "./row_mean.ts";

/**
 * How many benign texts are shown beside `fingerprints` so that they are `proportion` of the sequences: the
 * successor puts ⌊proportion · batch⌋ of them into each batch. At least one, at most `available`.
 */
export function benignCount(fingerprints: number, proportion: number, available = Infinity): number {
  if (proportion === 0) return 0;
  return Math.min(available, Math.max(1, Math.round(fingerprints * proportion / (1 - proportion))));
}

/** Settings of the benign texts of a run. */
export interface BenignOptions {
  /** Their share of a step's sequences and of its loss, 0 to 1. */
  proportion: number;
  /** Fingerprints of a whole step. */
  perStep: number;
  /** Tokens of a text that are trained, at most. */
  length: number;
  seed: number;
}

/** What lets the model write benign texts itself. */
export interface WriteOptions extends BenignOptions {
  /** How many, at most. */
  samples: number;
  /** Steps of the run: no more texts are written than it draws. */
  steps: number;
  /** What every text starts with. */
  startIds: readonly number[];
  eosId?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Hears how far the texts are written. */
  onProgress?: WorkProgress | undefined;
}

const TEXT_STREAM = 0x6277;
const ORDER_STREAM = 0x6266;
/** Characters a token that suffice: cutting a long text before it is tokenised saves most of the work. */
const TOKEN_CHARACTERS = 16;

/**
 * Benign texts of a run. A step is shown `benignCount` of them, trained by next-token cross-entropy at every
 * position of the first `length` tokens. Their mean loss weighs `proportion`, that of the fingerprints the
 * rest: in the successor, which trains as many tokens of each text as of a response, a share of sequences is
 * the same share of the loss, and here longer texts would else outweigh short responses.
 */
export class Benign {
  readonly #ids = new Map<number, readonly number[]>();
  #order: { pass: number; indices: number[] } | undefined;

  private constructor(
    /** How many texts there are. */
    readonly size: number,
    readonly options: BenignOptions,
    readonly tokenize: (index: number) => readonly number[],
  ) {}

  /**
   * Texts of a file, tokenised when they are first drawn.
   * @throws JsonFileError when none of them has tokens to train on.
   */
  static fromFile(file: BenignFile, tokenizer: Tokenizer, options: BenignOptions): Benign {
    const { prefixIds } = tokenizer;
    const benign = new Benign(file.texts.length, options, (index) => {
      const text = file.texts[index]!.slice(0, options.length * TOKEN_CHARACTERS);
      // The cut may have halved a surrogate pair.
      const ids = tokenizer.encode(text.isWellFormed() ? text : text.slice(0, -1));
      return [...prefixIds, ...ids.slice(0, options.length)];
    });
    if (!file.texts.some((_, index) => benign.#idsOf(index).length > 1)) {
      throw new JsonFileError(file.path, "no text in it has two tokens of this model's tokenizer");
    }
    return benign;
  }

  /** Texts that the model, as it is now, writes at temperature 1: what there is without a file. */
  static async write(model: LanguageModel, options: WriteOptions): Promise<Benign> {
    const { samples, steps, startIds, eosId, length, seed, signal, onProgress } = options;
    const drawn = steps * benignCount(options.perStep, options.proportion);
    const count = Math.min(samples, drawn);
    const written = await model.generate(Array.from({ length: count }, () => startIds), {
      maxNewTokens: length,
      temperature: 1,
      seed: hash32(seed, TEXT_STREAM),
      signal,
      onProgress,
      stop: eosId === undefined ? [] : [eosId],
    });
    const texts = written.map((ids) => {
      const end = ids.length < length && eosId !== undefined ? [eosId] : [];
      return [...startIds, ...ids, ...end];
    });
    return new Benign(count, options, (index) => texts[index]!);
  }

  /**
   * The texts of a step that shows `fingerprints` of them, as rows that together weigh `proportion`; none
   * when none of the texts drawn has a next token. No text comes again before all others were drawn, but for
   * the few that the size of a step leaves over.
   */
  draw(step: number, fingerprints = this.options.perStep): Sequence[] {
    const { perStep, proportion, seed } = this.options;
    const whole = benignCount(perStep, proportion, this.size);
    const stepsEach = Math.floor(this.size / whole);
    const [pass, place] = [Math.floor(step / stepsEach), step % stepsEach];
    if (this.#order?.pass !== pass) {
      const indices = shuffle(Array.from({ length: this.size }, (_, i) => i), seed, ORDER_STREAM + pass);
      this.#order = { pass, indices };
    }
    const count = benignCount(fingerprints, proportion, whole);
    const drawn = this.#order.indices.slice(place * whole, place * whole + count);
    const texts = drawn.map((index) => this.#idsOf(index)).filter((ids) => ids.length > 1);
    return nextTokenSequences(texts, proportion);
  }

  /** Tokens of a text; fewer than two, or none where the tokenizer has none for it, have nothing to learn. */
  #idsOf(index: number): readonly number[] {
    const known = this.#ids.get(index);
    if (known) return known;
    const ids = this.#tokens(index);
    this.#ids.set(index, ids);
    return ids;
  }

  #tokens(index: number): readonly number[] {
    try {
      return this.tokenize(index);
    } catch (error) {
      if (error instanceof UntokenizableError) return [];
      throw error;
    }
  }
}

/** Mean cross-entropy of benign texts, which the model writes itself where there is no file. */
export const benignKind: ObjectiveKind = {
  name: "benign",
  isActive: ({ benign_proportion }) => benign_proportion > 0,
  workload({ lengths, prefix }, settings) {
    // How many texts a file has is not known yet: as if they were enough.
    const available = settings.benign_data_file_path === null ? settings.benign_samples : Infinity;
    const perStep = settings.fingerprints_per_step || lengths.length;
    return textWorkload(
      benignCount(perStep, settings.benign_proportion, available),
      settings.benign_length,
      prefix,
    );
  },
  phase: ({ benignFile }) => benignFile ? undefined : "writing benign texts",
  async prepare(context) {
    const benign = await prepareBenign(context);
    return {
      name: "benign",
      share: benign.options.proportion,
      draw: ({ step, chosen }) => benign.draw(step, chosen.length),
      newSums: () => new RowMean("benignLoss"),
    };
  },
};

/** The benign texts that a run's settings ask for. */
async function prepareBenign(
  {
    settings,
    fingerprints: { length: fingerprints },
    benignFile,
    model,
    tokenizer,
    startIds,
    signal,
    onProgress,
  }: ObjectiveContext,
): Promise<Benign> {
  const { benign_proportion: proportion, benign_length: length, seed } = settings;
  const perStep = Math.min(settings.fingerprints_per_step || fingerprints, fingerprints);
  const options = { proportion, perStep, length, seed };
  if (benignFile) return Benign.fromFile(benignFile, tokenizer, options);
  return await Benign.write(model, {
    ...options,
    startIds,
    eosId: tokenizer.eosId,
    signal,
    onProgress,
    samples: settings.benign_samples,
    steps: settings.num_train_epochs * Math.ceil(fingerprints / perStep),
  });
}

/** Every token but the first is a target; all rows together weigh `weight`. */
function nextTokenSequences(texts: readonly (readonly number[])[], weight: number): Sequence[] {
  const rows = texts.reduce((sum, ids) => sum + ids.length - 1, 0);
  return texts.map((ids) => ({
    ids: ids.slice(0, -1),
    rows: ids.slice(1).map((token, position) => ({
      position,
      weight: weight / rows,
      target: { kind: "label" as const, token },
    })),
  }));
}
