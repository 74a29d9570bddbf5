import assert from "node:assert/strict";
import { join } from "node:path";
import { FULL_TILES } from "./full_tiles.ts";

const root = join(import.meta.dirname!, "../..");

Deno.test("every kernel of shaders/ has a full tile that a test file must dispatch", () => {
  const shaders = [...Deno.readDirSync(join(root, "shaders"))].map(({ name }) =>
    Deno.readTextFileSync(join(root, "shaders", name))
  );
  // A kernel is called as its entry point is.
  const defined = shaders.flatMap((text) =>
    [...text.matchAll(/@compute[^;{]*?\bfn (\w+)/g)].map((match) => match[1])
  );
  assert.ok(defined.length > 20, `${defined.length} kernels found`);
  const listed = Object.values(FULL_TILES).flat().map(({ kernel }) => kernel);
  assert.deepEqual([...new Set(listed)].sort(), defined.sort());
});

Deno.test("every group of full tiles is checked by its test file", () => {
  for (const group of Object.keys(FULL_TILES)) {
    const text = Deno.readTextFileSync(join(root, `tests/ops/${group}.test.ts`));
    assert.match(text, new RegExp(`coverageTest\\([^"]*"${group}"`), `tests/ops/${group}.test.ts`);
  }
});
