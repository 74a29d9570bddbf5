/**
 * What a checkpoint decides beside config.json: under which names the parameters lie in it, whether the head is the
 * embedding, and what nobody reads.
 * @module
 */
import type { ModelDir } from "../io/model_dir.ts";
import { openModelDir } from "../io/model_dir.ts";
import { type Checkpoint, elementsOf } from "../io/safetensors.ts";
import { modelSpec } from "../models/families.ts";
import { blockParameters, type ModelSpec, type ModelTensors, parameterSpecs } from "../models/spec.ts";
import { isFloatDtype } from "../tensor/dtype.ts";
import { CheckpointMismatchError } from "./load.ts";

/** Elements that two tensors are compared by at a time. */
const PIECE_ELEMENTS = 1 << 20;

/** Prefixes that are tried: a checkpoint has two or three, one that is made to take long may have thousands. */
const MAX_PREFIXES = 64;

/** Buffers that checkpoints of old held and that are computed from config.json. */
const COMPUTED = /(^|\.)(rotary_emb\.\w+|attn\.(masked_)?bias|attention\.(masked_)?bias|position_ids)$/;

/** As {@link storedSpec}, of a model folder. @throws as opening it does. */
export async function readStoredSpec(dir: string): Promise<ModelSpec> {
  const source = await openModelDir(dir);
  using _ = source.checkpoint;
  return await storedSpec(source);
}

/**
 * The spec of a model as its checkpoint holds it. Names are the checkpoint's own: saved from the base class they lack
 * `model.`, as a part of something larger they have more before it. A tied model is one whose checkpoint has one matrix,
 * under either name, or two equal ones; with a head of its own, a model isn't tied, whatever config.json says. Transformers
 * 5.24 reads all of this in the same way, but for names with more before them, which take the class of the larger model.
 * @throws ConfigError
 * @throws CheckpointMismatchError when the checkpoint holds the model twice under other names than the usual
 */
export async function storedSpec({ config, checkpoint }: ModelDir): Promise<ModelSpec> {
  const spec = withStoredNames(modelSpec(config), checkpoint);
  if (!spec.tied) return spec;
  const { embedding, head } = spec.tensors;
  if (!checkpoint.tensors.has(head.weight)) return spec;
  if (!checkpoint.tensors.has(embedding)) {
    return { ...spec, tensors: { ...spec.tensors, embedding: head.weight } };
  }
  return { ...spec, tied: await areEqual(checkpoint, embedding, head.weight) };
}

/** Tensors that a model of this spec doesn't read, but for those that are known to be computed from config.json. */
export function unusedTensors(spec: ModelSpec, { tensors }: Checkpoint): string[] {
  const used = new Set(parameterSpecs(spec).map(({ name }) => name));
  // A tied head's copy.
  used.add(spec.tensors.head.weight);
  return [...tensors.keys()].filter((name) => !used.has(name) && !COMPUTED.test(name));
}

function withStoredNames(spec: ModelSpec, { tensors }: Checkpoint): ModelSpec {
  const { inputNorm, head } = spec.tensors;
  // "model." or "gpt_neox.", which begins every name but the head's.
  const usual = inputNorm.weight.slice(0, inputNorm.weight.indexOf("layers."));
  const parameters = parameterSpecs(spec).filter(({ name }) => name.startsWith(usual));
  const first = blockParameters(spec, 0)[0]!.name.slice(usual.length);
  const prefixes = [...tensors.keys()]
    .filter((name) => name === first || name.endsWith(`.${first}`))
    .map((name) => name.slice(0, -first.length));
  const found = [...new Set([usual, ...prefixes])]
    .slice(0, MAX_PREFIXES)
    .map((prefix) => ({
      prefix,
      count:
        parameters.filter(({ name, shape }) =>
          tensors.get(prefix + name.slice(usual.length))?.shape.join() === shape.join()
        ).length,
    }));
  const most = Math.max(0, ...found.map(({ count }) => count));
  const best = found.filter(({ count }) => count === most).map(({ prefix }) => prefix);
  const [prefix, ...others] = best;
  if (prefix === undefined || best.includes(usual)) return spec;
  if (others.length) {
    throw new CheckpointMismatchError(
      usual + first,
      `is missing from the checkpoint, which has several like it: ${
        best.map((one) => one + first).join(", ")
      }`,
    );
  }
  const beforeHead = headPrefixes(prefix).find((one) => tensors.has(one + head.weight)) ?? "";
  return {
    ...spec,
    tensors: renamed(
      spec.tensors,
      (name) => name.startsWith(usual) ? prefix + name.slice(usual.length) : beforeHead + name,
    ),
  };
}

/** What may stand before the head's name where `prefix` stands before the blocks': "a.b.", "a.", "". */
function headPrefixes(prefix: string): string[] {
  const parts = prefix.split(".").slice(0, -1);
  return Array.from(
    { length: parts.length + 1 },
    (_, i) => parts.slice(0, parts.length - i).map((part) => `${part}.`).join(""),
  );
}

function renamed(tensors: ModelTensors, rename: (name: string) => string): ModelTensors {
  const walk = (value: unknown): unknown =>
    typeof value === "string" ? rename(value) : Object.fromEntries(
      Object.entries(value as object).map(([field, inner]) => [
        field,
        field === "kind" || inner === undefined ? inner : walk(inner),
      ]),
    );
  return walk(tensors) as ModelTensors;
}

/** Whether two tensors hold the same numbers, bit by bit after widening to f32. */
async function areEqual(checkpoint: Checkpoint, a: string, b: string): Promise<boolean> {
  const first = checkpoint.tensors.get(a)!;
  const second = checkpoint.tensors.get(b)!;
  if (first.shape.join() !== second.shape.join()) return false;
  if (!isFloatDtype(first.dtype) || !isFloatDtype(second.dtype)) return false;
  const elements = elementsOf(first.shape);
  for (let firstElement = 0; firstElement < elements; firstElement += PIECE_ELEMENTS) {
    const part = { firstElement, elements: Math.min(PIECE_ELEMENTS, elements - firstElement) };
    const [one, other] = await Promise.all([bitsOf(checkpoint, a, part), bitsOf(checkpoint, b, part)]);
    if (one.some((bits, i) => bits !== other[i])) return false;
  }
  return true;
}

/** The bits of a part of a tensor, as f32. */
async function bitsOf(
  checkpoint: Checkpoint,
  name: string,
  part: { firstElement: number; elements: number },
): Promise<Uint32Array> {
  let bits = new Uint32Array();
  await checkpoint.stream(name, PIECE_ELEMENTS, (values) => {
    bits = new Uint32Array(values.buffer, 0, values.length);
  }, part);
  return bits;
}
