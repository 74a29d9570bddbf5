/**
 * Where a text stops being JSON. `JSON.parse` names the place in some messages only, and all of them quote the
 * text around it, which for a fingerprint file would put secrets into a log.
 * @module
 */

const TOKEN =
  // deno-lint-ignore no-control-regex
  /[ \t\n\r]*(?:([{}[\],:])|("[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*")|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)/y;

type State = "value" | "first value" | "key" | "first key" | "colon" | "after";

/**
 * Offset (UTF-16 units) of the first token that does not belong, `text.length` when the text ends too early,
 * undefined when the text is valid JSON.
 */
export function jsonErrorOffset(text: string): number | undefined {
  const open: string[] = [];
  let state: State = "value";
  let at = 0;
  const skipBlanks = () => {
    while (at < text.length && " \t\n\r".includes(text[at])) at++;
    return at;
  };
  while (state !== "after" || open.length > 0) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) return skipBlanks();
    const [, mark, string] = match;
    let next: State | undefined;
    if (state === "value" || state === "first value") {
      if (mark === undefined) next = "after";
      else if (mark === "{") next = "first key";
      else if (mark === "[") next = "first value";
      else if (mark === "]" && state === "first value") next = "after";
      if (mark === "{" || mark === "[") open.push(mark);
      else if (mark === "]") open.pop();
    } else if (state === "key" || state === "first key") {
      if (string !== undefined) next = "colon";
      else if (mark === "}" && state === "first key") {
        next = "after";
        open.pop();
      }
    } else if (state === "colon") {
      if (mark === ":") next = "value";
    } else {
      const inObject = open.at(-1) === "{";
      if (mark === ",") next = inObject ? "key" : "value";
      else if (mark === (inObject ? "}" : "]")) {
        next = "after";
        open.pop();
      }
    }
    if (next === undefined) return skipBlanks();
    state = next;
    at = TOKEN.lastIndex;
  }
  return skipBlanks() === text.length ? undefined : at;
}

/** "line L, column C" (both from 1, columns in UTF-16 units) of an offset. */
export function lineAndColumn(text: string, offset: number): string {
  const before = text.slice(0, offset);
  const line = before.split("\n").length;
  return `line ${line}, column ${offset - before.lastIndexOf("\n")}`;
}
