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
  const broken = [
    [lines[0], "{", lines[2]],
    ["{}", ...lines.slice(1)],
    [lines[0], JSON.stringify({ outcomes: [""], entries: [] }), lines[2]],
    [lines[0], JSON.stringify({ outcomes: [] }), lines[2]],
  ];
  for (const wrong of broken) {
    Deno.writeTextFileSync(`${path}.partial`, wrong.join("\n") + "\n");
    await assert.rejects(
      found(path),
      /partial: this journal of a stopped run is broken: --force begins anew$/,
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
