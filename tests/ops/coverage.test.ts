import assert from "node:assert/strict";
import { join } from "node:path";
import { registeredKernels } from "../../engine/gpu/kernel.ts";
import { FULL_TILES } from "./full_tiles.ts";

const root = join(import.meta.dirname!, "../..");

Deno.test("every kernel of engine/ops has a full tile that a test file must dispatch", async () => {
  for (const { name } of Deno.readDirSync(join(root, "engine/ops"))) {
    if (name.endsWith(".ts")) await import(`../../engine/ops/${name}`);
  }
  const registered = registeredKernels().map(({ name }) => name).sort();
  const listed = Object.values(FULL_TILES).flat().map(({ kernel }) => kernel);
  assert.deepEqual([...new Set(listed)].sort(), registered);
});

Deno.test("every group of full tiles is checked by its test file", () => {
  for (const group of Object.keys(FULL_TILES)) {
    const text = Deno.readTextFileSync(join(root, `tests/ops/${group}.test.ts`));
    assert.match(text, new RegExp(`coverageTest\\(\\s*"${group}"`), `tests/ops/${group}.test.ts`);
  }
});
