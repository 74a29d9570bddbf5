import assert from "node:assert/strict";
import plugin from "./plain_objects.ts";

const problems = (source: string) => Deno.lint.runPlugin(plugin, "some.ts", source).length;

Deno.test("a literal spread into a literal is refused, in every dress", () => {
  assert.equal(problems("const x = { ...{ a: 1 }, b: 2 };"), 1);
  assert.equal(problems("const x = { ...({ a: 1 }) };"), 1);
  assert.equal(problems("const x = { ...{ a: 1 } as const };"), 1);
  assert.equal(problems("const x = { ...({ a: 1 } satisfies A) };"), 1);
  assert.equal(problems("f({ y: { ...{ a: 1 } }, ...{ z: 1 } });"), 2);
});

Deno.test("values and choices may be spread", () => {
  assert.equal(problems("const x = { ...y, ...(z ? { a: 1 } : {}), b: [...c] };"), 0);
  assert.equal(problems("const x = { ...f({ a: 1 }) };"), 0);
});
