import assert from "node:assert/strict";
import { join } from "node:path";
import {
  JsonFileError,
  type JsonOptions,
  parseJson,
  parseJsonLines,
  readJson,
  readJsonIfThere,
  readJsonObject,
} from "../../engine/io/json.ts";
import { findFault, isTooDeep, MAX_NESTING } from "../../engine/io/json_fault.ts";
import { withFolder } from "./support.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

function fails(parse: () => unknown, message: RegExp, what = ""): JsonFileError {
  let found: unknown;
  assert.throws(parse, (error) => {
    found = error;
    assert.ok(error instanceof JsonFileError, `${what}: ${error}`);
    assert.match(error.message, message, what);
    return true;
  });
  return found as JsonFileError;
}

/** Malformed texts, and where the first token is that doesn't belong. */
const MALFORMED: readonly [text: string, offset: number, expected: RegExp][] = [
  ["", 0, /^a value$/],
  ["  x", 2, /^a value$/],
  ["nope", 0, /^a value$/],
  ["NaN", 0, /^a value$/],
  ["Infinity", 0, /^a value$/],
  ["-Infinity", 0, /^a value$/],
  ["undefined", 0, /^a value$/],
  ["tru", 0, /^a value$/],
  ["trueish", 0, /^a value$/],
  [":", 0, /^a value$/],
  ["+1", 0, /^a value$/],
  [".5", 0, /^a value$/],
  ["-", 0, /^a value$/],
  ["0x10", 1, /^the end of the file$/],
  ["1.", 0, /^a number with digits/],
  ["1e", 0, /^a number with digits/],
  ["1 2", 2, /^the end of the file$/],
  ["{}}", 2, /^the end of the file$/],
  ["[1]]", 3, /^the end of the file$/],
  ["[", 1, /^a value or "]"$/],
  ["[,]", 1, /^a value or "]"$/],
  ["[1", 2, /^"," or "]"$/],
  ["[1 \n", 4, /^"," or "]"$/],
  ["[1 2]", 3, /^"," or "]"$/],
  ["[01]", 2, /^"," or "]"$/],
  ["[1}", 2, /^"," or "]"$/],
  ["[[1}", 3, /^"," or "]"$/],
  ["[1,]", 3, /^a value$/],
  ["[1,,2]", 3, /^a value$/],
  ["[1,", 3, /^a value$/],
  ["[NaN]", 1, /^a value or "]"$/],
  ["{", 1, /^a name in double quotes or "}"$/],
  ["{a:1}", 1, /^a name in double quotes or "}"$/],
  ["{'a':1}", 1, /^a name in double quotes or "}"$/],
  ["{1:2}", 1, /^a name in double quotes or "}"$/],
  ["{,}", 1, /^a name in double quotes or "}"$/],
  ['{"a" 1}', 5, /^":"$/],
  ['{"a"}', 4, /^":"$/],
  ['{"a":}', 5, /^a value$/],
  ['{"a":1', 6, /^"," or "}"$/],
  ['{"a":1]', 6, /^"," or "}"$/],
  ['{"a":[]]', 7, /^"," or "}"$/],
  ['{"a":1 "b":2}', 7, /^"," or "}"$/],
  ['{"a":1,}', 7, /^a name in double quotes$/],
  ['{"a":1,,"b":2}', 7, /^a name in double quotes$/],
  ['["a', 1, /^a closing quote/],
  ['["a\n"]', 1, /^a closing quote/],
  ['"\\', 0, /^a closing quote/],
  ['["\t"]', 1, /^control characters/],
  ['["\u0000"]', 1, /^control characters/],
  ['["\\x41"]', 1, /^one of .* after a backslash$/],
  ['["\\u12"]', 1, /^four hexadecimal digits/],
  ["[1] // one", 4, /^JSON without comments$/],
  ["/* a */ 1", 0, /^JSON without comments$/],
  ["/* a", 0, /^JSON without comments$/],
  ["1/", 1, /^the end of the file$/],
  ["[1]\u0000", 3, /^the end of the file$/],
  ["\u00a0[]", 0, /^a value$/],
  ["\ufeff[]", 0, /^a value$/],
  ["[\u2028]", 1, /^a value or "]"$/],
  ["[\v1]", 1, /^a value or "]"$/],
];

const VALID = [
  '{"a":[1,-2.5e3,true,false,null,"\\u00e9\\n",{},[]],"b":{}}',
  " 1 ",
  '\t"x"\r\n',
  "-0",
  "1E+2",
  '"\u2028\u007f\\ud800"',
  "[]",
  "{}",
  "[[],[{}]]",
  '{"":0,"":1}',
];

Deno.test("JSON: the place of a fault and what could stand there", () => {
  for (const [text, offset, expected] of MALFORMED) {
    const fault = findFault(text);
    assert.equal(fault?.offset, offset, JSON.stringify(text));
    assert.match(fault.expected, expected, JSON.stringify(text));
  }
});

Deno.test("JSON: the parser that reads and the one that finds the place agree on what is JSON", () => {
  for (const [text] of MALFORMED) assert.throws(() => JSON.parse(text), SyntaxError, JSON.stringify(text));
  for (const text of VALID) assert.equal(findFault(text), undefined, JSON.stringify(text));
  // Every change by one character, too.
  const signs = [...'{}[],:"\\/ \t\n\r\u000001.eE+-tnux#\u00a0\ufeffé'];
  let wrong = 0, right = 0;
  for (const text of VALID) {
    for (let at = 0; at <= text.length; at++) {
      const [before, after] = [text.slice(0, at), text.slice(at)];
      const changes = signs.flatMap((sign) => [before + sign + after, before + sign + after.slice(1)]);
      for (const changed of [before, before + after.slice(1), ...changes]) {
        let isValid = true;
        try {
          JSON.parse(changed);
        } catch {
          isValid = false;
        }
        assert.equal(findFault(changed) === undefined, isValid, JSON.stringify(changed));
        if (isValid) right++;
        else wrong++;
      }
    }
  }
  assert.ok(right > 500 && wrong > 5000, `${right} ${wrong}`);
});

Deno.test("JSON: a message names file, line, column, what was expected and what was found", () => {
  const cases: [string, RegExp][] = [
    ["", /expected JSON, found an empty file$/],
    [" \n", /expected JSON, found an empty file$/],
    ["{", /line 1 column 2: unexpected the end of the file, expected a name in double quotes or "}"$/],
    ['{"a": tru}', /line 1 column 7: unexpected "tru}", expected a value$/],
    ['{"a": 1,}', /line 1 column 9: unexpected "}", expected a name in double quotes$/],
    ['{\n  "a": [1, 2\n  "b": 3\n}', /line 3 column 3: unexpected .*, expected "," or "]"$/],
    ["[1, 2]]", /line 1 column 7: unexpected "]", expected the end of the file$/],
    ["[1,, 2]", /line 1 column 4/],
    ["{'a': 1}", /line 1 column 2/],
    ['{"a" 1}', /line 1 column 6: unexpected "1}", expected ":"$/],
    ['["a\\x"]', /line 1 column 2/],
    [
      '{"deep": {"list": [{}, [], "x", -1.5e3, null, true]}, "a": NaN}',
      /line 1 column 60: unexpected "NaN}", expected a value$/,
    ],
  ];
  for (const [text, message] of cases) {
    for (const content of [text, bytes(text)]) {
      const error = fails(() => parseJson("dir/config.json", content), message, text);
      assert.match(error.message, /^dir\/config.json: (not valid JSON at|expected JSON)/);
      assert.equal(error.path, "dir/config.json");
      assert.equal(error.message, `dir/config.json: ${error.reason}`);
    }
  }
});

Deno.test("JSON: columns are UTF-16 units; a line ends with LF, CRLF or CR; a byte order mark has no column", () => {
  const cases: [string, number, number][] = [
    ['["é", x]', 1, 7],
    ['["😀", x]', 1, 8],
    ["[1,\n2,\n x]", 3, 2],
    ["[1,\r\n2,\r\n x]", 3, 2],
    ["[1,\r2,\r x]", 3, 2],
    ['["ü",\r\n "日本" x]', 2, 7],
    ["\r\n[", 2, 2],
  ];
  for (const [text, line, column] of cases) {
    for (const mark of ["", "\ufeff"]) {
      const error = fails(() => parseJson("f", bytes(mark + text)), /^f: not valid JSON/, text);
      assert.deepEqual([error.line, error.column], [line, column], JSON.stringify(mark + text));
    }
  }
  assert.deepEqual(parseJson("f", bytes("\ufeff[1]")), [1]);
});

Deno.test("JSON: bytes that are not UTF-8 are refused where they are", () => {
  const cases: [number[], number, number][] = [
    [[0x22, 0xff, 0x22], 1, 2],
    [[0xff, 0xfe, 0x5b, 0], 1, 1],
    // After é, the replacement character itself, which is valid, and a line end: two bytes of three.
    [[0x22, 0xc3, 0xa9, 0xef, 0xbf, 0xbd, 0x0a, 0x20, 0xef, 0xbf], 2, 2],
    [[0xef, 0xbb, 0xbf, 0x22, 0xed, 0xa0, 0x80, 0x22], 1, 2],
  ];
  for (const [content, line, column] of cases) {
    const error = fails(
      () => parseJson("f", Uint8Array.from(content)),
      /^f: not valid UTF-8 at .*not UTF-8$/,
    );
    assert.deepEqual([error.line, error.column], [line, column], `${content}`);
  }
});

Deno.test("JSON: of equal names the last counts, and __proto__ is a name as any other", () => {
  assert.deepEqual(parseJson("f", '{"a":1,"a":2}'), { a: 2 });
  const value = parseJson("f", '{"__proto__":{"polluted":true},"constructor":1}') as object;
  assert.deepEqual(Object.keys(value), ["__proto__", "constructor"]);
  assert.equal(Object.getPrototypeOf(value), Object.prototype);
  assert.equal("polluted" in value, false);
  assert.equal("polluted" in {}, false);
});

const SECRET = "xyzzy-plugh";

/** Everything that an error could show, causes included. */
function shown(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = Object.getOwnPropertyNames(error).map((name) => String(Reflect.get(error, name)));
  return [error.message, error.stack, ...own, error.cause && shown(error.cause), Deno.inspect(error)].join(
    "\n",
  );
}

Deno.test("JSON: nothing of a secret file is ever in an error", () => {
  const texts = MALFORMED.map(([text]) => text).flatMap((text) => [
    `["${SECRET}", 1 ${text}`,
    `{"${SECRET}": 1 ${text}`,
    `${text}${SECRET}`,
    `"${SECRET}" ${text} x`,
    `["${SECRET}${text.replaceAll('"', "")}\u0001"]`,
  ]);
  const contents = [...texts, `${"[".repeat(600)}"${SECRET}"${"]".repeat(600)}`].map(bytes);
  for (const content of [...contents, Uint8Array.from([...bytes(`["${SECRET}`), 0xff])]) {
    const text = new TextDecoder().decode(content);
    for (const parse of [parseJson, parseJsonLines]) {
      const error = fails(() => parse("f", content, { secret: true }), /^f: not valid (JSON|UTF-8)/, text);
      const all = shown(error);
      assert.ok(!all.includes(SECRET) && !all.includes("xyz") && !all.includes("plugh"), all);
      assert.equal(error.cause, undefined);
    }
  }
  const error = fails(
    () => parseJson("f", `["${SECRET}",\n "${SECRET}" "x"]`, { secret: true }),
    /^f: not valid JSON: the first unexpected character is at line 2, column 16 \(position 31\); expected "," or "]"$/,
  );
  assert.deepEqual([error.line, error.column], [2, 16]);
  // What is shown without the mode: the test can fail.
  assert.ok(shown(fails(() => parseJson("f", `[1 "${SECRET}"]`), /unexpected/)).includes("xyz"));
});

Deno.test("JSON: a secret that isn't an object is not quoted either", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "s.json");
    await Deno.writeTextFile(path, JSON.stringify(SECRET));
    await assert.rejects(readJsonObject(path, { secret: true }), (error) => {
      assert.match(String(error), /expected a JSON object, found a string$/);
      assert.ok(!shown(error).includes(SECRET));
      return true;
    });
    await assert.rejects(readJsonObject(path), /expected a JSON object, found "xyzzy-plugh"$/);
  });
});

Deno.test("JSON: nesting is bounded, whether the text is whole or not", () => {
  const nested = (depth: number, open = "[", close = "]") => open.repeat(depth) + close.repeat(depth);
  assert.ok(Array.isArray(parseJson("f", nested(MAX_NESTING))));
  const message = /line 1 column 513: unexpected .*, expected at most 512 lists and objects in each other$/;
  fails(() => parseJson("f", nested(MAX_NESTING + 1)), message);
  for (const depth of [100_000, 1_000_000]) {
    fails(() => parseJson("f", nested(depth)), message);
    fails(() => parseJson("f", "[".repeat(depth)), message);
    fails(() => parseJson("f", '[{"a":'.repeat(depth)), /expected at most 512 lists and objects/);
    fails(() => parseJsonLines("f", `1\n${nested(depth)}`), /at column 513 of line 2/);
  }
  // Brackets beside each other, and in strings, are not nested.
  assert.equal(isTooDeep(`[${"[],".repeat(1000)}{}]`), false);
  assert.equal(isTooDeep(`["${"[{".repeat(1000)}\\"${"[".repeat(1000)}\\\\", 1]`), false);
  const beginning = `["a\\"]\\\\",`;
  fails(() => parseJson("f", `${beginning}${nested(600)}]`), /column 522: .*, expected at most 512/);
  // A text that ends in a string, or whose first fault comes before the depth.
  assert.equal(isTooDeep('["a'), false);
  assert.equal(isTooDeep('["a\\'), false);
  fails(() => parseJson("f", `[x${nested(600)}]`), /column 2: unexpected "x/);
  fails(
    () => parseJson("f", `["a${nested(600)}\n"${nested(600)}]`),
    /column 2: .*, expected a closing quote/,
  );
});

Deno.test("JSON Lines: values, blank lines left out; a fault has its line", () => {
  assert.deepEqual(parseJsonLines("f", bytes('\ufeff{"a":1}\r\n\n "b"\n[2]')), [{ a: 1 }, "b", [2]]);
  assert.deepEqual(parseJsonLines("f", ""), []);
  const error = fails(
    () => parseJsonLines("f", '1\n\n{"a": x}'),
    /^f: unexpected "x}" at column 7 of line 3: expected one JSON value, as JSON Lines has it$/,
  );
  assert.deepEqual([error.line, error.column], [3, 7]);
  fails(
    () => parseJsonLines("f", '{"a":\r\n1', { expected: "a text" }),
    /^f: unexpected the end of the line at column \d of line 1: expected a text$/,
  );
});

Deno.test("JSON files: missing, not a file, too large", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "a.json");
    const rejects = async (at: string, options: JsonOptions, message: RegExp, isMissing = false) => {
      await assert.rejects(readJson(at, options), (error) => {
        assert.ok(error instanceof JsonFileError, String(error));
        assert.match(error.message, message);
        assert.equal(error.isMissing, isMissing);
        return true;
      });
    };
    await rejects(path, {}, /^.*a\.json: cannot be read: there is no such file$/, true);
    await rejects(
      path,
      { what: "the thing" },
      /a\.json: cannot read the thing: there is no such file$/,
      true,
    );
    assert.equal(await readJsonIfThere(path), undefined);
    await Deno.writeTextFile(path, '{"a":1}');
    assert.deepEqual(await readJsonObject(path, { maxBytes: 7 }), { a: 1 });
    assert.deepEqual(await readJsonIfThere(path), { a: 1 });
    await rejects(path, { maxBytes: 6 }, /expected a file of at most 6 bytes, found 7$/);
    await rejects(dir, {}, /expected a regular file, found a directory$/);
    await Deno.writeTextFile(path, "{");
    await assert.rejects(readJsonIfThere(path), /line 1 column 2/);
    if (Deno.build.os !== "linux") return;
    await rejects("/dev/zero", {}, /expected a regular file, found a device or socket$/);
  });
});

Deno.test("NaN and Infinity are numbers only where they are asked for, and only where a number may stand", () => {
  const read = (text: string) => parseJson("f.json", text, { nonFinite: true });
  const text = '{"a": NaN, "b": [-Infinity,Infinity , 1E1], "c": "NaN, \\"Infinity", "NaN": 0E0}';
  assert.deepEqual(read(text), { a: NaN, b: [-Infinity, Infinity, 10], c: 'NaN, "Infinity', NaN: 0 });
  assert.deepEqual(read("NaN"), NaN);
  assert.deepEqual(read("-Infinity"), -Infinity);
  assert.throws(() => parseJson("f.json", text), /line 1 column 7: unexpected "NaN, /);
  // Every number of the text stays what it is: a literal that stands for NaN is none of them.
  const numbers = Array.from({ length: 99 }, (_, i) => `${Math.floor(i / 10)}E${i % 10}`);
  assert.deepEqual(read(`[${numbers},NaN]`), [...numbers.map(Number), NaN]);
  for (
    const wrong of [
      "[1NaN]",
      "[NaN5]",
      "[-NaN]",
      "[+Infinity]",
      "[nan]",
      "[NaN NaN]",
      "{NaN: 1}",
      "[Infinityy]",
    ]
  ) {
    assert.throws(() => read(wrong), /^JsonFileError: f\.json: not valid JSON at line 1 column \d/, wrong);
  }
  assert.throws(() => read('[NaN,\n Infinity, "x]'), /line 2 column 12/);
});
