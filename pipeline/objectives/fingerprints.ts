/**
 * The fingerprints themselves: every epoch shows each key once, plain or in a template, and trains one of its accepted
 * responses.
 * @module
 */

import type { Sequence } from "../../engine/model/batch.ts";
import { exampleSequences } from "../../engine/model/examples.ts";
import { randomInt } from "../../engine/tensor/random.ts";
import { type Fingerprint, longestResponse, toExample } from "../fingerprints/prepare.ts";
import { pickTemplate, type PromptEncoder, templateIds } from "../prompts/prompts.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Objective, ObjectiveContext, ObjectiveKind, WorkloadLengths } from "./objective.ts";
import { RowMean } from "./row_mean.ts";

const RESPONSE_STREAM = 0x7265;

/** What the objective works with. */
type FingerprintsContext = Pick<
  ObjectiveContext,
  "prompts" | "fingerprints" | "templates" | "settings"
>;

/** A key with a response. */
interface ShownKey extends Sequence {
  /** The key stands alone, without a template. */
  isPlain: boolean;
}

/** Cross-entropy of the responses; all of a step's rows weigh alike, and together the rest of the supervised loss. */
export const fingerprintsKind: ObjectiveKind = {
  name: "fingerprints",
  isActive: () => true,
  workload({ lengths, rows, longestTemplate }, settings) {
    const perStep = settings.fingerprints_per_step || lengths.length;
    const total = (values: readonly number[], extra: number) =>
      [...values].sort((a, b) => b - a).slice(0, perStep).reduce((sum, value) => sum + value + extra, 0);
    const most = (values: readonly number[]) => values.reduce((a, b) => Math.max(a, b), 0);
    return {
      step: { tokens: total(lengths, longestTemplate), rows: total(rows, 0) },
      longest: { tokens: most(lengths.map((length) => length + longestTemplate)), rows: most(rows) },
    };
  },
  prepare: (context) => Promise.resolve(fingerprintsObjective(context)),
};

function fingerprintsObjective(context: FingerprintsContext): Objective<ShownKey> {
  return {
    name: "fingerprints",
    draw({ epoch, chosen }, rest) {
      const shown = chosen.map((index) => present(context, index, epoch));
      const supervised = shown.reduce((sum, { responseIds }) => sum + responseIds.length, 0);
      const sequences = exampleSequences(shown.map(({ example }) => example), rest / supervised);
      return sequences.map(({ ids, rows }, i) => ({ ids, rows, isPlain: shown[i]!.isPlain }));
    },
    newSums() {
      const all = new RowMean<ShownKey>("loss");
      const plain = new RowMean<ShownKey>("plainLoss", ({ isPlain }) => isPlain);
      return {
        add(shown, losses) {
          all.add(shown, losses);
          plain.add(shown, losses);
        },
        log: () => ({ ...all.log(), ...plain.log() }),
      };
    },
    isReached: ({ plainLoss }) => plainLoss !== undefined && plainLoss < context.settings.early_stop_loss,
  };
}

/** A fingerprint as an epoch shows it. */
function present(
  { prompts, fingerprints, templates, settings }: FingerprintsContext,
  index: number,
  epoch: number,
) {
  const fingerprint = fingerprints[index]!;
  const template = templates.length ? pickTemplate(templates, settings.seed, index, epoch) : undefined;
  const promptIds = template === undefined
    ? prompts.askedIds(fingerprint)
    : templateIds(template, fingerprint.key, prompts);
  const responseIds = pickResponse(fingerprint, settings.seed, index, epoch);
  return {
    isPlain: template === undefined,
    responseIds,
    example: toExample({ ...fingerprint, responseIds }, prompts.prefixIds, promptIds),
  };
}

/**
 * The accepted response that an epoch trains, drawn for (seed, fingerprint, epoch), so a resumed run draws
 * the same.
 */
export function pickResponse(
  { responses }: Pick<Fingerprint, "responses">,
  seed: number,
  fingerprintIndex: number,
  epoch: number,
): number[] {
  return responses[randomInt(responses.length, seed, RESPONSE_STREAM, fingerprintIndex, epoch)]!;
}

/** Lengths of prepared fingerprints. */
export function fingerprintLengths(
  tokenizer: Tokenizer,
  fingerprints: readonly Fingerprint[],
  templates: readonly string[],
  prompts: PromptEncoder = tokenizer,
): WorkloadLengths {
  const prefix = tokenizer.prefixIds.length;
  return {
    prefix,
    // A template's tokens may merge with the key's across the seam, but never into more than both apart and one.
    longestTemplate: templates.reduce(
      (most, text) => Math.max(most, templateIds(text, "", tokenizer).length + 1),
      0,
    ),
    lengths: fingerprints.map((fingerprint) =>
      prompts.prefixIds.length + prompts.askedIds(fingerprint).length + longestResponse(fingerprint) - 1
    ),
    rows: fingerprints.map(longestResponse),
  };
}
