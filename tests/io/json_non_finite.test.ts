/** NaN and infinity in JSON, as Python writes them. */
import assert from "node:assert/strict";
import { z } from "zod";
import { JsonFileError, parseJson, parseJsonLines } from "../../engine/io/json.ts";
import { maskNonFinite, parseNonFinite, stringifyNonFinite } from "../../engine/io/json_non_finite.ts";
import { parseJsonAs } from "../../engine/io/json_schema.ts";

const LENIENT = { nonFinite: true };

Deno.test("JSON: NaN, Infinity and -Infinity are values where a file may have them, else not", () => {
  const cases: [string, unknown][] = [
    ["NaN", NaN],
    ["[NaN,Infinity,-Infinity]", [NaN, Infinity, -Infinity]],
    ['{"a":NaN,"b":[ Infinity\n],"c":{"d":-Infinity}}', { a: NaN, b: [Infinity], c: { d: -Infinity } }],
    ['{"NaN":"NaN","\\"NaN":NaN,"a\\\\":-Infinity}', { NaN: "NaN", '"NaN': NaN, "a\\": -Infinity }],
    ["[-2,1.5e3,true,null,NaN]", [-2, 1500, true, null, NaN]],
  ];
  for (const [text, value] of cases) {
    for (const content of [text, new TextEncoder().encode(`\ufeff${text}`)]) {
      assert.deepEqual(parseJson("f", content, LENIENT), value, text);
      assert.throws(() => parseJson("f", content), JsonFileError, text);
    }
    assert.equal(maskNonFinite(text).length, text.length);
    assert.doesNotThrow(() => JSON.parse(maskNonFinite(text)), text);
    assert.deepEqual(parseNonFinite(stringifyNonFinite(value)), value, text);
  }
  assert.throws(() => parseJsonLines("f", "NaN"), JsonFileError);
  const own = parseJson("f", '{"__proto__":NaN}', LENIENT) as object;
  assert.deepEqual(Object.getOwnPropertyDescriptor(own, "__proto__")?.value, NaN);
});

Deno.test("JSON: what Python doesn't read either is refused, at its place", () => {
  const cases: [string, number][] = [
    ["[NaN, x]", 7],
    ["[nan]", 2],
    ["[-NaN]", 2],
    ["[+Infinity]", 2],
    ["[Infinity1]", 2],
    ["[1NaN]", 3],
    ["[NaN NaN]", 6],
    ["{NaN:1}", 2],
    ["[-Infinity,,1]", 12],
    ["[NaNé]", 2],
    ['["NaN', 2],
  ];
  for (const [text, column] of cases) {
    assert.throws(() => parseJson("f", text, LENIENT), (error) => {
      assert.ok(error instanceof JsonFileError);
      assert.equal(error.column, column, text);
      return true;
    }, text);
  }
});

Deno.test("JSON: a text full of quotes and words is read in time proportional to its length", () => {
  const inside = '\\"NaN'.repeat(100_000);
  assert.deepEqual(parseJson("f", `["${inside}",NaN]`, LENIENT), ['"NaN'.repeat(100_000), NaN]);
  assert.throws(() => parseJson("f", `[NaN,"${inside}`, LENIENT), JsonFileError);
  assert.equal((parseJson("f", `[${"NaN,".repeat(100_000)}1]`, LENIENT) as unknown[]).length, 100_001);
});

Deno.test("JSON schema: a field that is needed is named with what it holds and where", () => {
  const schema = z.object({ a: z.number(), b: z.unknown() });
  assert.deepEqual(parseJsonAs("f", '{"a":1,"b":NaN}', schema, LENIENT), { a: 1, b: NaN });
  for (const [word, text] of [["NaN", "NaN"], ["Infinity", "Infinity"], ["-Infinity", "-Infinity"]]) {
    assert.throws(() => parseJsonAs("f", `{"b":NaN,\n"a":${text}}`, schema, LENIENT), {
      name: "JsonFileError",
      message: new RegExp(`^f: a: .*found ${word} \\(line 2 column 5\\)$`),
    });
  }
});

Deno.test("JSON: what is finite is written as ever, and strings that look like the stand-ins stay", () => {
  const value = { a: [1, -0.5, "NaN", null, "0.00000e-2718281"], b: { c: "2.71828e+2718281" } };
  assert.equal(stringifyNonFinite(value), JSON.stringify(value));
  assert.equal(stringifyNonFinite({ p: [NaN, Infinity, -Infinity] }), '{"p":[NaN,Infinity,-Infinity]}');
});
