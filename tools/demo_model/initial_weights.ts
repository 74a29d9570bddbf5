import { hash32, uniform } from "../../engine/tensor/random.ts";
import { hashText } from "./draw.ts";

/**
 * Start of training: norms 1; the embedding normal with deviation 0.02; matrices with 1 / √(inputs), and half of that for
 * those that write to the residual stream.
 */
export function initialWeights(name: string, shape: readonly number[], seed: number): Float32Array {
  const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
  if (shape.length === 1) return values.fill(1);
  const intoResidual = /\.(o_proj|down_proj)\./.test(name);
  const deviation = name.includes("embed") ? 0.02 : (intoResidual ? 0.5 : 1) / Math.sqrt(shape[1]);
  const key = hash32(seed, hashText(name));
  for (let i = 0; i < values.length; i++) {
    // Box–Muller; 1 − u keeps the logarithm's argument above 0.
    const radius = Math.sqrt(-2 * Math.log(1 - uniform(key, i, 0, 0)));
    values[i] = deviation * radius * Math.cos(2 * Math.PI * uniform(key, i, 1, 0));
  }
  return values;
}
