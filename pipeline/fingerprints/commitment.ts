/**
 * The commitment to a set of fingerprints: the root of a Merkle tree with a leaf for each, published early. Later single
 * fingerprints are opened: whoever has the root sees that they were in the set, as they are, and learns nothing of
 * the others. docs/fingerprints.md says what that shows and what it doesn't.
 * @module
 */

import { z } from "zod";
import { drawCommitment, drawResponses } from "./generate/draw.ts";
import { leafHash, merklePath, merkleRoot, rootOfPath } from "./merkle.ts";

/** Names the form of a leaf; another form gets another name. */
const FORM = "whorl set 1";

const hex = z.string().regex(/^[0-9a-f]{64}$/);
const ids = z.array(z.int().min(0)).min(1);
const count = z.int().min(1);

/** What is committed to of a fingerprint. The order is that of the leaf's JSON. */
const recordSchema = z.strictObject({
  commitment: z.literal(FORM),
  /** Of this fingerprint in its set, from 0. */
  index: z.int().min(0),
  /** How many the set has. */
  count,
  key_ids: ids,
  asked_ids: ids,
  response_ids: z.array(ids).min(1),
  strategy: z.string(),
  nucleus_t: z.number().min(0).lt(1).nullable(),
  nucleus_k: count.nullable(),
  nucleus_size: count.nullable(),
  // More tokens than any vocabulary has would only keep a verifier busy.
  k_effective: count.max(2 ** 24).nullable(),
  draw_index: z.array(z.int().min(0)).min(1).nullable(),
  draw: z.string().nullable(),
  draw_commitment: hex.nullable(),
  model_hash: hex,
  tokenizer_hash: hex,
});

/** The fields that tell how a response was drawn: all there or none. */
const DRAW_FIELDS = [
  "nucleus_t",
  "nucleus_k",
  "nucleus_size",
  "k_effective",
  "draw_index",
  "draw",
  "draw_commitment",
] as const;

const openingSchema = z.strictObject({ entry: recordSchema, salt: hex, path: z.array(hex).max(64) });

/** What is committed to of one fingerprint: token ids, and how they came about. Fields that don't apply are null. */
export interface CommittedEntry {
  /** Names the form of the leaf. */
  commitment: "whorl set 1";
  /** Of this fingerprint in its set, from 0. */
  index: number;
  /** How many the set has. */
  count: number;
  /** Token ids of the key, without BOS. */
  key_ids: number[];
  /** Token ids of the question: the key with what goes before it, in a chat template if one was used. */
  asked_ids: number[];
  /** Token ids of each response. */
  response_ids: number[][];
  /** How fingerprint and response were made. */
  strategy: string;
  /** Probability mass of the nucleus that was asked for. */
  nucleus_t: number | null;
  /** How many candidates were asked for. */
  nucleus_k: number | null;
  /** Tokens of the nucleus. */
  nucleus_size: number | null;
  /** How many candidates there were. */
  k_effective: number | null;
  /** Place of each response's first token among the candidates, from 0, the likeliest first. */
  draw_index: number[] | null;
  /** How the place was drawn. */
  draw: string | null;
  /** SHA-256 of the draw key, hex. */
  draw_commitment: string | null;
  /** Of the model whose probabilities counted. */
  model_hash: string;
  /** SHA-256 of tokenizer.json, hex. */
  tokenizer_hash: string;
}

/** One fingerprint of a set shown to somebody who has the set's root: JSON. */
export interface Opening {
  /** What was committed to. */
  entry: CommittedEntry;
  /** 32 bytes in hex, that hide the leaf until now. */
  salt: string;
  /** Hashes beside the way to the root, hex, lowest first. */
  path: string[];
}

/** An entry that can't be committed to or opened, or an opening that doesn't belong to the root. */
export class CommitmentError extends Error {
  /** For telling it apart where classes are copied. */
  override readonly name = "CommitmentError";
}

/** An entry as far as a commitment looks at it. */
export interface EntryFields {
  keyIds?: undefined | readonly number[];
  responseIds?: undefined | readonly (readonly number[])[];
  /** Every other field, as a file has it. */
  extra: Readonly<Record<string, unknown>>;
}

/** Gives the 32 bytes that hide a leaf's content, from nothing but a secret and that content. */
export type SaltOf = (content: Uint8Array) => Uint8Array;

/** A commitment to a set. */
export class SetCommitment {
  readonly #records: CommittedEntry[];
  readonly #salts: Uint8Array[];
  readonly #leaves: Uint8Array[];
  /** What is published, 32 bytes in hex. */
  readonly root: string;

  /** @throws CommitmentError naming entry and field where something is missing */
  constructor(entries: readonly EntryFields[], saltOf: SaltOf) {
    this.#records = entries.map((entry, index) => recordOf(entry, index, entries.length));
    const contents = this.#records.map(contentOf);
    this.#salts = contents.map(saltOf);
    this.#leaves = contents.map((content, i) => leafHash(this.#salts[i]!, content));
    this.root = merkleRoot(this.#leaves).toHex();
  }

  get count(): number {
    return this.#records.length;
  }

  /** What shows that entry `index` was in the set. @throws RangeError */
  open(index: number): Opening {
    if (!Number.isInteger(index) || index < 0 || index >= this.count) {
      throw new RangeError(`expected the number of an entry from 0 to ${this.count - 1}, found ${index}`);
    }
    return {
      entry: this.#records[index]!,
      salt: this.#salts[index]!.toHex(),
      path: merklePath(this.#leaves, index).map((hash) => hash.toHex()),
    };
  }
}

/**
 * Checks that an opening belongs to a published root, and gives what was committed to.
 * @param opening what `openEntry` gave, perhaps parsed from JSON; it is not trusted
 * @param options.drawKey with it, also that the response's place among the candidates is the one that this key draws
 * @throws CommitmentError saying what is wrong
 */
export function verifyEntry(
  root: string,
  opening: unknown,
  { drawKey }: { drawKey?: Uint8Array | undefined } = {},
): CommittedEntry {
  if (!hex.safeParse(root).success) {
    throw new CommitmentError("root: expected 64 hexadecimal digits in lower case");
  }
  const parsed = openingSchema.safeParse(opening);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    throw new CommitmentError(`opening: ${path.join(".") || "content"}: ${message}`);
  }
  const { entry, salt, path } = parsed.data;
  checkRecord(entry, "opening");
  const leaf = leafHash(Uint8Array.fromHex(salt), contentOf(entry));
  const found = rootOfPath(leaf, entry.index, entry.count, path.map((hash) => Uint8Array.fromHex(hash)));
  if (found?.toHex() !== root) {
    throw new CommitmentError(
      `opening: entry ${entry.index} of ${entry.count} as it is here was not in the set of root ${root}` +
        (found ? `: it gives ${found.toHex()}` : `: ${path.length} hashes are no path in such a set`),
    );
  }
  if (drawKey) checkDraw(entry, drawKey);
  return entry;
}

/** The record of an entry. */
function recordOf({ keyIds, responseIds, extra }: EntryFields, index: number, count: number): CommittedEntry {
  const where = `entry ${index} (counted from 0)`;
  const { draw_index: drawn } = extra;
  const parsed = recordSchema.safeParse({
    commitment: FORM,
    index,
    count,
    key_ids: keyIds,
    asked_ids: extra.asked_ids,
    response_ids: responseIds,
    strategy: extra.strategy,
    ...Object.fromEntries(DRAW_FIELDS.map((name) => [name, extra[name] ?? null])),
    draw_index: typeof drawn === "number" ? [drawn] : drawn ?? null,
    model_hash: extra.model_hash,
    tokenizer_hash: extra.tokenizer_hash,
  });
  if (!parsed.success) {
    const field = parsed.error.issues[0]!.path.join(".");
    throw new CommitmentError(`${where}: field ${field} is missing or not what generate writes`);
  }
  checkRecord(parsed.data, where);
  return parsed.data;
}

/** What the schema doesn't say. */
function checkRecord(entry: CommittedEntry, where: string): void {
  const fail = (why: string): never => {
    throw new CommitmentError(`${where}: ${why}`);
  };
  const { index, count, k_effective: candidates, nucleus_k: k, draw_index: drawn, response_ids: responses } =
    entry;
  if (index >= count) fail(`index: expected one below count ${count}, found ${index}`);
  const missing = DRAW_FIELDS.filter((name) => entry[name] === null);
  if (missing.length === DRAW_FIELDS.length) return;
  if (missing.length > 0) {
    fail(`${missing[0]}: expected a value beside the other fields of a draw, found none`);
  }
  if (candidates! > k!) fail(`k_effective: expected at most nucleus_k ${k}, found ${candidates}`);
  if (drawn!.length !== responses.length) {
    fail(`draw_index: expected one for each of ${responses.length} responses, found ${drawn!.length}`);
  }
  if (drawn!.some((place) => place >= candidates!)) {
    fail(`draw_index: expected places below k_effective ${candidates}`);
  }
}

/** Whether the places are those that a draw key gives. */
function checkDraw(
  { key_ids, k_effective, draw_index, draw_commitment }: CommittedEntry,
  drawKey: Uint8Array,
): void {
  if (draw_commitment === null) throw new CommitmentError("draw key: this entry's response was not drawn");
  if (drawCommitment(drawKey) !== draw_commitment) {
    throw new CommitmentError("draw key: its SHA-256 is not the entry's draw_commitment");
  }
  const places = Array.from({ length: k_effective! }, (_, place) => place);
  const drawn = drawResponses(drawKey, key_ids, places, draw_index!.length);
  if (drawn.join() !== draw_index!.join()) {
    throw new CommitmentError(
      `draw_index: the draw key draws ${drawn.join(", ")}, found ${draw_index!.join(", ")}`,
    );
  }
}

const FIELDS = Object.keys(recordSchema.shape) as (keyof CommittedEntry)[];

/** A record as a leaf has it: JSON without spaces, fields in the order of the schema, UTF-8. */
function contentOf(record: CommittedEntry): Uint8Array {
  const ordered = Object.fromEntries(FIELDS.map((name) => [name, record[name]]));
  return new TextEncoder().encode(JSON.stringify(ordered));
}
