/** A second optimizer, as a stranger adds it: plain SGD with momentum as in torch.optim.SGD, for every storage of weights. */
import {
  defineKernel,
  type Optimizer,
  roundingKey,
  weightBindings,
  weightConstants,
  weightGroups,
  weightIncludes,
} from "../../engine/mod.ts";

const source = `//#include "elements.wgsl"
//#include "weight_io.wgsl"
//#include "weight_update.wgsl"
struct Params { count: u32, rate: f32, momentum: f32, first_step: u32, key: u32, first_element: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<Vector>;
@group(0) @binding(2) var<storage, read> clip: array<f32>;
@group(0) @binding(3) var<storage, read_write> weight: array<Word>;
@group(0) @binding(4) var<storage, read_write> velocity: array<Vector>;
//#if LOWER
@group(0) @binding(5) var<storage, read_write> lower: array<Word>;
//#end
fn new_value(i: u32, before: Vector) -> Vector {
  var v = gradient[i] * clip[1];
  if (params.first_step == 0u) { v += params.momentum * velocity[i]; }
  velocity[i] = v;
  return before - params.rate * v;
}
@compute @workgroup_size(64)
fn sgd(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  update_weights(element_of(id, groups));
}`;
const kernel = defineKernel({ name: "sgd", file: "sgd.wgsl", source, includes: weightIncludes });

/** v ← momentum · v + g; w ← w − learning rate · v. */
export const sgd = (momentum: number): Optimizer => ({
  name: "sgd",
  state: [{ name: "velocity", dtype: "f32" }],
  averages: false,
  record(recorder, { parameter: { index }, shard, gradient, clip, state: { velocity } }) {
    const { count, storage, firstElement } = shard;
    const constants = weightConstants(recorder.target, storage, count);
    const bindings = { gradient, clip, velocity, ...weightBindings(shard) };
    recorder.dispatch(
      kernel.variant({ ...constants, AVERAGE: false }),
      bindings,
      ({ step, learningRate, seed }) => ({
        params: {
          count,
          rate: learningRate,
          momentum,
          first_step: Number(step === 1),
          key: roundingKey(seed, step, index),
          first_element: firstElement,
        },
        groups: weightGroups(constants, count),
      }),
    );
  },
});
