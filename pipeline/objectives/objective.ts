/**
 * What a run trains: each objective shows sequences of its own in every optimizer step, and says what the epoch's log has
 * of their losses. A kind of objective is one file here and one line in list.ts.
 * @module
 */

import type { PassCapacity, Sequence } from "../../engine/model/batch.ts";
import type { WorkProgress } from "../../engine/model/score.ts";
import type { SoftTables } from "../../engine/model/head.ts";
import type { ModelSpec } from "../../engine/models/spec.ts";
import type { LanguageModel } from "../../engine/language_model.ts";
import type { MemoryPart } from "../../engine/train/plan.ts";
import type { Fingerprint } from "../fingerprints/prepare.ts";
import type { PromptEncoder } from "../prompts/prompts.ts";
import type { FinetuneSettings } from "../settings/finetune.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { BenignFile } from "./benign_file.ts";

/** An optimizer step, as objectives draw for it. */
export interface Step {
  /** From 0. */
  step: number;
  /** From 0. */
  epoch: number;
  /** Indices of the fingerprints that the step shows. */
  chosen: readonly number[];
}

/** Losses of an epoch, in nats, by their names in log.jsonl. */
export type Losses = Readonly<Record<string, number>>;

/** What an objective's sequences lost in an epoch's steps so far. */
export interface LossSums<Shown extends Sequence = Sequence> {
  /** What a step showed, which may be nothing, and the unweighted loss of each of its rows, in order. */
  add(shown: readonly Shown[], losses: Float32Array): void;
  /** Without those losses of which the epoch had no row. */
  log(): Losses;
}

/** An objective ready to be trained. */
export interface Objective<Shown extends Sequence = Sequence> {
  readonly name: string;
  /**
   * Part of a step's supervised loss that what it draws weighs together, 0 to 1. Objectives that leave it out draw after
   * those that have one.
   */
  readonly share?: number;
  /**
   * What a step shows, rows and their weights included; a function of the step alone, since steps are drawn ahead. `rest`
   * is what objectives with a share left of the supervised loss.
   */
  draw(step: Step, rest: number): Shown[];
  /** Sums of an epoch that begins. */
  newSums(): LossSums<Shown>;
  /** Whether training may end after an epoch that logged these losses. */
  isReached?(losses: Losses): boolean;
  /** Tables that soft targets of its rows point into. */
  readonly tables?: SoftTables;
  dispose?(): void;
}

/** What objectives are prepared from. */
export interface ObjectiveContext {
  model: LanguageModel;
  tokenizer: Tokenizer;
  /** How keys are asked: a tokenizer for plain text, or a chat template. */
  prompts: PromptEncoder;
  fingerprints: readonly Fingerprint[];
  /** Templates of prompt augmentation; empty without. */
  templates: readonly string[];
  /** The file of `benign_data_file_path`, if there is one. */
  benignFile?: BenignFile | undefined;
  /** What a text that the model writes starts with. */
  startIds: readonly number[];
  settings: FinetuneSettings;
  /** Hears how far texts are written. */
  onProgress?: WorkProgress | undefined;
  signal?: AbortSignal | undefined;
}

/** Lengths of what a run trains on, in tokens. */
export interface WorkloadLengths {
  /** Input tokens of each fingerprint with its longest response, and supervised tokens of that. */
  lengths: readonly number[];
  rows: readonly number[];
  /** Most tokens that a prompt template adds. */
  longestTemplate: number;
  /** Tokens that the tokenizer puts before a text. */
  prefix: number;
}

/** Tokens and rows that an objective adds to a step, and the most of one sequence of its. */
export interface ObjectiveWorkload {
  step: PassCapacity;
  longest: PassCapacity;
}

/** A kind of objective: what is known of it before anything is loaded, and how it is prepared. */
export interface ObjectiveKind {
  readonly name: string;
  isActive(settings: FinetuneSettings): boolean;
  /** Of an active one, at most. */
  workload(lengths: WorkloadLengths, settings: FinetuneSettings): ObjectiveWorkload;
  /** What an active one keeps on the device through training, at most. */
  tables?(spec: ModelSpec, settings: FinetuneSettings): MemoryPart;
  /** What a run says it does while it prepares; undefined where that takes no time. */
  phase?(context: ObjectiveContext): string | undefined;
  /** What it throws has freed what it made. */
  prepare(context: ObjectiveContext): Promise<Objective>;
}

/** Workload of `count` texts that the model writes or a file has: a start, and `length` tokens that are rows each. */
export function textWorkload(count: number, length: number, prefix: number): ObjectiveWorkload {
  // Of a written text the start and all tokens but the last are input.
  const longest = { tokens: length + Math.max(1, prefix) - 1, rows: length };
  return { step: { tokens: count * longest.tokens, rows: count * longest.rows }, longest };
}
