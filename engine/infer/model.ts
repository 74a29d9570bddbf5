import { join } from "node:path";
import { readJson } from "../io/json_file.ts";
import { Model as TrainableModel } from "../model/model.ts";
import { generate, type GenerateOptions } from "./generate.ts";
import { softmax } from "./sample.ts";

/** Bytes of distributions that one call of logits may bring to the host. */
const LOGITS_BYTES = 64 << 20;

/** A decoder-only language model in GPU memory: logits, losses, gradients, and texts. */
export class Model extends TrainableModel {
  #eosIds: number[] | undefined;

  /** Ids that end a text, of generation_config.json, else config.json; none if neither names one. */
  async eosIds(): Promise<number[]> {
    if (this.#eosIds) return this.#eosIds;
    const { dir, config } = this.source;
    const path = join(dir, "generation_config.json");
    const isThere = await Deno.stat(path).then(({ isFile }) => isFile, () => false);
    const settings = isThere ? await readJson(path) as Record<string, unknown> | null : {};
    const value = settings?.eos_token_id ?? config.eos_token_id ?? [];
    const ids = Array.isArray(value) ? value : [value];
    return this.#eosIds = ids.filter((id) => Number.isSafeInteger(id));
  }

  /**
   * Continues each prompt by at most `maxNewTokens` ids: greedily, or drawn at a temperature by random numbers of (seed,
   * the text's index, the token's place). Results don't depend on what else is in the batch. Gives the new ids only.
   * @throws RangeError for wrong options, an empty prompt, a token outside the vocabulary, or too long a text.
   */
  async generate(prompts: readonly (readonly number[])[], options: GenerateOptions): Promise<number[][]> {
    return await generate(this, prompts, { ...options, stop: options.stop ?? await this.eosIds() });
  }

  /**
   * Probabilities of the next token after each sequence: [V] each, a softmax in float64 rounded to f32.
   * @throws RangeError for an empty sequence or a token outside the vocabulary.
   */
  async nextTokenProbabilities(
    sequences: readonly (readonly number[])[],
  ): Promise<Float32Array<ArrayBuffer>[]> {
    const out: Float32Array<ArrayBuffer>[] = [];
    const group = Math.max(1, Math.floor(LOGITS_BYTES / 4 / this.spec.vocabulary));
    for (let first = 0; first < sequences.length; first += group) {
      const asked = sequences.slice(first, first + group).map((ids) => ({
        ids,
        positions: [ids.length - 1],
      }));
      for (const logits of await this.logitsAt(asked)) out.push(Float32Array.from(softmax(logits)));
    }
    return out;
  }
}
