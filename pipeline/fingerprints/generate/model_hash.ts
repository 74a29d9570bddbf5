import { createHash } from "node:crypto";
import { join } from "node:path";
import { readBytesIfThere } from "../../../engine/io/read_file.ts";
import { Checkpoint } from "../../../engine/io/safetensors.ts";

/** Bytes of a tensor's beginning and end that count. */
const SAMPLE_BYTES = 4096;

/**
 * A name for a model folder's content that takes milliseconds: SHA-256, hex, over config.json,
 * generation_config.json, and of every tensor in order of its name: name, dtype, shape and its first and last
 * 4,096 bytes. Training changes nearly every weight, so another model of the same shape has another hash; one
 * altered only in the middle of its tensors has not.
 */
export async function modelHash(dir: string): Promise<string> {
  const hash = createHash("sha256");
  for (const name of ["config.json", "generation_config.json"]) {
    const bytes = await readBytesIfThere(join(dir, name), { maxBytes: 64 * 2 ** 20 }) ?? new Uint8Array();
    hash.update(`${name} ${bytes.length}\n`).update(bytes);
  }
  using checkpoint = await Checkpoint.open(dir);
  for (const name of [...checkpoint.tensors.keys()].sort()) {
    const { dtype, shape, begin, end } = checkpoint.tensors.get(name)!;
    hash.update(`${JSON.stringify([name, dtype, shape])}\n`);
    const bytes = Math.min(SAMPLE_BYTES, end - begin);
    for (const firstByte of [0, end - begin - bytes]) {
      await checkpoint.streamBytes(name, SAMPLE_BYTES, (piece) => void hash.update(piece), {
        firstByte,
        bytes,
      });
    }
  }
  return hash.digest("hex");
}
