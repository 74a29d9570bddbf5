/** Where a command's words go: text to stdout; with --json one object a line there, and text to stderr. */
export class Output {
  constructor(readonly isJson: boolean) {}

  /** A line for people. */
  text(line: string): void {
    if (this.isJson) console.error(line);
    else console.log(line);
  }

  /** An object for programs. */
  object<T extends { readonly type: string }>(value: T): void {
    if (this.isJson) console.log(JSON.stringify(value, plain));
  }
}

/** What JSON has no form for: an error's name and message, and numbers that aren't finite as their names. */
function plain(_: string, value: unknown): unknown {
  if (value instanceof Error) return { name: value.name, message: value.message };
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}
