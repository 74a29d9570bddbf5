/**
 * A small preprocessor for WGSL: `//#include "file"`, `//#if EXPR` … `//#else` … `//#end`, and
 * `//#unroll i FROM TO` … `//#end`, in which `$i` or `$(expression)` stands for a number. Expressions are
 * integers, names of constants or loop variables, `+ - * / % ( )`, comparisons, `!`, `&&` and `||`.
 */
export type TemplateConstants = Readonly<Record<string, number | boolean>>;

/** A template directive is malformed; the message names file and line. */
export class TemplateError extends Error {
  override name = "TemplateError";
}

interface Line {
  text: string;
  file: string;
  number: number;
}

/** One line of expanded WGSL came from `file`:`number`. */
export interface ExpandedSource {
  /** WGSL without directives. */
  code: string;
  /** Where each of its lines comes from; lines count from 1. */
  origin: { file: string; number: number }[];
}

/** Expands a template; `includes` maps the names used by `//#include` to their text. */
export function expandTemplate(
  file: string,
  source: string,
  constants: TemplateConstants,
  includes: Readonly<Record<string, string>> = {},
): ExpandedSource {
  const lines = readLines(file, source, includes, [file]);
  const out: Line[] = [];
  const end = expandBlock(lines, 0, lines.length, new Map(Object.entries(constants)), out);
  if (end !== lines.length) throw errorAt(lines[end]!, "a directive without its opening");
  return {
    code: out.map((line) => line.text).join("\n"),
    origin: out.map(({ file, number }) => ({ file, number })),
  };
}

function readLines(
  file: string,
  source: string,
  includes: Readonly<Record<string, string>>,
  stack: string[],
): Line[] {
  const out: Line[] = [];
  source.split("\n").forEach((text, index) => {
    const line = { text, file, number: index + 1 };
    const include = /^\s*\/\/#include\s+"([^"]+)"\s*$/.exec(text);
    if (!include) return void out.push(line);
    const name = include[1]!;
    if (stack.includes(name)) throw errorAt(line, `"${name}" includes itself`);
    if (includes[name] === undefined) throw errorAt(line, `include "${name}" is not known`);
    out.push(...readLines(name, includes[name], includes, [...stack, name]));
  });
  return out;
}

type Scope = Map<string, number | boolean>;

/** Expands lines[from, to) and returns the index of the directive that ended the block. */
function expandBlock(lines: Line[], from: number, to: number, scope: Scope, out: Line[]): number {
  let i = from;
  while (i < to) {
    const line = lines[i]!;
    const directive = /^\s*\/\/#(\w+)\s*(.*?)\s*$/.exec(line.text);
    if (!directive) {
      out.push({ ...line, text: substitute(line, scope) });
      i++;
      continue;
    }
    const [, word, rest = ""] = directive;
    if (word === "end" || word === "else") return i;
    if (word === "if") i = expandIf(lines, i, to, rest, scope, out);
    else if (word === "unroll") i = expandUnroll(lines, i, to, rest, scope, out);
    else throw errorAt(line, `unknown directive "${word}"`);
  }
  return i;
}

function expandIf(lines: Line[], at: number, to: number, rest: string, scope: Scope, out: Line[]): number {
  const taken = Boolean(evaluate(rest, scope, lines[at]!));
  const discard: Line[] = [];
  let end = skipOrExpand(lines, at + 1, to, scope, taken ? out : discard, taken);
  if (end < to && /\/\/#else\b/.test(lines[end]!.text)) {
    end = skipOrExpand(lines, end + 1, to, scope, taken ? discard : out, !taken);
  }
  return requireEnd(lines, at, end, to);
}

function expandUnroll(
  lines: Line[],
  at: number,
  to: number,
  rest: string,
  scope: Scope,
  out: Line[],
): number {
  const match = /^(\w+)\s+(\S+)\s+(\S+)$/.exec(rest);
  if (!match) throw errorAt(lines[at]!, `expected "//#unroll name from to", found "${rest}"`);
  const [, name, fromText, toText] = match as unknown as [string, string, string, string];
  const first = Number(evaluate(fromText, scope, lines[at]!));
  const last = Number(evaluate(toText, scope, lines[at]!));
  let end = skipOrExpand(lines, at + 1, to, scope, [], false);
  for (let value = first; value < last; value++) {
    end = expandBlock(lines, at + 1, to, new Map(scope).set(name, value), out);
  }
  return requireEnd(lines, at, end, to);
}

/** Walks a block; an untaken one is only matched for its nesting, since its expressions may not make sense. */
function skipOrExpand(
  lines: Line[],
  from: number,
  to: number,
  scope: Scope,
  out: Line[],
  take: boolean,
): number {
  if (take) return expandBlock(lines, from, to, scope, out);
  let depth = 0;
  for (let i = from; i < to; i++) {
    const word = /^\s*\/\/#(\w+)/.exec(lines[i]!.text)?.[1];
    if (word === "if" || word === "unroll") depth++;
    else if (depth === 0 && (word === "else" || word === "end")) return i;
    else if (word === "end") depth--;
  }
  return to;
}

function requireEnd(lines: Line[], opening: number, end: number, to: number): number {
  if (end >= to || !/\/\/#end\b/.test(lines[end]!.text)) {
    throw errorAt(lines[opening]!, "this directive has no //#end");
  }
  return end + 1;
}

function substitute(line: Line, scope: Scope): string {
  const { text } = line;
  let out = "";
  let at = 0;
  for (const match of text.matchAll(/\$(?:(\w+)|\()/g)) {
    if (match.index < at) continue;
    const begin = match.index + match[0].length;
    const end = match[1] ? begin : closingBracket(line, begin);
    const expression = match[1] ?? text.slice(begin, end - 1);
    out += text.slice(at, match.index) + String(Number(evaluate(expression, scope, line)));
    at = end;
  }
  return out + text.slice(at);
}

/** Index behind the bracket that closes the one before `begin`. */
function closingBracket(line: Line, begin: number): number {
  let depth = 1;
  for (let i = begin; i < line.text.length; i++) {
    if (line.text[i] === "(") depth++;
    else if (line.text[i] === ")" && --depth === 0) return i + 1;
  }
  throw errorAt(line, `a bracket is open in "${line.text.trim()}"`);
}

const TOKEN = /\s*(\d+|\w+|&&|\|\||==|!=|<=|>=|[-+*/%()<>!])/y;
const LEVELS = [["||"], ["&&"], ["==", "!=", "<", ">", "<=", ">="], ["+", "-"], ["*", "/", "%"]];

function evaluate(text: string, scope: Scope, line: Line): number | boolean {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.trimEnd().length) {
    const match = TOKEN.exec(text);
    if (!match) throw errorAt(line, `cannot read the expression "${text}"`);
    tokens.push(match[1]!);
  }
  let at = 0;
  const binary = (level: number): number => {
    if (level === LEVELS.length) return unary();
    let left = binary(level + 1);
    while (at < tokens.length && LEVELS[level]!.includes(tokens[at]!)) {
      const operator = tokens[at++]!;
      left = apply(operator, left, binary(level + 1));
    }
    return left;
  };
  const unary = (): number => {
    const token = tokens[at++];
    if (token === "!") return unary() ? 0 : 1;
    if (token === "-") return -unary();
    if (token === "(") {
      const value = binary(0);
      if (tokens[at++] !== ")") throw errorAt(line, `a bracket is open in "${text}"`);
      return value;
    }
    if (token !== undefined && /^\d+$/.test(token)) return Number(token);
    if (token !== undefined && scope.has(token)) return Number(scope.get(token));
    throw errorAt(line, `"${token ?? "end of line"}" is not known in "${text}"`);
  };
  const value = binary(0);
  if (at !== tokens.length) throw errorAt(line, `cannot read the expression "${text}"`);
  if (!Number.isFinite(value)) throw errorAt(line, `a division by zero in "${text}"`);
  return value;
}

function apply(operator: string, a: number, b: number): number {
  switch (operator) {
    case "||":
      return a || b ? 1 : 0;
    case "&&":
      return a && b ? 1 : 0;
    case "==":
      return a === b ? 1 : 0;
    case "!=":
      return a !== b ? 1 : 0;
    case "<":
      return a < b ? 1 : 0;
    case ">":
      return a > b ? 1 : 0;
    case "<=":
      return a <= b ? 1 : 0;
    case ">=":
      return a >= b ? 1 : 0;
    case "+":
      return a + b;
    case "-":
      return a - b;
    case "*":
      return a * b;
    case "/":
      return Math.trunc(a / b);
    default:
      return a % b;
  }
}

function errorAt(line: Line, message: string): TemplateError {
  return new TemplateError(`${line.file}:${line.number}: ${message}`);
}
