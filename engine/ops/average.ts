import source from "../../shaders/average.wgsl" with { type: "text" };
import { defineKernel } from "../gpu/kernel.ts";
import type { Recorder } from "../gpu/recorder.ts";
import type { Stored } from "../tensor/stored.ts";
import {
  initialBindings,
  type Rounding,
  weightBindings,
  weightConstants,
  weightGroups,
  weightIncludes,
} from "./weight_io.ts";

const kernel = defineKernel({ name: "average", file: "average.wgsl", source, includes: weightIncludes });

/** weight += λ · (initial − weight) for `count` weights, both stored in one way. */
export function average<S>(
  recorder: Recorder<S>,
  count: number,
  { initial, parameter }: { initial: Stored; parameter: Stored },
  options: (sizes: S) => { lambda: number; rounding: Rounding },
): void {
  const constants = weightConstants(recorder.target, parameter.storage, count);
  recorder.dispatch(
    kernel.variant({ ...constants, AVERAGE: true }),
    { ...weightBindings(parameter), ...initialBindings(parameter, initial) },
    (sizes) => {
      const { lambda, rounding: { key, firstElement } } = options(sizes);
      return {
        params: { count, lambda, key, first_element: firstElement },
        groups: weightGroups(constants, count),
      };
    },
  );
}
