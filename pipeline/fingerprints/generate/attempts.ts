/** One try at a fingerprint. Everything random in it is drawn for its number. */
export interface Attempt {
  /** Counts attempts from 0. */
  number: number;
  /** The key to use, when keys are given. */
  ownKey?: string;
}

/** How often a given key is tried with another response. */
const TRIES = 10;

/**
 * Attempts in order: without end, or one for each given key and another, at the end, for each whose response
 * was refused. The order doesn't depend on how many are taken at once.
 */
export class Attempts {
  #next = 0;
  #settled = 0;
  /** Given keys waiting, by index, with their tries so far. */
  readonly #waiting: { key: number; tries: number }[] | undefined;
  readonly #taken: { key: number; tries: number }[] = [];

  constructor(readonly ownKeys?: readonly string[]) {
    this.#waiting = ownKeys?.map((_, key) => ({ key, tries: 0 }));
  }

  /**
   * The next attempts, `most` or fewer; none when every key has been used up. All of the last must be
   * settled.
   */
  take(most: number): Attempt[] {
    const out: Attempt[] = [];
    while (out.length < most && this.#waiting?.length !== 0) {
      const own = this.#waiting?.shift();
      if (own) this.#taken.push(own);
      out.push({ number: this.#next++, ...(own ? { ownKey: this.ownKeys![own.key] } : {}) });
    }
    return out;
  }

  /** How the earliest unsettled attempt ended: undefined if it gave a fingerprint, else why not. */
  settle(reason: string | undefined): void {
    this.#settled++;
    const own = this.#taken.shift();
    if (own && reason?.startsWith("response") && own.tries + 1 < TRIES) {
      this.#waiting!.push({ key: own.key, tries: own.tries + 1 });
    }
  }

  /** How many have been settled. */
  get count(): number {
    return this.#settled;
  }
}
