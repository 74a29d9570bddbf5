import type { z } from "zod";

/** A setting is unknown, of the wrong type or out of range; the message names each. */
export class SettingsError extends Error {
  /** Always "SettingsError". */
  override name = "SettingsError";
}

/** A configuration with nothing left open. */
export type Decided<Config> = { readonly [Name in keyof Config]-?: Exclude<Config[Name], undefined> };

/** Parses with a schema; what is undefined counts as not given. @throws SettingsError with one line a problem. */
export function parseSettings<T extends z.ZodType>(schema: T, value: object): z.output<T> {
  const given = Object.fromEntries(Object.entries(value).filter(([, value]) => value !== undefined));
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  const lines = result.error.issues.map((issue) => {
    const names = issue.code === "unrecognized_keys" ? issue.keys.join(", ") : issue.path.join(".");
    return issue.code === "unrecognized_keys" ? `unknown setting: ${names}` : `${names}: ${issue.message}`;
  });
  throw new SettingsError(lines.join("\n"));
}
