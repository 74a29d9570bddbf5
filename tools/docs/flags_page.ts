import { EXIT_CODES } from "../../cli/exit_codes.ts";
import { type CommandDescription, COMMANDS, UNSUPPORTED_FLAGS } from "../../pipeline/settings/commands.ts";
import { defaultText, type Flag, FLAG_GROUPS } from "../../pipeline/settings/flag.ts";
import { RECIPE_NAMES } from "../../pipeline/settings/recipes.ts";

/** docs/flags.md: every flag of every command, from the declarations. */
export function flagsPage(): string {
  return [
    "# Flags",
    "",
    "Made from the declarations in `pipeline/settings/` by `deno task docs`; don't edit it.",
    "",
    "`--model-path` works like `--model_path`; a switch without a value is on. The names are also those of the",
    "fields that `finetune`, `check` and `generateFingerprints` take.",
    ...COMMANDS.flatMap(section),
    "",
    "## Exit codes",
    "",
    ...table([
      ["code", "meaning"],
      ...EXIT_CODES.toSorted((a, b) => a.code - b.code).map(({ code, meaning }) => [`${code}`, meaning]),
      ["128 + n", "ended by signal n: 130 is Ctrl-C (SIGINT), 143 SIGTERM, 129 SIGHUP"],
    ]),
    "",
    "With `--json` the last line of `finetune` and `generate` is an object of the type `result`, `exists`, `error`",
    "(with `code`, `name` and `message`) or `interrupted`; of `finetune --dry_run` it is a `plan`.",
    "",
    "## Flags of OML 1.0 that are not there",
    "",
    ...table([
      ["flag", "instead"],
      ...Object.entries(UNSUPPORTED_FLAGS).map(([name, text]) => [code(name), text]),
    ]),
    "",
  ].join("\n");
}

function section({ name, summary, flags, examples }: CommandDescription): string[] {
  const lines = ["", `## ${name}`, "", summary, "", "```sh"];
  lines.push(...examples.flatMap(({ what, command }) => [`# ${what}`, command]), "```");
  const hasRecipes = flags.some(({ byRecipe }) => byRecipe);
  const defaults = hasRecipes
    ? RECIPE_NAMES.map((name, i) => i === 0 ? `default: ${name}` : name)
    : ["default"];
  for (const group of FLAG_GROUPS) {
    const ours = flags.filter((flag) => flag.group === group);
    if (ours.length === 0) continue;
    const rows = ours.map((flag) => [
      code(flag.name) + (flag.aliases ?? []).map((alias) => ` (${code(alias)})`).join(""),
      flag.help,
      flag.choices?.join(", ") ?? { switch: "on or off", path: "a path", model: "a model", text: "a name" }[
        flag.kind as string
      ] ?? (flag.kind === "count" ? "a whole number" : "a number"),
      ...defaultsOf(flag, hasRecipes),
    ]);
    lines.push("", `### ${group}`, "", ...table([["flag", "meaning", "values", ...defaults], ...rows]));
  }
  return lines;
}

/** Cells of a flag's default, by recipe where the command has recipes. */
function defaultsOf({ unset, byRecipe, default: value }: Flag, hasRecipes: boolean): string[] {
  if (byRecipe) return RECIPE_NAMES.map((name) => defaultText(byRecipe[name]) || unset!);
  const shown = unset ?? defaultText(value);
  return hasRecipes ? [shown, ...RECIPE_NAMES.slice(1).map(() => "")] : [shown];
}

function code(name: string): string {
  return `\`--${name}\``;
}

/** A bare <hash> would be taken for HTML. */
function escape(text: string): string {
  return text.replaceAll("<", "\\<").replaceAll("|", "\\|");
}

/** Markdown with columns as wide as their widest cell, as deno fmt leaves it. */
function table(cells: readonly string[][]): string[] {
  const rows = cells.map((row) => row.map(escape));
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  return [
    line(rows[0]),
    `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`,
    ...rows.slice(1).map(line),
  ];
}
