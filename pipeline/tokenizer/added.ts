/**
 * Added tokens (special ones among them): which there are, and how they are found in a text before it is
 * tokenised, as the AddedVocabulary of Hugging Face's Rust tokenizers does it.
 * @module
 */

import type { Normalizer } from "./normalizer.ts";
import type { Piece } from "./pre_tokenizer.ts";

/** A token that is found in a text whole, before the model sees it. */
export interface AddedToken {
  id: number;
  content: string;
  /** Only where no word character touches it. */
  single_word: boolean;
  /** Takes the white space before it. */
  lstrip: boolean;
  /** Takes the white space after it. */
  rstrip: boolean;
  /** Is looked for in the normalised text, itself normalised. */
  normalized: boolean;
  special: boolean;
}

/** A part of a text: an added token, or text that is normalised and still to be tokenised. */
export type Section = { id: number } | Piece;

/** Cuts a text at its added tokens; the leftmost, then the longest wins. */
export class AddedTokens {
  /**
   * What decoding gives for each id: the normalised text of a token that is looked for in normalised text.
   */
  readonly texts: ReadonlyMap<number, string>;

  readonly #raw: Matcher;
  readonly #normalized: Matcher;

  constructor(tokens: readonly AddedToken[], readonly normalize: Normalizer) {
    this.texts = new Map(tokens.map((t) => [t.id, t.normalized ? normalize(t.content) : t.content]));
    const entries = tokens.filter(({ content }) => content !== "");
    this.#raw = new Matcher(entries.filter((t) => !t.normalized).map((token) => [token.content, token]));
    this.#normalized = new Matcher(
      entries.filter((t) => t.normalized).map((token) => [normalize(token.content), token]),
    );
  }

  /** The sections of a text in order; no text among them is empty. */
  split(text: string): Section[] {
    return this.#raw.split({ text, isFirst: true }).flatMap((section) =>
      "id" in section
        ? [section]
        : this.#normalized.split({ text: this.normalize(section.text), isFirst: section.isFirst })
    );
  }
}

/** Finds tokens by their texts. */
class Matcher {
  /** By first UTF-16 unit, the longest first. */
  readonly #byFirst = new Map<string, [string, AddedToken][]>();

  constructor(entries: [string, AddedToken][]) {
    for (const entry of entries.sort(([a], [b]) => b.length - a.length)) {
      if (entry[0] === "") continue;
      const same = this.#byFirst.get(entry[0][0]!);
      if (same) same.push(entry);
      else this.#byFirst.set(entry[0][0]!, [entry]);
    }
  }

  split({ text, isFirst }: Piece): Section[] {
    const sections: Section[] = [];
    let done = 0;
    const plain = (end: number) => {
      if (done < end) sections.push({ text: text.slice(done, end), isFirst: isFirst && done === 0 });
    };
    for (let at = 0; at < text.length;) {
      const found = this.#byFirst.get(text[at]!)?.find(([content]) => text.startsWith(content, at));
      if (!found) {
        at++;
        continue;
      }
      const [content, token] = found;
      let start = at;
      let end = at + content.length;
      at = end;
      if (token.single_word && touchesWord(text, start, end)) continue;
      if (token.lstrip) start = Math.max(done, text.slice(0, start).replace(/\p{White_Space}+$/u, "").length);
      if (token.rstrip) end += /^\p{White_Space}*/u.exec(text.slice(end))![0].length;
      plain(start);
      sections.push({ id: token.id });
      done = end;
    }
    plain(text.length);
    return sections;
  }
}

const WORD = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;

function touchesWord(text: string, start: number, end: number): boolean {
  // Not by an expression that ends in $: V8's search from the end misses characters outside the BMP.
  const isPair = start > 1 && text.codePointAt(start - 2)! > 0xffff;
  return (start > 0 && WORD.test(text.slice(start - (isPair ? 2 : 1), start))) || WORD.test(text.slice(end));
}
