import { anchorKind } from "./anchor.ts";
import { benignKind } from "./benign.ts";
import { fingerprintsKind } from "./fingerprints.ts";
import type { ObjectiveKind } from "./objective.ts";

/** Every kind of objective, in the order in which a step shows them and the log has their losses. */
export const OBJECTIVES: readonly ObjectiveKind[] = [
  fingerprintsKind,
  benignKind,
  anchorKind,
];
