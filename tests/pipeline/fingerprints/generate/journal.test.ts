import assert from "node:assert/strict";
import { join } from "node:path";
import { GenerateFileError } from "../../../../pipeline/fingerprints/generate/errors.ts";
import { type Batch, Journal } from "../../../../pipeline/fingerprints/generate/journal.ts";

const dir = Deno.makeTempDirSync({ prefix: "whorl_journal_" });
Deno.test.afterAll(() => Deno.removeSync(dir, { recursive: true }));

const RUN = { temperature: 0.5, model_hash: "ab", seed: null };
const entry = (key: string) => ({ key, response: "r", key_ids: [1], response_ids: [2] });
const BATCHES: Batch[] = [
  { outcomes: ["", "key: too short", ""], entries: [entry("é日本"), entry("b")] },
  { outcomes: ["key: too short"], entries: [] },
  { outcomes: [""], entries: [entry("c")] },
];

let count = 0;
/** A journal with the batches, and where its fingerprints go. */
async function written(batches: Batch[] = BATCHES): Promise<string> {
  const path = join(dir, `${count++}.json`);
  using journal = await Journal.open(path);
  assert.deepEqual(await journal.begin(RUN, false), []);
  for (const batch of batches) await journal.append(batch);
  return path;
}

/** What a run finds; it adds the last batch again if that is lost. */
async function found(path: string, run: Record<string, unknown> = RUN, force = false): Promise<Batch[]> {
  using journal = await Journal.open(path);
  return await journal.begin(run, force);
}

Deno.test("journal: goes on where it was, for its owner only", async () => {
  const path = await written();
  if (Deno.build.os !== "windows") assert.equal(Deno.statSync(`${path}.partial`).mode! & 0o777, 0o600);
  assert.deepEqual(await found(path), BATCHES);
  assert.deepEqual(await found(path), BATCHES);
});

Deno.test("journal: cut anywhere, it has every batch that was whole", async () => {
  const path = await written();
  const file = `${path}.partial`;
  const bytes = Deno.readFileSync(file);
  const ends = [...bytes.keys()].filter((at) => bytes[at] === 10).map((at) => at + 1);
  assert.equal(ends.length, 1 + BATCHES.length);
  for (let length = 0; length < bytes.length; length++) {
    Deno.writeFileSync(file, bytes.subarray(0, length));
    const whole = Math.max(0, ends.filter((end) => end <= length).length - 1);
    using journal = await Journal.open(path);
    assert.deepEqual(await journal.begin(RUN, false), BATCHES.slice(0, whole), `${length} bytes`);
    // What was lost is written again, and the file is as it was.
    for (const batch of BATCHES.slice(whole)) await journal.append(batch);
    assert.deepEqual(Deno.readFileSync(file), bytes);
  }
});

Deno.test("journal: a last line of garbage is dropped, one in the middle is an error", async () => {
  const path = await written();
  const text = Deno.readTextFileSync(`${path}.partial`);
  Deno.writeTextFileSync(`${path}.partial`, text + "\0\0\0\n");
  assert.deepEqual(await found(path), BATCHES);
  assert.equal(Deno.readTextFileSync(`${path}.partial`), text);
  const lines = text.trimEnd().split("\n");
  const broken: [string[], number][] = [
    [[lines[0], "{", lines[2]], 2],
    [["{}", ...lines.slice(1)], 1],
    [[lines[0], JSON.stringify({ outcomes: [""], entries: [] }), lines[2]], 2],
    [[...lines.slice(0, -1), '{"outcomes":[]}'], 4],
  ];
  for (const [wrong, line] of broken) {
    Deno.writeTextFileSync(`${path}.partial`, wrong.join("\n") + "\n");
    await assert.rejects(
      found(path),
      new RegExp(`partial: this journal of a stopped run is damaged at line ${line}: .*--force begins anew$`),
    );
  }
  assert.deepEqual(await found(path, RUN, true), []);
});

Deno.test("journal: another run's is refused, naming what differs, unless it is forced", async () => {
  const path = await written();
  await assert.rejects(found(path, { ...RUN, temperature: 0.7, model_hash: "cd", more: 1 }), (error) => {
    assert.ok(error instanceof GenerateFileError);
    assert.match(
      error.message,
      /\(temperature was 0\.5, is 0\.7; model_hash was "ab", is "cd"; more was nothing, is 1\): give it those, or --force/,
    );
    return true;
  });
  assert.deepEqual(await found(path), BATCHES);
  {
    using journal = await Journal.open(path);
    assert.equal(await journal.replaces(), false);
    assert.deepEqual(await journal.begin({ ...RUN, temperature: 0.7 }, true), []);
    assert.equal(await journal.replaces(), true);
    await journal.append(BATCHES[0]);
  }
  assert.deepEqual(await found(path, { ...RUN, temperature: 0.7 }), BATCHES.slice(0, 1));
});

Deno.test("journal: one process at a time; what nothing was begun in goes away", async () => {
  const path = join(dir, "alone.json");
  {
    using journal = await Journal.open(path);
    await assert.rejects(
      Journal.open(path),
      /alone\.json\.partial: another process is making these fingerprints: this very process \d+/,
    );
    assert.equal(await journal.replaces(), false);
  }
  assert.throws(() => Deno.statSync(`${path}.partial`), Deno.errors.NotFound);
  const whole = await written();
  {
    using journal = await Journal.open(whole);
    await journal.remove();
  }
  assert.throws(() => Deno.statSync(`${whole}.partial`), Deno.errors.NotFound);
});

/** What a run makes of a damaged journal: the batches, or the number of the line that it names. */
async function outcome(path: string, content: Uint8Array): Promise<Batch[] | number> {
  const file = `${path}.partial`;
  Deno.writeFileSync(file, content);
  try {
    return await found(path);
  } catch (error) {
    assert.ok(error instanceof GenerateFileError, `${error}`);
    assert.deepEqual(Deno.readFileSync(file), content);
    return Number(/damaged at line (\d+): /.exec(error.message)?.[1] ?? assert.fail(error.message));
  }
}

Deno.test("journal: a line that is missing, repeated or swapped is named", async () => {
  const path = await written();
  const lines = Deno.readTextFileSync(`${path}.partial`).trimEnd().split("\n");
  const bytes = (list: string[]) => new TextEncoder().encode(list.map((line) => line + "\n").join(""));
  for (let i = 0; i < lines.length; i++) {
    const missing = await outcome(path, bytes(lines.toSpliced(i, 1)));
    // Without its last line a journal is one that was stopped earlier.
    if (i === lines.length - 1) assert.deepEqual(missing, BATCHES.slice(0, -1));
    else assert.equal(missing, i + 1);
    assert.equal(await outcome(path, bytes(lines.toSpliced(i, 0, lines[i]))), i + 2);
    for (let j = 0; j < i; j++) {
      const swapped = lines.with(i, lines[j]).with(j, lines[i]);
      assert.equal(await outcome(path, bytes(swapped)), j + 1);
      // With the number of the place that it went to.
      const moved = lines[i].replace(`"line":${i + 1}`, `"line":${j + 1}`);
      assert.equal(await outcome(path, bytes(lines.with(j, moved))), j + 1);
    }
  }
  const other = await written([{ outcomes: [""], entries: [entry("z")] }]);
  const foreign = Deno.readTextFileSync(`${other}.partial`).split("\n")[1];
  assert.equal(await outcome(path, bytes([lines[0], foreign, ...lines.slice(2)])), 3);
});

Deno.test("journal: any byte that is changed is found, but for a torn end", async () => {
  const path = await written();
  const whole = Deno.readFileSync(`${path}.partial`);
  const lineOf = (at: number) => 1 + whole.subarray(0, at).filter((byte) => byte === 10).length;
  for (let at = 0; at < whole.length; at++) {
    const content = whole.slice();
    content[at] ^= at % 7 === 0 ? 0x20 : 1;
    const result = await outcome(path, content);
    if (at === whole.length - 1) assert.deepEqual(result, BATCHES.slice(0, -1));
    else assert.equal(result, lineOf(at), `byte ${at}`);
  }
});

Deno.test("journal: wrong types are refused even where the hash is right", async () => {
  const path = join(dir, "types.json");
  const wrong: unknown[] = [
    { outcomes: [1], entries: [] },
    { outcomes: [""], entries: [{ ...entry("a"), key_ids: "x" }] },
    { outcomes: [""], entries: [{ ...entry("a"), response_ids: undefined }] },
    { outcomes: [""], entries: [null] },
    { outcomes: [""], entries: [] },
    { outcomes: null, entries: [] },
  ];
  for (const batch of wrong) {
    {
      using journal = await Journal.open(path);
      await journal.begin(RUN, true);
      await journal.append(batch as Batch);
    }
    await assert.rejects(found(path), /damaged at line 2: expected what a batch of attempts gave/);
  }
  {
    using journal = await Journal.open(path);
    await journal.begin(null as unknown as Record<string, unknown>, true);
  }
  await assert.rejects(found(path), /damaged at line 1: expected the settings of a run/);
  Deno.writeTextFileSync(
    `${path}.partial`,
    `${JSON.stringify({ journal: "whorl generate 1", replaces: false, run: RUN })}\n`,
  );
  await assert.rejects(found(path), /of an older Whorl, .*--force begins anew$/);
  assert.deepEqual(await found(path, RUN, true), []);
});

Deno.test("journal: no link is followed, and nobody else may read it", {
  ignore: Deno.build.os === "windows",
}, async () => {
  const path = join(dir, "linked.json");
  const target = join(dir, "target");
  for (const isThere of [false, true]) {
    if (isThere) Deno.writeTextFileSync(target, "mine", { mode: 0o600 });
    Deno.symlinkSync(target, `${path}.partial`);
    await assert.rejects(
      found(path, RUN, true),
      /linked\.json\.partial: expected a file of its own, found a link/,
    );
    Deno.removeSync(`${path}.partial`);
  }
  assert.equal(Deno.readTextFileSync(target), "mine");
  const open = await written();
  Deno.chmodSync(`${open}.partial`, 0o640);
  await assert.rejects(found(open), /partial: expected a secret .*found mode 0640: .*chmod 600 \S+partial$/);
  Deno.chmodSync(`${open}.partial`, 0o600);
  assert.deepEqual(await found(open), BATCHES);
});
