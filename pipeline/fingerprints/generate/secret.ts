/**
 * What a fingerprint file was made from: 32 secret bytes, from which the seeds of all texts and the key of
 * all draws follow. They lie beside the file in `<file>.secret`.
 * @module
 */

import { hkdfSync } from "node:crypto";
import { z } from "zod";
import { attempt, saveAtomic } from "../../../engine/io/atomic.ts";
import { JsonFileError } from "../../../engine/io/json.ts";
import { readJsonAs } from "../../../engine/io/json_schema.ts";
import { GenerateFileError } from "./errors.ts";
import { drawCommitment } from "./draw.ts";

/** The secret of one fingerprint file. */
export class Secret {
  /** Key of the draws (draw.ts). It says nothing of the seeds, so it can be shown as a proof. */
  readonly drawKey: Uint8Array;
  /** SHA-256 of the draw key, hex. */
  readonly commitment: string;

  constructor(
    readonly bytes: Uint8Array,
    /** The seed that it follows from, if any. */
    readonly seed: number | null,
  ) {
    this.drawKey = derive(bytes, "draw");
    this.commitment = drawCommitment(this.drawKey);
  }

  /** What a given seed means: no secret from one who guesses it. */
  static ofSeed(seed: number): Secret {
    return new Secret(derive(new TextEncoder().encode(`${seed}`), "seed"), seed);
  }

  static random(): Secret {
    return new Secret(crypto.getRandomValues(new Uint8Array(32)), null);
  }

  /** Seed of the random numbers for one purpose, 53 bits. */
  stream(purpose: string): number {
    const bytes = derive(this.bytes, `stream ${purpose}`);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    return view.getUint32(0, true) + (view.getUint32(4, true) >>> 11) * 2 ** 32;
  }
}

/** HKDF-SHA256 without salt. */
function derive(bytes: Uint8Array, purpose: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", bytes, "", `whorl generate 1 ${purpose}`, 32));
}

/**
 * The secret at `path`; without one there a new one is put there: the seed's, or a random one. A random one
 * that is there is never lost: with `force` a different one goes to `<path>.<first digits of its
 * commitment>`.
 * @throws GenerateFileError when the one that is there is of another seed and `force` is false, or is broken
 * @throws FileWriteError
 */
export async function openSecret(path: string, seed: number | null, force: boolean): Promise<Secret> {
  const found = await readSecret(path);
  if (found !== undefined && found.seed === seed) return found;
  if (found !== undefined) {
    if (!force) {
      throw new GenerateFileError(
        path,
        `this secret of other fingerprints was made ${made(found.seed)}, this run is ${made(seed)}: ` +
          "--force puts it aside",
      );
    }
    if (found.seed === null) {
      await attempt(path, () => Deno.rename(path, `${path}.${found.commitment.slice(0, 16)}`));
    }
  }
  const secret = seed === null ? Secret.random() : Secret.ofSeed(seed);
  const content = {
    seed,
    secret: secret.bytes.toHex(),
    draw_key: secret.drawKey.toHex(),
    draw_commitment: secret.commitment,
  };
  await saveAtomic(path, JSON.stringify(content, null, 2) + "\n", { mode: 0o600 });
  return secret;
}

const made = (seed: number | null) => seed === null ? "without a seed" : `with the seed ${seed}`;

/** What is read of a secret; the rest follows from it. */
const secretSchema = z.object({
  seed: z.number().int().nullable(),
  secret: z.string().regex(/^[0-9a-fA-F]{64}$/),
});

async function readSecret(path: string): Promise<Secret | undefined> {
  try {
    const options = { what: "the secret", maxBytes: 2 ** 16, secret: true };
    const { seed, secret } = await readJsonAs(path, secretSchema, options);
    return new Secret(Uint8Array.fromHex(secret), seed);
  } catch (cause) {
    if (!(cause instanceof JsonFileError)) throw cause;
    if (cause.isMissing) return undefined;
    const wanted = 'expected a secret of fingerprints, "seed" and 32 bytes of "secret" in hex';
    throw new GenerateFileError(path, `${wanted}: ${cause.reason}`, { cause });
  }
}
