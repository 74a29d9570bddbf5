/**
 * Opening single entries of a fingerprint file, for somebody who has its commitment.
 * @module
 */

import { CommitmentError, type Opening, SetCommitment } from "./commitment.ts";
import { readFingerprintFile } from "./file.ts";
import { readSecret } from "./generate/secret.ts";

/**
 * What shows that entry `index` (from 0) of a generated file was in the set that its commitment is of. The whole file
 * is needed, as `generate` wrote it, and its secret.
 * @param secretPath default `<path>.secret`
 * @throws CommitmentError when the file isn't the one that was committed to
 * @throws RangeError for an index that it doesn't have, FingerprintFileError, GenerateFileError
 */
export async function openEntry(
  path: string,
  index: number,
  secretPath: string = `${path}.secret`,
): Promise<{ root: string; opening: Opening }> {
  const { entries } = await readFingerprintFile(path);
  const found = await readSecret(secretPath);
  if (!found) {
    throw new CommitmentError(
      `${secretPath}: cannot open an entry without the secret: there is no such file`,
    );
  }
  const fail = (reason: string): never => {
    throw new CommitmentError(`${path}: ${reason}`);
  };
  let set: SetCommitment;
  try {
    set = new SetCommitment(entries, (content) => found.secret.salt(content));
  } catch (error) {
    return fail((error as Error).message);
  }
  const stray = entries.findIndex(({ extra }) => extra.set_commitment !== set.root);
  const wanted = found.setCommitment;
  if (stray >= 0 || (wanted !== undefined && wanted !== set.root)) {
    fail(
      "its entries are not the set that was committed to " +
        (stray >= 0
          ? `(see set_commitment of entry ${stray}, counted from 0)`
          : `(root ${wanted} in ${secretPath})`) +
        `: they give ${set.root}; one was changed, left out or moved, or the secret is another file's`,
    );
  }
  return { root: set.root, opening: set.open(index) };
}
