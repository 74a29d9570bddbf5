import { type Gpu, roundedBytes } from "../gpu/context.ts";
import { Slot } from "../gpu/pool.ts";
import type { KernelTarget } from "../gpu/recorder.ts";
import { elementsOf } from "../io/safetensors.ts";
import { type ModelSpec, type ParameterSpec, parameterSpecs } from "../models/spec.ts";
import { type RowShard, rowShards, slabRows } from "../tensor/sharded.ts";
import { planeBytes, type Storage, type Stored } from "../tensor/stored.ts";

/** How a model's matrices are kept; vectors (norms, biases) are always f32. */
export interface StorageOptions {
  /** What is computed with. */
  dtype: "f32" | "bf16";
  /** With bf16: an f32 master in two planes, or none, and stochastic rounding of each update. */
  master: "f32" | "none";
}

/** How a model's parameters are kept, and which of them are trained. */
export interface ParameterOptions extends StorageOptions {
  /** Whether the parameter of this name is trained; default all are. A frozen one has no gradient and no optimizer state. */
  trainable?: ((name: string) => boolean) | undefined;
}

/** A row shard of a parameter: whole buffers of its own. */
export interface ParameterShard extends RowShard, Stored {
  /** Index of its first element in the parameter. */
  readonly firstElement: number;
  /** Its elements. */
  readonly count: number;
}

/** A parameter in GPU memory, row-major, in Hugging Face's layout. */
export interface Parameter extends ParameterSpec {
  /** Position in {@link Parameters.all}. */
  readonly index: number;
  /** Elements: the product of `shape`. */
  readonly count: number;
  /** Elements of a row: the last extent, or 1 for a vector. */
  readonly columns: number;
  /** How it lies in memory. */
  readonly storage: Storage;
  /** Whether it has a gradient and is updated. */
  readonly trainable: boolean;
  /** Its rows in order; one shard unless it exceeds the largest binding. */
  readonly shards: readonly ParameterShard[];
  /** Elements of a slab, see {@link slabRows}. */
  readonly slab: number;
}

/** The parameters of a model: sizes only, until `loadParameters` (load.ts) fills them. */
export class Parameters {
  readonly all: readonly Parameter[];
  readonly #byName: ReadonlyMap<string, Parameter>;

  /** `target` gives the largest binding, beyond which parameters are split. */
  constructor(readonly spec: ModelSpec, readonly target: KernelTarget, readonly options: ParameterOptions) {
    const limit = target.maxBindingBytes ?? Infinity;
    this.all = parameterSpecs(spec).map((parameter, index) => plan(parameter, index, limit, options));
    this.#byName = new Map(this.all.map((parameter) => [parameter.name, parameter]));
  }

  /** @throws RangeError when there is no parameter of that name. */
  get(name: string): Parameter {
    const parameter = this.#byName.get(name);
    if (!parameter) throw new RangeError(`the model has no parameter "${name}"`);
    return parameter;
  }

  /** Those that are trained. */
  get trainable(): readonly Parameter[] {
    return this.all.filter(({ trainable }) => trainable);
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  get slots(): Slot[] {
    return this.all.flatMap(({ shards }) =>
      shards.flatMap(({ weight, lower }) => lower ? [weight, lower] : [weight])
    );
  }

  /** Bytes of what is computed with, and of the lower planes of the masters. */
  get bytes(): { weights: number; masters: number } {
    const shards = this.all.flatMap((parameter) => parameter.shards);
    return {
      weights: shards.reduce((sum, { weight }) => sum + roundedBytes(weight.bytes), 0),
      masters: shards.reduce((sum, { lower }) => sum + (lower ? roundedBytes(lower.bytes) : 0), 0),
    };
  }

  /** Makes all buffers. */
  realize(gpu: Gpu): void {
    for (const slot of this.slots) slot.realize(gpu);
  }

  dispose(): void {
    for (const slot of this.slots) slot.dispose();
  }
}

function plan(
  parameter: ParameterSpec,
  index: number,
  limit: number,
  { dtype, master, trainable = () => true }: ParameterOptions,
): Parameter {
  const { name, shape } = parameter;
  const [rows = 1, columns = 1] = shape;
  const storage: Storage = shape.length < 2 || dtype === "f32" ? "f32" : master === "f32" ? "split" : "bf16";
  const shards = rowShards(rows, columns, limit).map((shard, _, all): ParameterShard => {
    const count = shard.rows * columns;
    const label = all.length > 1 ? `${name}, rows from ${shard.firstRow}` : name;
    const bytes = planeBytes(storage, count);
    return {
      ...shard,
      firstElement: shard.firstRow * columns,
      count,
      storage,
      weight: new Slot(bytes, label),
      ...(storage === "split" ? { lower: new Slot(bytes, `${label}, lower halves`) } : {}),
    };
  });
  if (shape.length < 2 && shards.length > 1) {
    throw new RangeError(`the vector ${name} of ${rows} numbers doesn't fit a binding of ${limit} bytes`);
  }
  const count = elementsOf(shape);
  const slab = slabRows(columns) * columns;
  return { ...parameter, index, count, columns, storage, trainable: trainable(name), shards, slab };
}
