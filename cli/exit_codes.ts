/**
 * What a command's exit code says.
 * @module
 */
import { CommanderError } from "commander";
import * as whorl from "../mod.ts";
import { PermissionsError } from "./permissions.ts";

/** An exit code, what it means, and the errors that end a command with it. */
export interface ExitCode {
  readonly code: number;
  readonly meaning: string;
  readonly errors: readonly (abstract new (...args: never[]) => Error)[];
}

/** EX_SOFTWARE of sysexits.h. */
const BUG = 70;

/** Every code but those of signals (128 + the signal's number); the first that fits an error counts. */
export const EXIT_CODES: readonly ExitCode[] = [
  { code: 0, meaning: "done, or what was asked for is there already", errors: [] },
  {
    code: 2,
    meaning: "wrong use: a flag that isn't one, a value out of range, flags that contradict each other",
    errors: [CommanderError, whorl.SettingsError, PermissionsError],
  },
  {
    code: 7,
    meaning: "another run is at work on the same results or file",
    errors: [whorl.LockedError, whorl.ResultsLockedError],
  },
  {
    code: 4,
    meaning:
      "does not fit, or can't be written: the device's memory, the room on the disk, a folder that takes no file",
    errors: [whorl.OutOfMemoryError, whorl.ResultsError, whorl.FileWriteError],
  },
  {
    code: 5,
    meaning:
      "fell short of what was asked for: --min_success_rate, the number of fingerprints, a loss that diverged",
    errors: [whorl.NotEnoughFingerprintsError, whorl.DivergedError],
  },
  {
    code: 6,
    meaning: "the device was lost, or there is none",
    errors: [whorl.DeviceLostError, whorl.GpuUnavailableError],
  },
  {
    code: 1,
    meaning:
      "refused input: a model, a tokenizer, a file of fingerprints or results that can't be used as it is",
    errors: [
      whorl.ConfigError,
      whorl.CheckpointMismatchError,
      whorl.NonFiniteWeightsError,
      whorl.SafetensorsError,
      whorl.JsonFileError,
      whorl.FileReadError,
      whorl.ModelDirError,
      whorl.TokenizerError,
      whorl.ChatTemplateError,
      whorl.FingerprintFileError,
      whorl.CommitmentError,
      whorl.GenerateFileError,
      whorl.InputsChangedError,
      whorl.HubError,
      Deno.errors.NotCapable,
      RangeError,
    ],
  },
  { code: BUG, meaning: "anything else; a bug, if it is no error of the system's", errors: [Error] },
];

/** Exit code of {@link EXIT_CODES} for what could not be written. */
export const UNWRITTEN = 4;

/** Exit code of {@link EXIT_CODES} for what fell short of a target. */
export const FELL_SHORT = 5;

/** The code of an error; help and version, which commander ends by an error, are 0. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  return EXIT_CODES.find(({ errors }) => errors.some((type) => error instanceof type))?.code ?? BUG;
}
