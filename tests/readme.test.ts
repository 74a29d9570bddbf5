import assert from "node:assert/strict";
import { gpuTable, memoryTable, shapeMemory } from "../bench/memory_table.ts";
import { modelSpec } from "../engine/models/families.ts";

const read = (path: string) => Deno.readTextFile(new URL(`../${path}`, import.meta.url));

Deno.test("the memory tables of docs/memory.md and the README are what the plan computes", async () => {
  const shapes = shapeMemory();
  const tables = { "docs/memory.md": memoryTable(shapes), "README.md": gpuTable(shapes) };
  for (const [page, table] of Object.entries(tables)) {
    assert.ok((await read(page)).includes(table), `run bench/memory_table.ts and put its table into ${page}`);
  }
});

Deno.test("docs/models.md names every family", async () => {
  const page = await read("docs/models.md");
  assert.throws(() => modelSpec({ model_type: "none" }), ({ message }: Error) => {
    const types = [...message.matchAll(/"(\w+)"/g)].map(([, type]) => type).slice(2);
    assert.ok(types.length >= 10);
    for (const type of types) assert.ok(page.includes(`\`${type}\``), `${type} is not in docs/models.md`);
    return true;
  });
});

Deno.test("docs/api.md shows the program that tests/embed runs", async () => {
  const program = await read("tests/embed/example/main.ts");
  assert.ok(
    (await read("docs/api.md")).includes("```ts\n" + program + "```\n"),
    "put main.ts into docs/api.md",
  );
});
