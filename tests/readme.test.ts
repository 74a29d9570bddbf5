import assert from "node:assert/strict";
import { memoryTable } from "../bench/memory_table.ts";
import { modelSpec } from "../engine/models/families.ts";
import { CHECK_FLAGS, FINETUNE_FLAGS, GENERATE_FLAGS } from "../pipeline/settings/flags.ts";
import { RECIPES } from "../pipeline/settings/recipes.ts";

const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));

Deno.test("the README names every flag", () => {
  for (const { name, aliases = [] } of [...FINETUNE_FLAGS, ...CHECK_FLAGS, ...GENERATE_FLAGS]) {
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

Deno.test("the README's memory table is the one that the plan computes", () => {
  assert.ok(readme.includes(memoryTable()), "run bench/memory_table.ts and put its table into README.md");
});

Deno.test("the README names every family", () => {
  assert.throws(() => modelSpec({ model_type: "none" }), ({ message }: Error) => {
    const types = [...message.matchAll(/"(\w+)"/g)].map(([, type]) => type).slice(2);
    assert.ok(types.length >= 10);
    for (const type of types) assert.ok(readme.includes(`\`${type}\``), `${type} is not in README.md`);
    return true;
  });
});
