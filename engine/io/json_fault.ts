/**
 * Where and why a text is not the JSON that is read here. `JSON.parse` is four times as fast as jsonc-parser and names a
 * place in some of its messages only, all of which quote the text; so it says whether a text is JSON, jsonc-parser why not.
 * @module
 */

import { type JSONVisitor, printParseErrorCode, visit } from "jsonc-parser";

/** How deep lists and objects may lie in each other: far beyond any file, far below what overflows a stack. */
export const MAX_NESTING = 512;

/** What is wrong with a text. Neither field has anything of the text in it. */
export interface JsonFault {
  /** Of the first token that does not belong, in UTF-16 units; the text's length when it ends too early. */
  offset: number;
  /** What could stand there. */
  expected: string;
}

const SHALLOWER = `at most ${MAX_NESTING} lists and objects in each other`;

/** What a token that can't be read should have been, by the name of jsonc-parser's error. */
const TOKEN_FAULTS: Readonly<Record<string, string>> = {
  InvalidCommentToken: "JSON without comments",
  UnexpectedEndOfString: "a closing quote on the same line",
  UnexpectedEndOfNumber: "a number with digits after its point or exponent",
  InvalidUnicode: "four hexadecimal digits after \\u",
  InvalidEscapeCharacter: 'one of " \\ / b f n r t u after a backslash',
  InvalidCharacter: "control characters in a string to be escaped",
};

/** Ends a visit at the first fault. */
class Found extends Error {
  constructor(readonly fault: JsonFault) {
    super();
  }
}

/** The first fault of a text, undefined if it is JSON of at most {@linkcode MAX_NESTING} levels. */
export function findFault(text: string): JsonFault | undefined {
  const open: ("{" | "[")[] = [];
  let expected = "a value";
  const fail = (offset: number, expected: string): never => {
    throw new Found({ offset, expected });
  };
  const begin = (bracket: "{" | "[", first: string) => (offset: number) => {
    if (open.push(bracket) > MAX_NESTING) fail(offset, SHALLOWER);
    expected = first;
  };
  const afterValue = () => {
    const bracket = open.at(-1);
    expected = bracket === undefined ? "the end of the file" : bracket === "{" ? '"," or "}"' : '"," or "]"';
  };
  const end = (offset: number) => {
    // At the end of the text jsonc-parser ends what is open.
    if (offset >= text.length) return;
    open.pop();
    afterValue();
  };
  const visitor: JSONVisitor = {
    onObjectBegin: begin("{", 'a name in double quotes or "}"'),
    onArrayBegin: begin("[", 'a value or "]"'),
    onObjectProperty: () => void (expected = '":"'),
    onSeparator(mark) {
      expected = mark === "," && open.at(-1) === "{" ? "a name in double quotes" : "a value";
    },
    onLiteralValue: afterValue,
    onObjectEnd: end,
    onArrayEnd: end,
    onError: (code, offset) => fail(offset, TOKEN_FAULTS[printParseErrorCode(code)] ?? expected),
  };
  try {
    visit(text, visitor, { disallowComments: true, allowTrailingComma: false, allowEmptyContent: false });
  } catch (error) {
    if (error instanceof Found) return error.fault;
    throw error;
  }
}

const QUOTE = 0x22, BACKSLASH = 0x5c;
const OPENING = [0x5b, 0x7b], CLOSING = [0x5d, 0x7d];

/**
 * Whether JSON goes deeper than {@linkcode MAX_NESTING} levels. Exact up to a text's first fault, so a text of which it is
 * false is safe to parse: V8 keeps a frame on the heap for each open bracket.
 */
export function isTooDeep(text: string): boolean {
  let depth = 0;
  for (let offset = 0; offset < text.length; offset++) {
    const code = text.charCodeAt(offset);
    if (code === QUOTE) {
      for (offset++; offset < text.length; offset++) {
        const inside = text.charCodeAt(offset);
        if (inside === QUOTE) break;
        if (inside === BACKSLASH) offset++;
      }
    } else if (code === OPENING[0] || code === OPENING[1]) {
      if (++depth > MAX_NESTING) return true;
    } else if (code === CLOSING[0] || code === CLOSING[1]) depth--;
  }
  return false;
}

/** A place in a text, both from 1; columns in UTF-16 units, as editors count them. */
export interface Position {
  line: number;
  column: number;
}

/** The place of an offset. A line ends at a line feed, a carriage return, or both together. */
export function positionOf(text: string, offset: number): Position {
  const lines = text.slice(0, offset).split(/\r\n|\r|\n/);
  return { line: lines.length, column: lines.at(-1)!.length + 1 };
}
