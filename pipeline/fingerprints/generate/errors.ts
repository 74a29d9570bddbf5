import type { GenerateSummary } from "./summary.ts";

/** A file of a run of generation can't be used; the message says why and what would help. */
export class GenerateFileError extends Error {
  /** Always "GenerateFileError". */
  override name: string = "GenerateFileError";
  /** `reason` is the message without the path. */
  constructor(readonly path: string, reason: string, options?: ErrorOptions) {
    super(`${path}: ${reason}`, options);
  }
}

/** The file is there already. */
export class FingerprintsExistError extends GenerateFileError {
  /** Always "FingerprintsExistError". */
  override name = "FingerprintsExistError";
  /** `path` is the file that is there. */
  constructor(path: string) {
    super(path, "this file is there already; --force replaces it");
  }
}

/** Fewer fingerprints than asked for could be made. What there is was written. */
export class NotEnoughFingerprintsError extends Error {
  /** Always "NotEnoughFingerprintsError". */
  override name = "NotEnoughFingerprintsError";
  /** `reason` says what ran out. */
  constructor(
    /** The file with those that were made; undefined if there were none. */
    readonly path: string | undefined,
    readonly summary: GenerateSummary,
    reason: string,
  ) {
    const kept = path === undefined ? "nothing was written" : `they are in ${path}`;
    super(
      `only ${summary.count} of ${summary.wanted} fingerprints could be made: ${reason}${
        rejections(summary)
      }; ${kept}`,
    );
  }
}

function rejections({ rejected }: GenerateSummary): string {
  const reasons = Object.entries(rejected).map(([reason, count]) => `${reason}: ${count}`);
  return reasons.length === 0 ? "" : ` (rejected: ${reasons.join("; ")})`;
}
