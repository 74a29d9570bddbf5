import assert from "node:assert/strict";
import { join } from "node:path";
import { FileLock } from "../../../engine/io/lock.ts";
import { fingerprintText } from "../../../pipeline/fingerprints/file.ts";
import {
  generateLockPath,
  removeLeftovers,
  removeTemporaries,
} from "../../../pipeline/fingerprints/generate/leftovers.ts";
import { settleLeftovers } from "../../../pipeline/run/leftovers.ts";
import { fill, names, withFolder } from "../../io/support.ts";

const HASH = "0123456789abcdef";

Deno.test("what a kill leaves is removed or put in place, never the only results", async () => {
  const cases: { made: Record<string, string[]>; there: string[]; removed: string[] }[] = [
    // Killed while it trained; while it removed older results; between the two renames; before the first; after a user
    // removed the new ones.
    { made: { ".partial": ["log.jsonl"] }, there: [], removed: [".partial"] },
    { made: { "": ["new"], ".partial.old": ["old"] }, there: ["new"], removed: [".partial.old"] },
    {
      made: { ".partial": ["config.json", "new"], ".partial.old": ["old"] },
      there: ["config.json", "new"],
      removed: [".partial.old"],
    },
    { made: { ".partial": ["config.json", "new"] }, there: ["config.json", "new"], removed: [] },
    { made: { ".partial.old": ["old"] }, there: ["old"], removed: [] },
    { made: { ".partial": ["log.jsonl"], ".partial.old": ["old"] }, there: ["old"], removed: [".partial"] },
    { made: { "": ["new"], ".partial": ["config.json"] }, there: ["new"], removed: [".partial"] },
    { made: { ".lock": [] }, there: [], removed: [] },
  ];
  for (const { made, there, removed } of cases) {
    await withFolder(async (dir) => {
      await fill(join(dir, `${HASH}.incomplete`), { kept: "" });
      await fill(join(dir, "other"), { kept: "" });
      for (const [end, files] of Object.entries(made)) {
        if (end === ".lock") await Deno.writeTextFile(join(dir, `.${HASH}.lock`), "");
        else {await fill(
            join(dir, end ? `.${HASH}${end}` : HASH),
            Object.fromEntries(files.map((name) => [name, ""])),
          );}
      }
      const found = await settleLeftovers(dir);
      const expected = [...there.length ? [HASH] : [], `${HASH}.incomplete`, "other"];
      assert.deepEqual(await names(dir), expected, JSON.stringify(made));
      if (there.length) assert.deepEqual(await names(join(dir, HASH)), there);
      assert.deepEqual(found?.removed ?? [], removed.map((end) => join(dir, `.${HASH}${end}`)));
      assert.deepEqual(found?.stuck ?? [], []);
      assert.equal(await settleLeftovers(dir), undefined);
    });
  }
});

Deno.test("what a living run has is left alone", async () => {
  await withFolder(async (dir) => {
    await fill(join(dir, `.${HASH}.partial`), { "log.jsonl": "" });
    using _ = await FileLock.take(join(dir, `.${HASH}.lock`));
    assert.equal(await settleLeftovers(dir), undefined);
    assert.deepEqual(await names(dir), [`.${HASH}.lock`, `.${HASH}.partial`]);
  });
  assert.equal(await settleLeftovers("/nonexistent/results"), undefined);
});

Deno.test("copies of fingerprints that a killed run of generation left are removed, and nothing else", async () => {
  await withFolder(async (dir) => {
    const entries = [{ key: "k", response: "r", key_ids: [1], response_ids: [2] }];
    const text = fingerprintText(entries);
    const header = JSON.stringify({ journal: "whorl generate 1", replaces: false, run: {} });
    const batch = JSON.stringify({ outcomes: [""], entries });
    const kept = {
      "done.json": text,
      "own.json": text,
      "own.json.partial": `${header}\n${batch}\n`,
      "stopped.json.partial": `${header}\n${batch}\n`,
      "older.json": fingerprintText([...entries, ...entries]),
      "older.json.partial": `${header}\n${batch}\n`,
      "movie.partial": "half",
      ".notes.12-3.tmp": "somebody's",
      ".busy.json.99-0.tmp": text,
    };
    const gone = {
      ".done.json.123-0.tmp": text.slice(0, 30),
      ".done.json.secret.123-1.tmp": '{\n  "seed": null,\n  "secret": "ab',
      ".x.json.7-0.tmp": "",
      "done.json.partial": `${header}\n${batch}\n`,
    };
    await fill(dir, { ...kept, ...gone });
    using _ = await FileLock.take(generateLockPath(join(dir, "busy.json")));
    const removed = await removeLeftovers(dir, join(dir, "own.json"));
    assert.deepEqual(removed, Object.keys(gone).map((name) => join(dir, name)).sort());
    assert.deepEqual(await names(dir), [...Object.keys(kept), ".busy.json.lock"].sort());
    await fill(dir, {
      ".own.json.1-0.tmp": "torn",
      ".own.json.secret.1-0.tmp": "",
      ".own.json.x.1-0.tmp": "",
    });
    await removeTemporaries(join(dir, "own.json"));
    assert.deepEqual(
      await names(dir),
      [...Object.keys(kept), ".busy.json.lock", ".own.json.x.1-0.tmp"].sort(),
    );
  });
});
