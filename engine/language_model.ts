import { readEosIds } from "./infer/eos.ts";
import { generate, type GenerateOptions } from "./infer/generate.ts";
import { nextTokenProbabilities } from "./infer/probabilities.ts";
import type { Example } from "./model/examples.ts";
import { Model } from "./model/model.ts";
import { Backward } from "./train/backward.ts";

/** A decoder-only language model in GPU memory: what a {@link Decoder} has, with losses, gradients and continuations. */
export class LanguageModel extends Model {
  #training: Backward | undefined;
  #eosIds: number[] | undefined;

  /** What makes losses and gradients; gradient buffers exist once they are first used. */
  get training(): Backward {
    return this.#training ??= new Backward(this);
  }

  /**
   * Mean cross-entropy over all supervised tokens in nats, and its unclipped gradient under Hugging Face's names, of the
   * trained parameters.
   * @throws RangeError when nothing is supervised, or for a token outside the vocabulary.
   */
  async lossAndGradients(
    examples: readonly Example[],
  ): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
    return await this.training.lossAndGradients(examples);
  }

  /** Ids that end a text, of generation_config.json, else config.json; none if neither names one. */
  async eosIds(): Promise<number[]> {
    return this.#eosIds ??= await readEosIds(this.source);
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
    return await nextTokenProbabilities(this, sequences);
  }

  /** Frees all GPU memory, the gradients' too, and closes the checkpoint. */
  override dispose(): void {
    this.#training?.dispose();
    super.dispose();
  }
}
