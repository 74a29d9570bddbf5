import { type Gpu, roundedBytes } from "../gpu/context.ts";
import { Slot } from "../gpu/pool.ts";
import { readSlot } from "../gpu/transfer.ts";
import type { GradientShards } from "./context.ts";
import type { Parameter } from "./parameters.ts";

/** Gradient buffers of trained parameters, f32, in the row shards of its parameters; each is made when first asked for. */
export class Gradients {
  readonly #byName = new Map<string, GradientShards>();

  /** Without a device only sizes are kept, for planning. */
  constructor(readonly gpu?: Gpu) {}

  /** The gradient of a parameter, by its row shards. */
  of({ name, shards }: Parameter): GradientShards {
    let gradients = this.#byName.get(name);
    if (!gradients) {
      gradients = shards.map(({ firstRow, rows, count, weight }) => {
        return { firstRow, rows, gradient: new Slot(count * 4, `${weight.label}, gradient`) };
      });
      this.#byName.set(name, gradients);
      if (this.gpu) { for (const { gradient } of gradients) gradient.realize(this.gpu); }
    }
    return gradients;
  }

  /** Bytes of all gradients made so far. */
  get totalBytes(): number {
    return [...this.#byName.values()].flat().reduce(
      (sum, { gradient }) => sum + roundedBytes(gradient.bytes),
      0,
    );
  }

  /** A copy of a parameter's gradient. */
  async read(gpu: Gpu, parameter: Parameter): Promise<Float32Array> {
    const out = new Float32Array(parameter.count);
    for (const [i, { gradient }] of this.of(parameter).entries()) {
      const { count, firstElement } = parameter.shards[i]!;
      const bytes = await readSlot(gpu, gradient, 0, count * 4);
      out.set(new Float32Array(bytes.buffer), firstElement);
    }
    return out;
  }

  /** Frees all gradients. */
  dispose(): void {
    for (const shards of this.#byName.values()) for (const { gradient } of shards) gradient.dispose();
    this.#byName.clear();
  }
}
