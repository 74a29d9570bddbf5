/**
 * Rendering a chat template within a budget: a template comes with a model, and must not hang who asks it.
 * @module
 */

import { Environment, Interpreter, Template } from "@huggingface/jinja";

type Program = Template["parsed"];
type Value = ReturnType<Interpreter["evaluate"]>;
type Statement = NonNullable<Parameters<Interpreter["evaluate"]>[0]>;

/** Steps and values for a message; the longest templates take some thousands. Half a second. */
const BUDGET = 500_000;
/** What a character of the message adds, since a template may look at it often. */
const BUDGET_PER_CHARACTER = 100;
/** Characters of a text that count like a step. */
const CHARACTERS = 16;
/** Numbers of a `range`. */
const MOST_NUMBERS = 100_000;

/** A template's syntax tree, its loops as {@linkcode mendLoops} leaves them. */
export function parseTemplate(source: string): Program {
  const program = new Template(source).parsed;
  mendLoops(program);
  return program;
}

/** The text of a template with these variables, beside those that every template has. */
export function renderTemplate(
  program: Program,
  variables: Readonly<Record<string, unknown>>,
  messageLength: number,
): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries({ ...GLOBALS, ...variables })) environment.set(name, value);
  const interpreter = new BoundedInterpreter(environment, BUDGET + BUDGET_PER_CHARACTER * messageLength);
  try {
    return String(interpreter.run(program).value);
  } catch (error) {
    // Of the stack, or of a text's length.
    if (error instanceof RangeError) {
      throw new Error("it goes too deep, or its text grows too long", { cause: error });
    }
    throw error;
  }
}

/** Counts steps, and what each gives: a list of a thousand may cost its next user a thousand. */
class BoundedInterpreter extends Interpreter {
  #left: number;

  constructor(environment: Environment, budget: number) {
    super(environment);
    this.#left = budget;
  }

  override evaluate(statement: Statement | undefined, environment: Environment): Value {
    this.#spend(1);
    const value = super.evaluate(statement, environment);
    this.#weigh(value);
    return value;
  }

  #weigh({ value }: { value: unknown }): void {
    if (typeof value === "string") this.#spend(value.length / CHARACTERS);
    else if (Array.isArray(value)) {
      this.#spend(value.length);
      for (const item of value) this.#weigh(item);
    } else if (value instanceof Map) {
      this.#spend(value.size);
      for (const item of value.values()) this.#weigh(item);
    }
  }

  #spend(steps: number): void {
    this.#left -= steps;
    if (this.#left < 0) throw new Error("it takes more steps than a chat template may");
  }
}

/**
 * Puts a comment into the body of each loop, so that every turn is counted, and an empty list in place of what is undefined, over
 * which Jinja makes no turn and the library throws.
 */
function mendLoops(node: unknown): void {
  if (typeof node !== "object" || node === null) return;
  const parts = node instanceof Map ? [...node.entries()].flat() : Object.values(node);
  for (const part of parts) mendLoops(part);
  if ("type" in node && node.type === "For" && "body" in node && Array.isArray(node.body)) {
    node.body.push({ type: "Comment", value: "" });
    const loop = node as unknown as Loop;
    if (isSelection(loop.iterable)) loop.iterable.lhs = orEmpty(loop.iterable.lhs);
    else loop.iterable = orEmpty(loop.iterable);
  }
}

type Node = { type: string };
type Selection = Node & { lhs: Node };
type Loop = { iterable: Node | Selection };

function isSelection(node: Node): node is Selection {
  return node.type === "SelectExpression";
}

/** `operand | default([])`. */
function orEmpty(operand: Node) {
  const callee = { type: "Identifier", value: "default" };
  const filter = { type: "CallExpression", callee, args: [{ type: "ArrayLiteral", value: [] }] };
  return { type: "FilterExpression", operand, filter };
}

/**
 * What every template sees. The library's own `strftime_now` tells today's date and can't be replaced in its
 * `render`.
 */
const GLOBALS = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  raise_exception(message: string) {
    throw new Error(message);
  },
  range(start: number, stop?: number, step = 1) {
    const [first, end] = stop === undefined ? [0, start] : [start, stop];
    const length = Math.max(0, Math.ceil((end - first) / step));
    if (!(length <= MOST_NUMBERS)) throw new Error(`range: expected at most ${MOST_NUMBERS} numbers`);
    return Array.from({ length }, (_, i) => first + i * step);
  },
  strftime_now(format: string) {
    return format.replace(/%(-?[A-Za-z]|%)/g, (_, directive: string) => {
      const text = directive === "%" ? "%" : FIXED_DATE[directive];
      if (text === undefined) throw new Error(`strftime_now: %${directive} is not supported`);
      return text;
    });
  },
};

/** Friday, 26 July 2024, 0:00, by Python's strftime directives. */
const FIXED_DATE: Readonly<Record<string, string>> = {
  d: "26",
  "-d": "26",
  e: "26",
  m: "07",
  "-m": "7",
  Y: "2024",
  y: "24",
  j: "208",
  a: "Fri",
  A: "Friday",
  b: "Jul",
  B: "July",
  H: "00",
  I: "12",
  p: "AM",
  M: "00",
  S: "00",
  Z: "UTC",
};
