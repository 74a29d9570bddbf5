import source from "../../shaders/cross_entropy.wgsl" with { type: "text" };
import ioSource from "../../shaders/cross_entropy_io.wgsl" with { type: "text" };
import vectorsSource from "../../shaders/vectors.wgsl" with { type: "text" };
import rowsSource from "../../shaders/rows.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import { type Dim, dim, type Recorder } from "../gpu/recorder.ts";
import { rowConstants, vectorConstants } from "./launch.ts";

const includes = {
  "vectors.wgsl": vectorsSource,
  "cross_entropy_io.wgsl": ioSource,
  "rows.wgsl": rowsSource,
};
const define = (name: string) => defineKernel({ name, file: "cross_entropy.wgsl", source, includes });
const statsKernel = define("cross_entropy_stats");
const gradientKernel = define("cross_entropy_gradient");

/** What a row of logits should be: a token, or a distribution in the soft tables. */
export type RowTarget =
  | { kind: "label"; token: number }
  /** The whole distribution: `vocabulary` probabilities from `begin` of the table, a multiple of 4. */
  | { kind: "dense"; begin: number }
  /** `count` tokens (ids ascending) from `begin` of the tables, and the mass of all others. */
  | { kind: "top"; begin: number; count: number; rest: number };

/** The kinds of targets that point into the soft tables. */
export type SoftKind = Exclude<RowTarget["kind"], "label">;

/** Bytes of one encoded target. */
export const ROW_TARGET_BYTES = 20;

/** Encodes targets with their weights for the kernels. @throws RangeError for a distribution that begins off a multiple of 4. */
export function encodeRowTargets(
  rows: readonly { weight: number; target: RowTarget }[],
): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(rows.length * ROW_TARGET_BYTES));
  rows.forEach(({ weight, target }, i) => {
    const at = i * ROW_TARGET_BYTES;
    if (target.kind === "dense" && target.begin % 4) {
      throw new RangeError(`row ${i}: a distribution begins at ${target.begin}, expected a multiple of 4`);
    }
    view.setUint32(at, ["label", "dense", "top"].indexOf(target.kind), true);
    view.setUint32(at + 4, target.kind === "label" ? target.token : target.begin, true);
    view.setUint32(at + 8, target.kind === "top" ? target.count : 0, true);
    view.setFloat32(at + 12, weight, true);
    view.setFloat32(at + 16, target.kind === "top" ? target.rest : 0, true);
  });
  return new Uint8Array(view.buffer);
}

/** One vocabulary chunk of the loss: logits [rows, columns] for tokens firstColumn … firstColumn + columns − 1. */
export interface CrossEntropyChunk<S> {
  rows: Dim<S>;
  columns: number;
  firstColumn: number;
  /** Encoded targets, and the tables that soft ones point into. */
  targets: Slot;
  softIds: Slot;
  softProbs: Slot;
  /** Kinds of soft targets that may occur. */
  softKinds: readonly SoftKind[];
  logits: Slot;
  /** Above 0 the logits given are z = cap·tanh(l / cap), and the second pass gives the gradient of l. */
  cap: number;
  /** [rows] of 4 floats: running max, sums over listed and other tokens, label's logit (see the WGSL). */
  stats: Slot;
}

/** First pass: adds a chunk to the running statistics. */
export function crossEntropyStats<S>(recorder: Recorder<S>, chunk: CrossEntropyChunk<S>): void {
  record(recorder, chunk, false);
}

/** Second pass: logits become weight · dloss/dlogits, rowLoss [rows] gains the chunk's part, unweighted. */
export function crossEntropyGradient<S>(
  recorder: Recorder<S>,
  chunk: CrossEntropyChunk<S> & { rowLoss: Slot },
): void {
  record(recorder, chunk, true);
}

function record<S>(
  recorder: Recorder<S>,
  chunk: CrossEntropyChunk<S> & { rowLoss?: Slot },
  gradient: boolean,
): void {
  const { rows, columns, firstColumn, targets, softIds, softProbs, softKinds, logits, cap, stats, rowLoss } =
    chunk;
  const constants = {
    ...rowConstants(recorder.target),
    ...vectorConstants(recorder.target, columns, firstColumn),
    HAS_DENSE: softKinds.includes("dense"),
    HAS_TOP: softKinds.includes("top"),
  };
  recorder.dispatch(
    gradient
      ? gradientKernel.variant({ ...constants, GRADIENT: true, CAP: cap > 0 })
      : statsKernel.variant({ ...constants, GRADIENT: false }),
    {
      targets,
      soft_ids: softIds,
      soft_probs: softProbs,
      logits,
      stats,
      ...(gradient ? { row_loss: rowLoss! } : {}),
    },
    (sizes) => {
      const count = dim(rows, sizes);
      return {
        params: { rows: count, columns, first_column: firstColumn, cap },
        groups: Math.ceil(count / constants.ROWS),
      };
    },
  );
}
