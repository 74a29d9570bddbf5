/**
 * What a fingerprint file was made from: 32 secret bytes, from which the seeds of all texts and the key of
 * all draws follow. They lie beside the file in `<file>.secret`.
 * @module
 */

import { createHash, hkdfSync } from "node:crypto";
import { z } from "zod";
import { attempt, saveAtomic } from "../../../engine/io/atomic.ts";
import { JsonFileError } from "../../../engine/io/json.ts";
import { readJsonAs } from "../../../engine/io/json_schema.ts";
import { privacyFault } from "../private_file.ts";
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

  /** 32 bytes that hide this content in a commitment, other ones for every content. */
  salt(content: Uint8Array): Uint8Array {
    return derive(this.bytes, `salt ${createHash("sha256").update(content).digest("hex")}`);
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
 * @throws GenerateFileError when the one that is there is of another seed and `force` is false, or is a link,
 * readable by others, or broken
 * @throws FileWriteError
 */
export async function openSecret(path: string, seed: number | null, force: boolean): Promise<Secret> {
  const found = (await readSecret(path))?.secret;
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
  await writeSecret(path, secret);
  return secret;
}

const made = (seed: number | null) => seed === null ? "without a seed" : `with the seed ${seed}`;

/** A secret as its file has it. */
export interface StoredSecret {
  secret: Secret;
  /** Root of the commitment to the set that was made from it, hex; undefined before there is one. */
  setCommitment?: string | undefined;
}

/** Writes a secret, readable by its owner only, and atomically. @throws FileWriteError */
export async function writeSecret(path: string, secret: Secret, setCommitment?: string): Promise<void> {
  const fields = {
    seed: secret.seed,
    secret: secret.bytes.toHex(),
    draw_key: secret.drawKey.toHex(),
    draw_commitment: secret.commitment,
    ...(setCommitment === undefined ? {} : { set_commitment: setCommitment }),
  };
  const content = { ...fields, checksum: checksumOf(fields) };
  await saveAtomic(path, JSON.stringify(content, null, 2) + "\n", { mode: 0o600 });
}

const hex = z.string().regex(/^[0-9a-f]{64}$/);

const secretSchema = z.strictObject({
  seed: z.number().int().nullable(),
  secret: hex,
  draw_key: hex,
  draw_commitment: hex,
  set_commitment: hex.optional(),
  // Version 0.1 wrote none.
  checksum: hex.optional(),
});

type SecretFields = z.output<typeof secretSchema>;

/** SHA-256, hex, over the other fields in their order: finds what nothing else contradicts. */
function checksumOf(
  { seed, secret, draw_key, draw_commitment, set_commitment }: Omit<SecretFields, "checksum">,
) {
  const fields = [seed, secret, draw_key, draw_commitment, set_commitment ?? null];
  return createHash("sha256").update(JSON.stringify(fields)).digest("hex");
}

/**
 * Reads a secret and checks that its parts follow from each other; undefined if there is no such file.
 * @throws GenerateFileError naming the field at fault, with nothing of its content
 */
export async function readSecret(path: string): Promise<StoredSecret | undefined> {
  const info = await Deno.lstat(path).catch(() => undefined);
  const fault = info && privacyFault(path, info);
  if (fault !== undefined) throw new GenerateFileError(path, fault);
  let fields: SecretFields;
  try {
    const options = { what: "the secret", maxBytes: 2 ** 16, secret: true };
    fields = await readJsonAs(path, secretSchema, options);
  } catch (cause) {
    if (!(cause instanceof JsonFileError)) throw cause;
    if (cause.isMissing) return undefined;
    const wanted =
      'expected a secret of fingerprints, "seed", and 32 bytes each of "secret", "draw_key" and ' +
      '"draw_commitment" in hex';
    throw new GenerateFileError(path, `${wanted}: ${cause.reason}`, { cause });
  }
  const secret = new Secret(Uint8Array.fromHex(fields.secret), fields.seed);
  const wrong = contradiction(fields, secret);
  if (wrong !== undefined) {
    throw new GenerateFileError(
      path,
      `this secret is damaged: ${wrong}. Nothing was changed; put a copy of it back, or move it away to begin with a ` +
        "new one",
    );
  }
  return { secret, setCommitment: fields.set_commitment };
}

/** Which part of a secret doesn't go with the others, and how. */
function contradiction(fields: SecretFields, secret: Secret): string | undefined {
  const { seed, draw_key, draw_commitment, set_commitment, checksum } = fields;
  const isKey = draw_key === secret.drawKey.toHex();
  const isCommitment = draw_commitment === secret.commitment;
  if (!isKey && !isCommitment) {
    return 'field "secret" doesn\'t give the "draw_key" and the "draw_commitment" beside it';
  }
  if (!isKey) return 'field "draw_key" is not the one that follows from "secret"';
  if (!isCommitment) return 'field "draw_commitment" is not the SHA-256 of "draw_key"';
  if (seed !== null && Secret.ofSeed(seed).bytes.toHex() !== fields.secret) {
    return 'field "seed" is not the one that gives "secret"';
  }
  if (checksum === undefined) {
    return set_commitment === undefined ? undefined : 'field "checksum" is missing beside "set_commitment"';
  }
  if (checksum !== checksumOf(fields)) {
    return 'field "seed", "set_commitment" or "checksum" was changed: the checksum is not that of the other fields';
  }
}
