import type { Gpu } from "../gpu/context.ts";
import { Slot } from "../gpu/pool.ts";
import { readSlot } from "../gpu/transfer.ts";
import { elementsOf } from "../io/safetensors.ts";
import type { Checkpoint } from "../io/safetensors.ts";
import { isFloatDtype } from "../tensor/dtype.ts";
import {
  blockName,
  type ModelSpec,
  type ParameterSpec,
  parameterSpecs,
  type TensorNames,
} from "../models/spec.ts";

/** A checkpoint lacks a parameter, or has it with another shape or dtype than the config asks for. */
export class CheckpointMismatchError extends Error {
  override name = "CheckpointMismatchError";
  constructor(readonly tensor: string, message: string) {
    super(`tensor "${tensor}" ${message}`);
  }
}

/** A parameter in GPU memory: f32, row-major, in Hugging Face's layout. */
export interface Parameter extends ParameterSpec {
  readonly count: number;
  readonly weight: Slot;
}

/** Elements that travel from disk to the GPU at a time: 4 MiB. */
const PIECE_ELEMENTS = 1 << 20;

/** The parameters of a model; without {@link Parameters.load} only their sizes, for planning. */
export class Parameters {
  readonly all: readonly Parameter[];
  readonly #byName: ReadonlyMap<string, Parameter>;

  constructor(readonly spec: ModelSpec) {
    this.all = parameterSpecs(spec).map((parameter) => {
      const count = elementsOf(parameter.shape);
      return { ...parameter, count, weight: new Slot(count * 4, parameter.name) };
    });
    this.#byName = new Map(this.all.map((parameter) => [parameter.name, parameter]));
  }

  /** @throws RangeError when there is no parameter of that name. */
  get(name: string): Parameter {
    const parameter = this.#byName.get(name);
    if (!parameter) throw new RangeError(`the model has no parameter "${name}"`);
    return parameter;
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** A block's parameter by its role. */
  inBlock(role: keyof TensorNames, layer: number): Parameter {
    return this.get(blockName(this.spec.names[role], layer));
  }

  get totalBytes(): number {
    return this.all.reduce((sum, { count }) => sum + count * 4, 0);
  }

  /**
   * Streams all parameters from the checkpoint into GPU buffers; other tensors of the checkpoint are ignored.
   * @throws CheckpointMismatchError before anything is allocated.
   */
  async load(gpu: Gpu, checkpoint: Checkpoint): Promise<void> {
    for (const { name, shape } of this.all) {
      const entry = checkpoint.tensors.get(name);
      if (!entry) throw new CheckpointMismatchError(name, "is missing from the checkpoint");
      if (entry.shape.join() !== shape.join()) {
        throw new CheckpointMismatchError(
          name,
          `has shape [${entry.shape}], but config.json gives [${shape}]`,
        );
      }
      if (!isFloatDtype(entry.dtype)) {
        throw new CheckpointMismatchError(name, `has dtype ${entry.dtype}, expected F32, F16 or BF16`);
      }
    }
    for (const { name, weight } of this.all) {
      weight.realize(gpu);
      await checkpoint.stream(name, PIECE_ELEMENTS, (values, first) => {
        gpu.write(weight.buffer, values as Float32Array<ArrayBuffer>, first * 4);
      });
    }
    await gpu.check();
  }

  /** Reads `count` elements from `first` on. */
  async read(
    gpu: Gpu,
    name: string,
    first = 0,
    count: number = this.get(name).count - first,
  ): Promise<Float32Array> {
    const bytes = await readSlot(gpu, this.get(name).weight, first * 4, count * 4);
    return new Float32Array(bytes.buffer);
  }

  dispose(): void {
    for (const { weight } of this.all) weight.dispose();
  }
}
