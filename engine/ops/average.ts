import source from "../../shaders/average.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Slot } from "../gpu/pool.ts";
import type { Recorder } from "../gpu/recorder.ts";
import type { Stored } from "../tensor/stored.ts";
import { type Rounding, weightConstants, weightGroups, weightIncludes } from "./weight_io.ts";

const kernel = defineKernel({ name: "average", file: "average.wgsl", source, includes: weightIncludes });

/** weight += λ · (initial − weight) for `count` weights, both stored in one way. */
export function average<S>(
  recorder: Recorder<S>,
  count: number,
  slots: { initial: Stored; parameter: Stored },
  options: (sizes: S) => { lambda: number; rounding: Rounding },
): void {
  const { initial, parameter: { storage, weight, lower } } = slots;
  if (initial.storage !== storage) throw new TypeError(`${initial.storage} weights averaged with ${storage}`);
  const planes: Record<string, Slot> = lower ? { lower, initial_lower: initial.lower! } : {};
  recorder.dispatch(
    kernel.variant(weightConstants(storage)),
    { initial: initial.weight, weight, ...planes },
    (sizes) => {
      const { lambda, rounding: { key, firstElement } } = options(sizes);
      return {
        params: { count, lambda, key, first_element: firstElement },
        groups: weightGroups(storage, count),
      };
    },
  );
}
