/**
 * What keeps fingerprints, by its content: a fingerprint file in any of its forms, the secret that it was made from, the
 * journal of a run that makes one, an opened entry, and pieces of them that a killed run left.
 * @module
 */
import { isJsonObject, parseJson } from "./json.ts";

/** More than any file of fingerprints has. */
const MAX_BYTES = 512 * 2 ** 20;
const HEAD_BYTES = 64 * 2 ** 10;

/** Whether a file's content is that of fingerprints, or of what they are made from. */
export async function holdsFingerprints(path: string): Promise<boolean> {
  using file = await Deno.open(path, { read: true });
  const { size } = await file.stat();
  const head = await read(file, Math.min(size, HEAD_BYTES));
  if (!/^[\s\uFEFF]*[[{]/.test(head)) return false;
  if (isPiece(head)) return true;
  // What has another beginning has to be read to its end.
  return size <= MAX_BYTES && isWhole(head + await read(file, size - HEAD_BYTES));
}

/** The beginning that our own files have, whole or torn. */
function isPiece(head: string): boolean {
  const text = head.replace(/^[\s\uFEFF]+/, "");
  return /^\[\s*\{\s*"(?:key|query|effective_key|key_ids|response|signature|response_ids)"\s*:/.test(text) ||
    /^\{\s*"fingerprints"\s*:\s*\[/.test(text) ||
    /^\{\s*"journal"\s*:\s*"whorl generate/.test(text) ||
    /^\{\s*"seed"\s*:\s*(?:null|\d+)\s*,\s*"secret"/.test(text) ||
    /^\{\s*"entry"\s*:\s*\{\s*"commitment"\s*:/.test(text) ||
    /^\{\s*"outcomes"\s*:\s*\[/.test(text) ||
    (/"(?:secret|draw_key)"\s*:\s*"[0-9a-fA-F]{64}"/.test(text) && text.length < HEAD_BYTES);
}

function isWhole(text: string): boolean {
  let json: unknown;
  try {
    json = parseJson("", text.replace(/^\uFEFF/, ""), { nonFinite: true, secret: true });
  } catch {
    // JSON Lines, of which the first says what they are.
    return text.includes("\n") && isEntry(parsed(text.split("\n").find((line) => line.trim() !== "") ?? ""));
  }
  if (isEntry(json)) return true;
  const list = isJsonObject(json) ? json.fingerprints : json;
  if (!Array.isArray(list) || list.length === 0) return false;
  return list.every((item) => typeof item === "string") || list.some(isEntry);
}

/** An entry has a key and, unless it is a bare one, a response. */
function isEntry(value: unknown): boolean {
  if (!isJsonObject(value)) return false;
  const answers = ["response", "signature", "key_ids", "response_ids", "effective_key"];
  return typeof (value.key ?? value.query) === "string" && answers.some((name) => value[name] !== undefined);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function read(file: Deno.FsFile, bytes: number): Promise<string> {
  if (bytes <= 0) return "";
  const buffer = new Uint8Array(bytes);
  let done = 0;
  while (done < bytes) {
    const count = await file.read(buffer.subarray(done));
    if (count === null) break;
    done += count;
  }
  return new TextDecoder().decode(buffer.subarray(0, done));
}
