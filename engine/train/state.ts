import type { Gpu } from "../gpu/context.ts";
import type { Slot } from "../gpu/pool.ts";
import { readSlot } from "../gpu/transfer.ts";
import type { Parameters } from "../model/parameters.ts";
import type { OptimizerState } from "./optimizer.ts";

/** A buffer that a training's state is made of. */
export interface StateTensor {
  /** The parameter's name, the number of its row shard, and what it is: `model.norm.weight/0/first moment`. */
  name: string;
  /** Where it lies. */
  slot: Slot;
}

/** All that the steps to come depend on, beside settings and data: exact, as the device has it. */
export interface TrainerState {
  /** Optimizer steps done. */
  steps: number;
  /** Averagings done by passes of their own. */
  averages: number;
  /** Bytes by the names of {@link StateTensor}. */
  tensors: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

/** Bytes that are written before the device is waited for: a copy of each write stays in host memory until then. */
const FLUSH_BYTES = 64 << 20;
const PIECE_BYTES = 8 << 20;

/** The planes of parameters by name; `prefix` keeps others of the same parameters apart. */
export function parameterTensors({ all }: Parameters, prefix = ""): StateTensor[] {
  return all.flatMap(({ name, shards }) =>
    shards.flatMap(({ weight, lower }, i) => [
      { name: `${name}/${i}/${prefix}weight`, slot: weight },
      ...(lower ? [{ name: `${name}/${i}/${prefix}lower halves`, slot: lower }] : []),
    ])
  );
}

/** The optimizer's tensors by name. */
export function optimizerTensors({ shards }: OptimizerState): StateTensor[] {
  return shards.flatMap(({ parameter, shard, state }) =>
    Object.entries(state).map(([name, slot]) => ({
      name: `${parameter.name}/${parameter.shards.indexOf(shard)}/${name}`,
      slot,
    }))
  );
}

/** Copies of tensors in host memory. */
export async function readTensors(
  gpu: Gpu,
  tensors: readonly StateTensor[],
): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const out = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const { name, slot } of tensors) out.set(name, await readSlot(gpu, slot, 0, slot.bytes));
  return out;
}

/**
 * Writes copies back.
 * @throws TypeError, before anything is written, that names a tensor which is missing, left over or of another size.
 */
export async function writeTensors(
  gpu: Gpu,
  tensors: readonly StateTensor[],
  values: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
): Promise<void> {
  for (const { name, slot } of tensors) {
    const found = values.get(name)?.byteLength;
    if (found === slot.bytes) continue;
    throw new TypeError(`state of "${name}": expected ${slot.bytes} bytes, found ${found ?? "none"}`);
  }
  const known = new Set(tensors.map(({ name }) => name));
  for (const name of values.keys()) {
    if (!known.has(name)) throw new TypeError(`state of "${name}": this training has no such tensor`);
  }
  let written = 0;
  for (const { name, slot } of tensors) {
    const bytes = values.get(name)!;
    for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      gpu.write(slot.buffer, piece, at);
      written += piece.byteLength;
      if (written < FLUSH_BYTES) continue;
      await gpu.flush();
      written = 0;
    }
  }
  await gpu.flush();
}
