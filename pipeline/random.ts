/** See engine/tensor/random.ts. */
export * from "../engine/tensor/random.ts";
