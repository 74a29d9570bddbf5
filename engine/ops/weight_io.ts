import weightSource from "../../shaders/weight_io.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import type { Storage } from "../tensor/stored.ts";
import { elementGroups } from "./launch.ts";

/** Includes of kernels that read and write stored weights. */
export const weightIncludes = { "weight_io.wgsl": weightSource, "elements.wgsl": elementsSource };

/** Constants of shaders/weight_io.wgsl. */
export function weightConstants(storage: Storage): { BF16: boolean; LOWER: boolean } {
  return { BF16: storage !== "f32", LOWER: storage === "split" };
}

/** Workgroups for `count` elements: an invocation a word. */
export function weightGroups(storage: Storage, count: number): number {
  return elementGroups(storage === "f32" ? count : Math.ceil(count / 2));
}

/** What stochastic rounding of bf16 weights depends on besides the element. */
export interface Rounding {
  /** See {@link roundingKey}. */
  key: number;
  /** The tensor's element that is the first of this shard. */
  firstElement: number;
}

/** Key of a step's and tensor's random bits: a mix (murmur3's finisher) of all three numbers. */
export function roundingKey(seed: number, step: number, tensor: number): number {
  let key = 0x9e3779b9;
  for (const part of [seed, step, tensor]) {
    key = Math.imul(key ^ part, 0x85ebca6b);
    key = Math.imul(key ^ (key >>> 13), 0xc2b2ae35);
    key ^= key >>> 16;
  }
  return key >>> 0;
}
