/** A config.json field is missing, of the wrong type, or asks for something that is not supported; `field` names it. */
export class ConfigError extends Error {
  /** Always "ConfigError". */
  override name = "ConfigError";
  /** `field` is the field's name, with those of the objects that it lies in before it. */
  constructor(readonly field: string, message: string) {
    super(`config.json: "${field}" ${message}`);
  }
}

/** Numbers of tokens and the like: far below where whole numbers end. */
const MOST = 2 ** 31 - 1;

/** A value as config.json has it, NaN and infinity, which Python writes into JSON, too; short enough for a message. */
function shown(value: unknown): string {
  const text = typeof value === "number" ? String(value) : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** Checked access to the fields of a Hugging Face config. */
export class ConfigReader {
  constructor(readonly fields: Readonly<Record<string, unknown>>, readonly path = "") {}

  #name(field: string): string {
    return this.path + field;
  }

  has(field: string): boolean {
    return this.fields[field] !== undefined && this.fields[field] !== null;
  }

  number(field: string, fallback?: number): number {
    const value = this.fields[field] ?? fallback;
    if (value === undefined) throw new ConfigError(this.#name(field), "is missing, expected a number");
    if (typeof value !== "number" || !Number.isFinite(value)) {
      throw new ConfigError(this.#name(field), `is ${shown(value)}, expected a number`);
    }
    return value;
  }

  positive(field: string, fallback?: number): number {
    const value = this.number(field, fallback);
    if (value <= 0) throw new ConfigError(this.#name(field), `is ${value}, expected more than 0`);
    return value;
  }

  count(field: string, fallback?: number, most = MOST): number {
    const value = this.positive(field, fallback);
    if (!Number.isInteger(value)) {
      throw new ConfigError(this.#name(field), `is ${value}, expected a whole number`);
    }
    if (value > most) throw new ConfigError(this.#name(field), `is ${value}, expected at most ${most}`);
    return value;
  }

  boolean(field: string, fallback: boolean): boolean {
    const value = this.fields[field] ?? fallback;
    if (typeof value !== "boolean") {
      throw new ConfigError(this.#name(field), `is ${shown(value)}, expected true or false`);
    }
    return value;
  }

  string(field: string, fallback?: string): string {
    const value = this.fields[field] ?? fallback;
    if (typeof value !== "string") {
      throw new ConfigError(
        this.#name(field),
        value === undefined ? "is missing, expected a string" : `is ${shown(value)}, expected a string`,
      );
    }
    return value;
  }

  list(field: string): unknown[] | undefined {
    const value = this.fields[field];
    if (value === undefined || value === null) return undefined;
    if (!Array.isArray(value)) {
      throw new ConfigError(this.#name(field), `is ${shown(value)}, expected a list`);
    }
    return value;
  }

  /** A list of `length` numbers above 0. */
  positives(field: string, length: number): number[] {
    const list = this.list(field);
    if (!list) throw new ConfigError(this.#name(field), `is missing, expected a list of ${length} numbers`);
    if (list.length !== length) {
      throw new ConfigError(this.#name(field), `has ${list.length} entries, expected ${length}`);
    }
    const entries = new ConfigReader({ ...list }, `${this.#name(field)}.`);
    return list.map((_, i) => entries.positive(String(i)));
  }

  object(field: string): ConfigReader | undefined {
    const value = this.fields[field];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== "object" || Array.isArray(value)) {
      throw new ConfigError(this.#name(field), `is ${shown(value)}, expected an object`);
    }
    return new ConfigReader(value as Record<string, unknown>, `${this.#name(field)}.`);
  }

  /** Refuses a field that would change the numbers: it must be absent, null or one of `allowed`. */
  only(field: string, ...allowed: unknown[]): void {
    const value = this.fields[field];
    if (value === undefined || value === null || allowed.includes(value)) return;
    const choices = allowed.map((choice) => shown(choice)).join(" or ");
    throw new ConfigError(
      this.#name(field),
      `is ${shown(value)}, which is not supported${choices && ` (only ${choices})`}`,
    );
  }
}
