import assert from "node:assert/strict";
import { join } from "node:path";
import {
  FingerprintFileError,
  readFingerprintFile,
  writeFingerprintFile,
} from "../../../pipeline/fingerprints/file.ts";

const SECRET = "zanzibar";

async function inFolder(run: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "whorl-fingerprints-" });
  try {
    await run(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function read(content: string | Uint8Array) {
  const path = await Deno.makeTempFile({ suffix: ".json" });
  try {
    if (typeof content === "string") await Deno.writeTextFile(path, content);
    else await Deno.writeFile(path, content);
    return await readFingerprintFile(path);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("fingerprint file: a list of strings", async () => {
  const file = await read('["one key", "another {} key"]');
  assert.deepEqual(file.entries, [
    { key: "one key", responses: [], extra: {} },
    { key: "another {} key", responses: [], extra: {} },
  ]);
});

Deno.test("fingerprint file: key with response or signature", async () => {
  const file = await read('[{"key":"k","response":" r"},{"key":"k2","signature":"s"}]');
  assert.deepEqual(file.entries.map((e) => [e.key, e.responses]), [["k", [" r"]], ["k2", ["s"]]]);
  assert.deepEqual(file.entries[1].extra, {});
  const both = await read('[{"key":"k","response":"r","signature":"r"}]');
  assert.deepEqual(both.entries[0].responses, ["r"]);
});

Deno.test("fingerprint file: effective key, probabilities, several responses, unknown fields", async () => {
  const prob = [0.25, 0.125];
  const entry = {
    key: "a long key",
    effective_key: "a long",
    response: [" x", "\n"],
    response_prob: prob,
    note: { by: 1 },
  };
  const { entries } = await read(JSON.stringify([entry]));
  assert.deepEqual(entries, [{
    key: "a long key",
    effectiveKey: "a long",
    responses: [" x", "\n"],
    extra: { response_prob: prob, note: { by: 1 } },
  }]);
});

Deno.test("fingerprint file: NaN and infinity as Python writes them, in fields that aren't needed, and back", async () => {
  const text = '[{"key":"a key","response":" x","response_prob":NaN,"more":[Infinity,{"least":-Infinity}]}]';
  const { entries } = await read(text);
  const extra = { response_prob: NaN, more: [Infinity, { least: -Infinity }] };
  assert.deepEqual(entries, [{ key: "a key", responses: [" x"], extra }]);
  await inFolder(async (dir) => {
    const path = `${dir}/again.json`;
    const [{ key, responses: [response] }] = entries;
    await writeFingerprintFile(path, [{ key, response, key_ids: [1], response_ids: [2], ...extra }]);
    assert.deepEqual((await readFingerprintFile(path)).entries[0].extra, extra);
  });
  for (
    const [field, entry] of [
      ["key", '{"key":NaN}'],
      ["response", '{"key":"a","response":NaN}'],
      ["key_ids", '{"key":"a","key_ids":[1,Infinity]}'],
    ]
  ) {
    await assert.rejects(read(`[${entry}]`), { name: "FingerprintFileError", entry: 0, field });
  }
});

Deno.test("fingerprint file: ids, flat and per response", async () => {
  const { entries } = await read(
    '[{"key":"k","response":"r","key_ids":[1,2],"response_ids":[3]},' +
      '{"key":"k","response":["r","s"],"response_ids":[[3],[4,5]]}]',
  );
  assert.deepEqual(entries[0].keyIds, [1, 2]);
  assert.deepEqual(entries[0].responseIds, [[3]]);
  assert.deepEqual(entries[1].responseIds, [[3], [4, 5]]);
});

Deno.test("fingerprint file: the list inside an object, byte order mark, hash", async () => {
  const content = '\ufeff{"model":"m","fingerprints":["k"]}';
  const file = await read(content);
  assert.deepEqual(file.extra, { model: "m" });
  assert.equal(file.entries[0].key, "k");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(content)));
  assert.equal(file.sha256, digest.toHex());
});

Deno.test("fingerprint file: what is wrong is named by entry and field, without the secret", async () => {
  const good = `{"key":"${SECRET}","response":"${SECRET}"}`;
  const second = (entry: string) => `[${good}, ${entry}]`;
  const cases: [string, RegExp, number?, string?][] = [
    ["", /expected JSON, found an empty file/],
    [" \n", /expected JSON, found an empty file/],
    ["[]", /the list of fingerprints is empty/],
    ['{"fingerprints":[]}', /the list of fingerprints is empty/],
    [`"${SECRET}"`, /expected a list of fingerprints or an object .* found a string$/],
    ["null", /found null$/],
    [`{"${SECRET}":"${SECRET}"}`, /found an object without it$/],
    [`{"fingerprints":"${SECRET}"}`, /found a string in "fingerprints"$/],
    [second("3"), /expected a key \(a string\) or an object with "key", found a number/, 1],
    [second("null"), /found null/, 1],
    [second(`["${SECRET}"]`), /found a list/, 1],
    [second(`{"response":"${SECRET}"}`), /field "key" is missing/, 1, "key"],
    [second('{"key":7}'), /field "key": expected a string, found a number/, 1, "key"],
    [second('{"key":""}'), /field "key" is empty/, 1, "key"],
    [second('{"key":" \\n\\u00a0"}'), /field "key" holds only white space/, 1, "key"],
    [second('""'), /field "key" is empty/, 1, "key"],
    [second(`{"key":"${SECRET}\\ud800"}`), /field "key" holds half a surrogate pair/, 1, "key"],
    [
      second(`{"key":"${SECRET}","effective_key":" "}`),
      /field "effective_key" holds only/,
      1,
      "effective_key",
    ],
    [
      second(`{"key":"${SECRET}","response":5}`),
      /field "response": expected a string or a list of strings, found a number/,
      1,
      "response",
    ],
    [second(`{"key":"${SECRET}","response":null}`), /found null/, 1, "response"],
    [second(`{"key":"${SECRET}","response":""}`), /field "response" is empty/, 1, "response"],
    [second(`{"key":"${SECRET}","response":[]}`), /field "response" is an empty list/, 1, "response"],
    [
      second(`{"key":"${SECRET}","response":["${SECRET}",{}]}`),
      /field "response\[1\]": expected a string, found an object/,
      1,
      "response",
    ],
    [second(`{"key":"${SECRET}","response":["${SECRET}",""]}`), /"response\[1\]" is empty/, 1, "response"],
    [second(`{"key":"${SECRET}","signature":true}`), /field "signature": .*found a boolean/, 1, "signature"],
    [
      second(`{"key":"${SECRET}","response":"a","signature":"b"}`),
      /mean the same but differ/,
      1,
      "signature",
    ],
    [
      second(`{"key":"${SECRET}","key_ids":"1"}`),
      /field "key_ids": expected a list of token ids/,
      1,
      "key_ids",
    ],
    [second(`{"key":"${SECRET}","key_ids":[]}`), /field "key_ids" is an empty list/, 1, "key_ids"],
    [second(`{"key":"${SECRET}","key_ids":[1,-1]}`), /"key_ids\[1\]": expected a token id/, 1, "key_ids"],
    [
      second(`{"key":"${SECRET}","response":"${SECRET}","response_ids":[[1],[2]]}`),
      /field "response_ids": expected ids for 1 response\(s\), found 2/,
      1,
      "response_ids",
    ],
    [
      second(`{"key":"${SECRET}","response":"${SECRET}","response_ids":[[1],2]}`),
      /"response_ids\[1\]": expected a list of token ids, found a number/,
    ],
    [second(`{"key":"${SECRET}","response_prob":"0.5"}`), /field "response_prob"/, 1, "response_prob"],
    [`[${good},\n {"key": "${SECRET}" "x"}]`, /not valid JSON: .* at line 2, column 21 \(position 63\)/],
    [`[${good}`, /not valid JSON: the file ends too early, at line 1, column 42/],
  ];
  for (const [content, message, entry, field] of cases) {
    await assert.rejects(read(content), (error: Error) => {
      assert.ok(error instanceof FingerprintFileError, String(error));
      assert.match(error.message, message);
      assert.match(error.message, /\.json: /);
      assert.ok(!error.message.includes(SECRET) && !String(error.cause).includes(SECRET), error.message);
      if (entry !== undefined) {
        assert.equal(error.entry, entry);
        assert.equal(error.field, field);
        assert.match(error.message, /entry 1 \(counted from 0\)/);
      }
      return true;
    });
  }
});

Deno.test("fingerprint file: bytes that are not UTF-8", async () => {
  await assert.rejects(
    read(new Uint8Array([0x5b, 0x22, 0xff, 0x22, 0x5d])),
    /found bytes that are not UTF-8/,
  );
  const utf16 = new Uint8Array(new Uint16Array([..."\ufeff[]"].map((c) => c.charCodeAt(0))).buffer);
  await assert.rejects(read(utf16), /found bytes that are not UTF-8/);
});

Deno.test("fingerprint file: no file, a folder, a FIFO, too large, unreadable", async () => {
  await inFolder(async (dir) => {
    const rejects = (path: string, message: RegExp, maxBytes?: number) =>
      assert.rejects(readFingerprintFile(path, { maxBytes }), (error: Error) => {
        assert.ok(error instanceof FingerprintFileError, String(error));
        assert.match(error.message, message);
        return true;
      });
    await rejects(
      join(dir, "none.json"),
      /none\.json: cannot read the fingerprint file: there is no such file/,
    );
    await rejects(dir, /expected a regular file, found a directory/);
    const path = join(dir, "large.json");
    await Deno.writeTextFile(path, '["a key of some length"]');
    await rejects(path, /at most 10 bytes, found 24/, 10);
    if (Deno.build.os === "windows") return;
    const fifo = join(dir, "fifo");
    const { success } = await new Deno.Command("mkfifo", { args: [fifo] }).output();
    assert.ok(success);
    await rejects(fifo, /expected a regular file, found a FIFO/);
    await rejects("/dev/null", /expected a regular file, found a device or socket/);
  });
});

Deno.test("fingerprint file: written for the owner only, whole, and read back", async () => {
  await inFolder(async (dir) => {
    const path = join(dir, "fingerprints.json");
    const entries = [
      { key: 'a\u2028 "key"', response: " r", key_ids: [1, 2], response_ids: [3], note: "kept" },
      { key: "b", response: ["x", "y"], key_ids: [4], response_ids: [[5], [6]] },
    ];
    await Deno.writeTextFile(path, "old");
    await writeFingerprintFile(path, entries);
    if (Deno.build.os !== "windows") assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    assert.deepEqual(JSON.parse(await Deno.readTextFile(path)), entries);
    const file = await readFingerprintFile(path);
    assert.deepEqual(file.entries.map((e) => e.responseIds), [[[3]], [[5], [6]]]);
    assert.deepEqual(file.entries[0].extra, { note: "kept" });
    assert.deepEqual([...Deno.readDirSync(dir)].map((e) => e.name), ["fingerprints.json"]);
    await assert.rejects(writeFingerprintFile(join(dir, "none", "f.json"), entries), /none\/f\.json/);
  });
});

Deno.test("fingerprint file: query stands for key, as mlprints has it", async () => {
  const { entries } = await read(
    '[{"id":0,"query":"k","response":" r"},{"key":"a","query":"a","response":"b"}]',
  );
  assert.deepEqual(entries, [
    { key: "k", responses: [" r"], extra: { id: 0 } },
    { key: "a", responses: ["b"], extra: {} },
  ]);
  const wrong: [string, RegExp][] = [
    ['[{"key":"a","query":"b"}]', /entry 0 .*fields "key" and "query" mean the same but differ$/],
    ['[{"query":5}]', /field "query": expected a string, found a number$/],
    ['[{"query":" "}]', /field "query" holds only white space$/],
    ['[{"response":"b"}]', /field "key" is missing$/],
  ];
  for (const [content, expected] of wrong) await assert.rejects(read(content), expected);
});

Deno.test("fingerprint file: NaN and Infinity as Python writes them, where no number is needed", async () => {
  const { entries } = await read(
    '[{"key":"NaN, Infinity","response":" r","response_prob":NaN,"a":[-Infinity, Infinity,1]},{"key":"b","response_prob":[NaN,0.5]}]',
  );
  assert.deepEqual(entries[0].key, "NaN, Infinity");
  assert.deepEqual(entries[0].extra, { response_prob: NaN, a: [-Infinity, Infinity, 1] });
  // Written as JSON it is null, and read again.
  const again = await read(JSON.stringify([{ key: "k", response: "r", ...entries[0].extra }]));
  assert.equal(again.entries[0].extra.response_prob, null);
  await assert.rejects(
    read('[{"key":"k","response":"r","key_ids":[1,NaN]}]'),
    /field "key_ids\[1\]": expected a token id \(an integer from 0\), found another number$/,
  );
  await assert.rejects(read('[{"key":NaN}]'), /field "key": expected a string, found a number$/);
  await assert.rejects(read(`[{"key":"${SECRET}","response":NaNx}]`), (error) => {
    assert.ok(error instanceof FingerprintFileError);
    assert.match(error.message, /not valid JSON: the first unexpected character is at line 1, column 31 /);
    assert.ok(!error.message.includes(SECRET));
    return true;
  });
});

Deno.test("fingerprint file: beside its secret it must not be readable by others", {
  ignore: Deno.build.os === "windows",
}, async () => {
  await inFolder(async (dir) => {
    const path = join(dir, "f.json");
    await writeFingerprintFile(path, [{ key: "k", response: "r", key_ids: [1], response_ids: [2] }]);
    Deno.chmodSync(path, 0o644);
    assert.equal((await readFingerprintFile(path)).entries.length, 1);
    Deno.writeTextFileSync(`${path}.secret`, "{}");
    for (const mode of [0o644, 0o660, 0o606]) {
      Deno.chmodSync(path, mode);
      await assert.rejects(
        readFingerprintFile(path),
        new RegExp(`found mode 0${mode.toString(8)}: .*chmod 600 \\S+f\\.json$`),
      );
    }
    Deno.chmodSync(path, 0o600);
    assert.equal((await readFingerprintFile(path)).entries.length, 1);
  });
});
