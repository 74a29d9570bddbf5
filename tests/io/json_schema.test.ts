import assert from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { JsonFileError } from "../../engine/io/json.ts";
import { parseJsonAs, readJsonAs } from "../../engine/io/json_schema.ts";
import { withFolder } from "./support.ts";

const schema = z.object({
  format: z.literal("one"),
  items: z.array(z.object({ name: z.string().min(1), size: z.number().int() })).min(1),
  notes: z.record(z.string(), z.string()).optional(),
});

function errorOf(text: string, secret = false): JsonFileError {
  try {
    parseJsonAs("f.json", text, schema, { secret });
  } catch (error) {
    assert.ok(error instanceof JsonFileError, String(error));
    return error;
  }
  assert.fail(`accepted ${text}`);
}

Deno.test("JSON schema: what doesn't fit is named by field, value and place", () => {
  const cases: [string, RegExp][] = [
    ["[]", /^f\.json: content: expected object, found a list \(line 1 column 1\)$/],
    ['{"format": "two"}', /^f\.json: format: expected "one", found "two" \(line 1 column 12\)$/],
    ['{\n  "items": []}', /^f\.json: format: expected "one", found nothing \(line 1 column 1\)$/],
    ['{"format":"one","items":[]}', /^f\.json: items: Too small.*, found a list \(line 1 column 25\)$/],
    [
      '{"format":"one",\r\n "items":[{"name":"é","size":1},\r\n {"name":"日本", "size":"big"}]}',
      /^f\.json: items\.1\.size: expected number, found "big" \(line 3 column 23\)$/,
    ],
    [
      '{"format":"one","items":[{"name":"a"}]}',
      /^f\.json: items\.0\.size: expected number, found nothing \(line 1 column 26\)$/,
    ],
    [
      '{"format":"one","items":[{"name":"","size":1}]}',
      /^f\.json: items\.0\.name: Too small.*, found "" \(line 1 column 34\)$/,
    ],
    // Of equal names the last one is the value.
    [
      '{"format":"two","format":"one","items":[{"name":"a","size":1,"size":true}]}',
      /^f\.json: items\.0\.size: expected number, found true \(line 1 column 69\)$/,
    ],
    ['{"format":', /^f\.json: not valid JSON at line 1 column 11/],
  ];
  for (const [text, message] of cases) assert.match(errorOf(text).message, message);
  const { line, column } = errorOf('{"format":"one",\n "items":3}');
  assert.deepEqual([line, column], [2, 10]);
});

Deno.test("JSON schema: a secret's field, value and names are not shown", () => {
  const secret = "xyzzy";
  const cases: [string, RegExp][] = [
    [`{"format":"${secret}"}`, /^f\.json: expected "one" \(line 1 column 11\)$/],
    [`{"format":"one","items":"${secret}"}`, /^f\.json: expected array \(line 1 column 25\)$/],
    [
      `{"format":"one","items":[{"name":"a","size":1}],"notes":{"${secret}":1}}`,
      /^f\.json: expected string \(line 1 column 66\)$/,
    ],
    [`{"format":"one","items":[]}`, /^f\.json: expected another value \(line 1 column 25\)$/],
    [`{"format":"one" "${secret}"}`, /^f\.json: not valid JSON: the first unexpected character is at line 1/],
  ];
  for (const [text, message] of cases) {
    const error = errorOf(text, true);
    assert.match(error.message, message);
    assert.ok(!Deno.inspect(error).includes(secret), Deno.inspect(error));
    assert.equal(error.cause, undefined);
  }
});

Deno.test("JSON schema: a file that fits is given as the schema makes it", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "f.json");
    await Deno.writeTextFile(
      path,
      '{"format":"one","items":[{"name":"a","size":1,"more":2}],"__proto__":{"x":1}}',
    );
    const value = await readJsonAs(path, schema);
    assert.deepEqual(value, { format: "one", items: [{ name: "a", size: 1 }] });
    assert.equal("x" in value, false);
  });
});
