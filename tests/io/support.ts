import { join } from "node:path";
import type { Checkpoint } from "../../engine/io/safetensors.ts";
import type { ParameterSource } from "../../engine/io/safetensors_writer.ts";
import { isFloatDtype } from "../../engine/tensor/dtype.ts";

/** Runs `body` with a new folder that is removed afterwards. */
export async function withFolder(body: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "whorl_io_" });
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Bytes of a safetensors file with any header, right or wrong. */
export function rawFile(header: unknown, data: Uint8Array | number = 0, headerLength?: number): Uint8Array {
  const json = header instanceof Uint8Array
    ? header
    : new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const tail = typeof data === "number" ? new Uint8Array(data) : data;
  const bytes = new Uint8Array(8 + json.byteLength + tail.byteLength);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerLength ?? json.byteLength), true);
  bytes.set(json, 8);
  bytes.set(tail, 8 + json.byteLength);
  return bytes;
}

/** Names in a folder, sorted. */
export async function names(dir: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(dir))).map((entry) => entry.name).sort();
}

/** Writes files (content by name) into a folder, creating it. */
export async function fill(dir: string, files: Record<string, string | Uint8Array>): Promise<void> {
  await Deno.mkdir(dir, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    await Deno.writeFile(join(dir, name), bytes);
  }
}

/** Deterministic values in about ±2. */
export function someValues(count: number, seed = 1): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 30 - 2;
  });
}

/** The folder of the golden models in this repository. */
export const GOLDEN = join(import.meta.dirname!, "..", "golden");

/** Names of the golden models, by their folders. */
export const GOLDEN_NAMES: readonly string[] = [...Deno.readDirSync(GOLDEN)]
  .filter(({ name, isDirectory }) => isDirectory && name !== "optimizer").map(({ name }) => name).sort();

/** Parameters that replace nothing. */
export const nothing: ParameterSource = { has: () => false, read: () => Promise.reject(new Error("asked")) };

/** Parameters that are the floats of a checkpoint, widened and handed over piece by piece. */
export function fromCheckpoint(checkpoint: Checkpoint, skip: string[] = []): ParameterSource {
  return {
    has: (name) => isFloatDtype(checkpoint.tensors.get(name)!.dtype) && !skip.includes(name),
    read: async (name, first, count) => (await checkpoint.read(name)).slice(first, first + count),
  };
}
