/**
 * Opens single fingerprints of a set that was committed to, and checks such openings:
 *
 *     deno task commitment open FILE INDEX [SECRET] > opening.json
 *     deno task commitment verify ROOT OPENING [--draw_key HEX]
 *
 * @module
 */

import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { readJson } from "../../engine/io/json.ts";
import { CommitmentError, verifyEntry } from "../../pipeline/fingerprints/commitment.ts";
import { openEntry } from "../../pipeline/fingerprints/open_entry.ts";

const USAGE = `usage: ./whorl commitment open FILE INDEX [SECRET]
       ./whorl commitment verify ROOT OPENING [--draw_key HEX]

open prints what shows that entry INDEX (from 0) of a generated FILE was in the set that its commitment is of; it needs
the whole file and its secret (FILE.secret). verify checks such an OPENING against the ROOT that was published, and prints
what was committed to; with the draw key also that this key draws the response's place among the candidates.`;

/** Says how to use this, and ends. */
class UsageError extends Error {}

async function main(args: string[]): Promise<void> {
  const { positionals: [command, first, second, third], values } = parsed(args);
  const here = (path: string) => resolve(Deno.env.get("INIT_CWD") ?? ".", path);
  if (first === undefined || second === undefined) throw new UsageError(USAGE);
  if (command === "open") {
    if (!/^\d+$/.test(second)) {
      throw new UsageError(`INDEX: expected an integer from 0, found ${second}\n${USAGE}`);
    }
    const { opening } = await openEntry(here(first), Number(second), third && here(third));
    console.log(JSON.stringify(opening, null, 2));
  } else if (command === "verify") {
    const key = values.draw_key;
    if (key !== undefined && !/^[0-9a-f]{64}$/i.test(key)) {
      throw new UsageError(`--draw_key: expected 64 hexadecimal digits\n${USAGE}`);
    }
    const opening = await readJson(here(second), { what: "the opening", maxBytes: 2 ** 24 });
    const entry = verifyEntry(first, opening, {
      drawKey: key === undefined ? undefined : Uint8Array.fromHex(key),
    });
    console.log(JSON.stringify(entry, null, 2));
  } else throw new UsageError(USAGE);
}

function parsed(args: string[]) {
  try {
    return parseArgs({ args, allowPositionals: true, options: { draw_key: { type: "string" } } });
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n${USAGE}`);
  }
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    console.error(error instanceof CommitmentError ? `refused: ${error.message}` : error.message);
    Deno.exit(error instanceof UsageError ? 2 : 1);
  }
}
