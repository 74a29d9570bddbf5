/**
 * A language model that takes text where a person has text.
 * @module
 */
import type { GenerateOptions } from "../../engine/infer/generate.ts";
import { LanguageModel } from "../../engine/language_model.ts";
import { ChatTemplate } from "../prompts/chat_template.ts";
import type { PromptEncoder } from "../prompts/prompts.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";

/** How text is put to a model. */
export interface TextOptions {
  /** A text is a user's message in the model's chat template, and what is generated its answer. Default false. */
  useChatTemplate?: boolean | undefined;
}

/**
 * A decoder-only language model in GPU memory, with the tokenizer of its folder: the engine's model, which takes and gives
 * token ids, where prompts may also be text. Its base classes have the rest: {@link Decoder} `load`, `logits`, `score`,
 * `save` and what the model is, {@link LanguageModel} losses and gradients.
 *
 * ```ts
 * const model = await Model.load(gpu, "path/to/model");
 * const [text] = await model.generate(["Once upon a time"], { maxNewTokens: 20 });
 * const [ids] = await model.generate([[1, 5, 7]], { maxNewTokens: 20 });
 * ```
 */
export class Model extends LanguageModel {
  #tokenizer: Tokenizer | undefined;
  #chat: ChatTemplate | undefined;

  /**
   * The tokenizer of the model's folder; read when it is first asked for.
   * @throws TokenizerError naming the file that is missing or not supported.
   */
  async tokenizer(): Promise<Tokenizer> {
    return this.#tokenizer ??= await Tokenizer.load(this.source.dir);
  }

  /**
   * Token ids of each text as it is asked: after the tokenizer's own prefix (BOS, where it puts one), or in the chat
   * template, which has its own.
   * @throws UntokenizableError for text without tokens; TokenizerError; ChatTemplateError where there is no template.
   */
  async encode(texts: readonly string[], { useChatTemplate = false }: TextOptions = {}): Promise<number[][]> {
    const tokenizer = await this.tokenizer();
    const encoder: PromptEncoder = useChatTemplate
      ? this.#chat ??= await ChatTemplate.load(this.source.dir, tokenizer)
      : tokenizer;
    return texts.map((text) => [...encoder.prefixIds, ...encoder.encode(text)]);
  }

  /**
   * Continues each text by at most `maxNewTokens` tokens and gives the new text only, without the token that ended it.
   * Texts are encoded as {@link Model.encode} does it; the rest is as for token ids.
   * @throws RangeError for wrong options or too long a text; TokenizerError, UntokenizableError, ChatTemplateError.
   */
  override generate(prompts: readonly string[], options: GenerateOptions & TextOptions): Promise<string[]>;
  /**
   * Continues each prompt of token ids by at most `maxNewTokens`: greedily, or drawn at a temperature by random numbers of
   * (seed, the text's index, the token's place). Results don't depend on what else is in the batch. Gives the new ids only.
   * @throws RangeError for wrong options, an empty prompt, a token outside the vocabulary, or too long a text.
   */
  override generate(
    prompts: readonly (readonly number[])[],
    options: GenerateOptions,
  ): Promise<number[][]>;
  override async generate(
    prompts: readonly string[] | readonly (readonly number[])[],
    options: GenerateOptions & TextOptions,
  ): Promise<string[] | number[][]> {
    if (!isText(prompts)) return await super.generate(prompts, options);
    const tokenizer = await this.tokenizer();
    const texts = await super.generate(await this.encode(prompts, options), options);
    return texts.map((ids) => tokenizer.decode(ids));
  }

  /**
   * Probabilities of the next token after each prompt, text or token ids: [V] each, a softmax in float64 rounded to f32.
   * @throws RangeError for an empty sequence or a token outside the vocabulary; for text as {@link Model.encode}.
   */
  override async nextTokenProbabilities(
    prompts: readonly string[] | readonly (readonly number[])[],
    options: TextOptions = {},
  ): Promise<Float32Array<ArrayBuffer>[]> {
    const ids = isText(prompts) ? await this.encode(prompts, options) : prompts;
    return await super.nextTokenProbabilities(ids);
  }
}

/** Whether prompts are text; of none it makes no difference. @throws TypeError when they are mixed. */
function isText(prompts: readonly string[] | readonly (readonly number[])[]): prompts is readonly string[] {
  const texts = prompts.filter((prompt) => typeof prompt === "string").length;
  if (texts !== 0 && texts !== prompts.length) {
    throw new TypeError(`expected prompts of one kind, found ${texts} texts among ${prompts.length}`);
  }
  return texts !== 0;
}
