import vectorsSource from "../../shaders/vectors.wgsl" with { type: "text" };
import weightSource from "../../shaders/weight_io.wgsl" with { type: "text" };
import updateSource from "../../shaders/weight_update.wgsl" with { type: "text" };
import elementsSource from "../../shaders/elements.wgsl" with { type: "text" };
import type { Slot } from "../gpu/pool.ts";
import type { KernelTarget } from "../gpu/recorder.ts";
import type { Storage, Stored } from "../tensor/stored.ts";
import { elementGroups, vectorConstants } from "./launch.ts";

/** Includes of kernels that read and write stored weights. */
export const weightIncludes = {
  "vectors.wgsl": vectorsSource,
  "weight_io.wgsl": weightSource,
  "weight_update.wgsl": updateSource,
  "elements.wgsl": elementsSource,
};

/** Constants of shaders/weight_io.wgsl. */
export interface WeightConstants {
  /** Weights are bf16, two to a word. */
  BF16: boolean;
  /** The lower halves of f32 masters lie in a plane of their own. */
  LOWER: boolean;
  /** An invocation takes four elements. */
  VEC: boolean;
}

/** Constants for `count` stored weights; shaders/weight_update.wgsl has AVERAGE, too. */
export function weightConstants(target: KernelTarget, storage: Storage, count: number): WeightConstants {
  return { BF16: storage !== "f32", LOWER: storage === "split", ...vectorConstants(target, count) };
}

/** Bindings of the weights that a kernel updates. */
export function weightBindings({ weight, lower }: Stored): Record<string, Slot> {
  return { weight, ...(lower ? { lower } : {}) };
}

/** Bindings of the weights that they are averaged with. @throws TypeError when those are stored in another way. */
export function initialBindings({ storage }: Stored, initial: Stored): Record<string, Slot> {
  if (initial.storage !== storage) throw new TypeError(`${initial.storage} weights averaged with ${storage}`);
  return { initial: initial.weight, ...(initial.lower ? { initial_lower: initial.lower } : {}) };
}

/** Workgroups for `count` elements: an invocation a vector, or a word of two. */
export function weightGroups({ BF16, VEC }: WeightConstants, count: number): number {
  return elementGroups(Math.ceil(count / (VEC ? 4 : BF16 ? 2 : 1)));
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
