import assert from "node:assert/strict";
import { CHECK_FLAGS, FINETUNE_FLAGS } from "../pipeline/flags.ts";
import { RECIPES } from "../pipeline/recipes.ts";

const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));

Deno.test("the README names every flag", () => {
  for (const { name, aliases = [] } of [...FINETUNE_FLAGS, ...CHECK_FLAGS]) {
    for (const flag of [name, ...aliases]) {
      assert.ok(readme.includes(`\`--${flag}`), `--${flag} is not in README.md`);
    }
  }
});

Deno.test("the README gives every recipe's values", () => {
  const shown = (value: unknown) =>
    value === null ? "by width" : value === true ? "on" : value === false ? "off" : `${value}`;
  for (const name of Object.keys(RECIPES.anchored) as (keyof typeof RECIPES.anchored)[]) {
    const row = readme.split("\n").find((line) => line.startsWith(`| \`--${name}\``));
    assert.ok(row, `--${name} has no row`);
    const cells = row.split("|").slice(3, 6).map((cell) => cell.trim());
    assert.deepEqual(cells, Object.values(RECIPES).map((recipe) => shown(recipe[name])), name);
  }
});
