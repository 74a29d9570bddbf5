/** Something about the Hugging Face Hub went wrong: base of the errors below, and itself where none fits. */
export class HubError extends Error {
  /** Always "HubError". */
  override readonly name: string = "HubError";
}

/** The Hub refuses: the model is gated, the token is not accepted, or it may not read this repository. */
export class HubAccessError extends HubError {
  /** Always "HubAccessError". */
  override readonly name = "HubAccessError";
}

/** The Hub has no such repository (or hides it), revision or file. */
export class HubNotFoundError extends HubError {
  /** Always "HubNotFoundError". */
  override readonly name = "HubNotFoundError";
  /** `what` is the thing that is not there. */
  constructor(message: string, readonly what: "repository" | "revision" | "file", options?: ErrorOptions) {
    super(message, options);
  }
}

/** The Hub can't be reached, keeps failing, or must not be asked, and the cache lacks what is needed. */
export class HubUnreachableError extends HubError {
  /** Always "HubUnreachableError". */
  override readonly name = "HubUnreachableError";
}

/** A file came with the wrong size or hash, twice. */
export class HubIntegrityError extends HubError {
  /** Always "HubIntegrityError". */
  override readonly name = "HubIntegrityError";
}

/** A failure that may pass: a cut connection, a time-out, HTTP 408, 429 or 5xx. */
export class TransientHubError extends HubError {
  override readonly name = "TransientHubError";
  constructor(message: string, readonly retryAfterMs = 0, options?: ErrorOptions) {
    super(message, options);
  }
}
