/** No WebGPU adapter could be opened; the message says what to install or set. */
export class GpuUnavailableError extends Error {
  /** Always "GpuUnavailableError". */
  override name = "GpuUnavailableError";
}

/** The device was lost (driver reset, unplugged, destroyed); nothing on it can be used any more. */
export class DeviceLostError extends Error {
  /** Always "DeviceLostError". */
  override name = "DeviceLostError";
}

/** An allocation failed or would exceed a limit; `requestedBytes` is the size of that allocation. */
export class OutOfMemoryError extends Error {
  /** Always "OutOfMemoryError". */
  override name = "OutOfMemoryError";
  /** `requestedBytes` is 0 where the size is not known. */
  constructor(message: string, readonly requestedBytes: number, options?: ErrorOptions) {
    super(message, options);
  }
}

/** WebGPU rejected a shader, pipeline, bind group or dispatch; the work it belonged to did not run. */
export class GpuValidationError extends Error {
  /** Always "GpuValidationError". */
  override name = "GpuValidationError";
}
