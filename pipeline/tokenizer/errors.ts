/** A tokenizer that is missing, broken or of an unknown kind; the message names the file. */
export class TokenizerError extends Error {
  /** Always "TokenizerError". */
  override name = "TokenizerError";
}

/** A text that the tokenizer has no tokens for. The message doesn't quote the text: it may be a secret. */
export class UntokenizableError extends RangeError {
  /** Always "UntokenizableError". */
  override name = "UntokenizableError";
}
