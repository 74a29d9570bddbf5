import assert from "node:assert/strict";
import { readBenignFile } from "../../../pipeline/objectives/benign_file.ts";

async function read(content: string | Uint8Array) {
  const path = await Deno.makeTempFile({ suffix: ".json" });
  try {
    await Deno.writeFile(path, typeof content === "string" ? new TextEncoder().encode(content) : content);
    return await readBenignFile(path);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("readBenignFile: lists and JSON Lines of texts and of objects, without blank ones", async () => {
  const expected = ["One text.", "Two."];
  for (
    const content of [
      '["One text.", " \\n", "Two."]',
      '\ufeff[{"text":"One text.","id":1},{"text":"Two."}]',
      '[{"key":"One text.","response":"x"}, "Two."]',
      '{"text":"One text."}\n\n{"text":"Two.","n":[1]}\n',
      '"One text."\r\n"Two."',
    ]
  ) {
    const { texts, sha256 } = await read(content);
    assert.deepEqual(texts, expected, content);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(content)));
    assert.equal(sha256, digest.toHex());
  }
});

Deno.test("readBenignFile: what is wrong is named by entry or line", async () => {
  const cases: [string | Uint8Array, RegExp][] = [
    [
      '["a", 3]',
      /: entry 1 \(counted from 0\): expected a text \(a string\) or an object with "text", found 3$/,
    ],
    ['["a", null]', /entry 1 .* found null$/],
    ['[["a"]]', /entry 0 .* found a list$/],
    ['["a", {"body":"b"}]', /entry 1 .* found an object without it$/],
    ['[{"text":["b"]}]', /entry 0 .* found an object in which it is none$/],
    ['["a", "b\\ud800"]', /entry 1 .*half a surrogate pair/],
    ['{"text":"a"}\n{"text":7}', /entry 1 .* found an object in which it is none$/],
    ['{"text":"a"}\n{"text":', /line 2: expected one JSON value, as JSON Lines has it, or a JSON list$/],
    ['{\n"text":"a"}', /line 1: expected one JSON value/],
    ['{"text":"a"}\n{"text": b}', /unexpected "b}" at column 10 of line 2: expected one JSON value/],
    ['"a"\n"b\n"c"', /at column 1 of line 2: /],
    ["[1, 2", /not valid JSON at line 1 column 6/],
    ["7", /expected a JSON list or JSON Lines of texts, found 7$/],
    ["", /found an empty file/],
    ["[]", /there is no benign text in it$/],
    ['[" ", ""]', /there is no benign text in it$/],
    [Uint8Array.of(0x5b, 0x22, 0xff, 0x22, 0x5d), /not valid UTF-8/],
    [Uint8Array.of(0x22, 0x61, 0x22, 0x0a, 0x22, 0xff, 0x22), /not valid UTF-8 at line 2 column 2/],
  ];
  for (const [content, message] of cases) {
    await assert.rejects(read(content), (error) => {
      assert.ok(error instanceof Error && error.name === "JsonFileError");
      assert.match(error.message, message);
      return true;
    });
  }
  await assert.rejects(readBenignFile("/nowhere/benign.json"), /benign\.json: cannot read .* no such file$/);
  await assert.rejects(readBenignFile("/tmp"), /expected a regular file, found a directory$/);
});
