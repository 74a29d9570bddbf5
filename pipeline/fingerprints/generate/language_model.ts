/** What generation needs of a model; `Model` has it, and so have the tests' own. */
export interface LanguageModel {
  readonly spec: { readonly vocabulary: number };
  /** New ids for each prompt, up to the model's own end of a text. */
  generate(prompts: readonly (readonly number[])[], options: TextOptions): Promise<number[][]>;
  /** f32 probabilities of every token after each sequence. */
  nextTokenProbabilities(sequences: readonly (readonly number[])[]): Promise<Float32Array[]>;
}

/** A text is a function of its prompt, `seed` and its number: `firstIndex` and on. */
export interface TextOptions {
  maxNewTokens: number;
  temperature?: number | undefined;
  seed?: number | undefined;
  firstIndex?: number | undefined;
  signal?: AbortSignal | undefined;
}
