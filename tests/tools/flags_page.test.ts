import assert from "node:assert/strict";
import { COMMANDS, UNSUPPORTED_FLAGS } from "../../pipeline/settings/commands.ts";
import { RECIPES } from "../../pipeline/settings/recipes.ts";
import { flagsPage } from "../../tools/docs/flags_page.ts";

const page = await Deno.readTextFile(new URL("../../docs/flags.md", import.meta.url));

Deno.test("docs/flags.md is what the declarations say", () => {
  assert.equal(page, flagsPage(), "the page is stale: run deno task docs");
});

/** What the page has of a command. */
function sectionOf(name: string): string {
  return page.split(/^## /m).find((section) => section.startsWith(`${name}\n`))!;
}

Deno.test("the page names every flag and alias under its command, and what is not there", () => {
  for (const { name, flags } of COMMANDS) {
    for (const flag of flags) {
      for (const each of [flag.name, ...flag.aliases ?? []]) {
        assert.ok(sectionOf(name).includes(`\`--${each}\``), `--${each} of ${name}`);
      }
    }
  }
  for (const name of Object.keys(UNSUPPORTED_FLAGS)) assert.ok(page.includes(`| \`--${name}\``), name);
});

Deno.test("the page gives every recipe's values", () => {
  const shown = (value: unknown) =>
    value === null ? "by width" : value === true ? "on" : value === false ? "off" : `${value}`;
  for (const name of Object.keys(RECIPES.anchored) as (keyof typeof RECIPES.anchored)[]) {
    const row = sectionOf("finetune").split("\n").find((line) => line.startsWith(`| \`--${name}\``));
    assert.ok(row, `--${name} has no row`);
    const cells = row.split("|").slice(4, 7).map((cell) => cell.trim());
    assert.deepEqual(cells, Object.values(RECIPES).map((recipe) => shown(recipe[name])), name);
  }
});
