/**
 * Declared flags as commander's options, and how help shows them.
 * @module
 */
import { type Command, type HelpConfiguration, InvalidArgumentError, Option } from "commander";
import { resolve } from "node:path";
import { UNSUPPORTED_FLAGS } from "../pipeline/settings/commands.ts";
import { defaultText, type Flag } from "../pipeline/settings/flag.ts";
import { RECIPE_NAMES } from "../pipeline/settings/recipes.ts";
import { callerFolder } from "./host.ts";

/** Values by flag, as commander gives them. */
export type Values = Record<string, unknown>;

const PLACES: Readonly<Record<Flag["kind"], string>> = {
  switch: "[true|false]",
  path: "<path>",
  model: "<model>",
  count: "<n>",
  number: "<number>",
  text: "<name>",
  choice: "<name>",
};

/** Arguments with `--model-path` as `--model_path`. */
export function normalArguments(args: readonly string[]): string[] {
  return args.map((arg) =>
    /^--[a-z]/.test(arg) ? arg.replace(/^[^=]+/, (name) => "--" + name.slice(2).replaceAll("-", "_")) : arg
  );
}

/** How a flag's text becomes its value. */
function reader({ kind }: Flag, folder: () => string): (text: string) => unknown {
  return (text) => {
    if (kind === "path") return resolve(folder(), text);
    if (kind === "switch") {
      if (text !== "true" && text !== "false") throw new InvalidArgumentError("expected true or false.");
      return text === "true";
    }
    if (kind === "text" || kind === "choice" || kind === "model") return text;
    const value = Number(text);
    const wrong = text.trim() === "" || !Number.isFinite(value) ||
      (kind === "count" && !Number.isInteger(value));
    if (wrong) throw new InvalidArgumentError(`expected a ${kind === "count" ? "whole " : ""}number.`);
    return value;
  };
}

/**
 * Gives a command its flags, under their names and other names; what OML 1.0 has and we don't is an error.
 * @param folder the one that relative paths are in
 */
export function addFlags(command: Command, flags: readonly Flag[], folder = callerFolder): Command {
  for (const flag of flags) {
    for (const name of [flag.name, ...flag.aliases ?? []]) {
      const option = new Option(`--${name} ${PLACES[flag.kind]}`, helpText(flag)).argParser(
        reader(flag, folder),
      );
      if (flag.kind === "switch") option.preset("true");
      if (flag.choices) option.choices(flag.choices);
      // An alias stands in its flag's line.
      if (name !== flag.name) option.hideHelp();
      command.addOption(option.helpGroup(`${flag.group}:`));
    }
  }
  for (const [name, instead] of Object.entries(UNSUPPORTED_FLAGS)) {
    command.addOption(new Option(`--${name} [value]`).hideHelp());
    command.on(`option:${name}`, () => command.error(`error: there is no --${name}: ${instead}`));
  }
  return command.configureHelp({ ...HELP, optionTerm: termsOf(flags) });
}

/** Values by setting, aliases folded in. */
export function settingsOf(values: Values, flags: readonly Flag[]): Values {
  const out: Values = {};
  for (const { name, aliases = [] } of flags) {
    for (const given of [name, ...aliases]) if (values[given] !== undefined) out[name] = values[given];
  }
  return out;
}

/** What a flag is, the values it takes, and what holds without it. */
function helpText(flag: Flag): string {
  const facts = [flag.choices ? flag.choices.join(", ") : "", defaultsText(flag)].filter(Boolean);
  return facts.length ? `${flag.help} (${facts.join("; ")})` : flag.help;
}

/** The default, of the other recipes too where they have another. */
function defaultsText({ kind, unset, byRecipe, default: value }: Flag): string {
  if (!byRecipe) {
    const shown = unset ?? (kind === "switch" ? "" : defaultText(value));
    return shown && `default ${shown}`;
  }
  const [first, ...others] = RECIPE_NAMES.map((name) => defaultText(byRecipe[name]) || unset);
  if (others.every((each) => each === first)) return `default ${first}`;
  return [`default ${first}`, ...others.map((each, i) => `${RECIPE_NAMES[i + 1]} ${each}`)].join(", ");
}

/** A flag's names in one line. */
function termsOf(flags: readonly Flag[]): (option: Option) => string {
  const names = new Map(
    flags.map((
      { name, aliases = [] },
    ) => [`--${name}`, [name, ...aliases].map((each) => `--${each}`).join(", ")]),
  );
  return ({ flags, long }) => flags.replace(/^--\w+/, names.get(long ?? "") ?? "$&");
}

/** Widest name before a description in the same line. */
const TERM_WIDTH = 24;

/** Descriptions beside short names and below long ones, so that 80 columns hold them. */
export const HELP: HelpConfiguration = {
  optionDescription: ({ description }) => description,
  padWidth: () => TERM_WIDTH,
  formatItem: (term, termWidth, description, helper) => {
    const indent = " ".repeat(termWidth + 4);
    const lines = helper.boxWrap(description, (helper.helpWidth ?? 80) - indent.length).split("\n");
    const isShort = helper.displayWidth(term) <= termWidth;
    const first = isShort ? `  ${term.padEnd(termWidth + 2)}${lines.shift() ?? ""}` : `  ${term}`;
    return [first, ...lines.map((line) => indent + line)].join("\n");
  },
};
