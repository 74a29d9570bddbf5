import assert from "node:assert/strict";
import { join } from "node:path";
import {
  CommitmentError,
  type EntryFields,
  type Opening,
  SetCommitment,
  verifyEntry,
} from "../../../pipeline/fingerprints/commitment.ts";
import { FingerprintFileError } from "../../../pipeline/fingerprints/file.ts";
import { drawResponses } from "../../../pipeline/fingerprints/generate/draw.ts";
import { commitmentOf } from "../../../pipeline/fingerprints/generate/entry.ts";
import { generateFingerprints } from "../../../pipeline/fingerprints/generate/generate.ts";
import { Secret } from "../../../pipeline/fingerprints/generate/secret.ts";
import { openEntry } from "../../../pipeline/fingerprints/open_entry.ts";
import { sharedGpu } from "../../gpu_device.ts";

const secret = Secret.ofSeed(11);
const HASHES = { model_hash: "1a".repeat(32), tokenizer_hash: "2b".repeat(32) };

/** An entry whose response is drawn from candidates 100, 101 and 102 of its key. */
function entry(i: number, extra: Record<string, unknown> = {}): EntryFields {
  const keyIds = [i, 7, 9];
  const [token] = drawResponses(secret.drawKey, keyIds, [100, 101, 102], 1);
  return {
    keyIds,
    responseIds: [[token]],
    extra: {
      ...HASHES,
      asked_ids: [0, ...keyIds],
      strategy: "perinucleus",
      nucleus_t: 0.8,
      nucleus_k: 3,
      nucleus_size: 5 + i,
      k_effective: 3,
      draw_index: token - 100,
      draw: "hmac-sha256",
      draw_commitment: secret.commitment,
      ...extra,
    },
  };
}

const saltOf = (content: Uint8Array) => secret.salt(content);
const entries = Array.from({ length: 11 }, (_, i) => entry(i));
const set = new SetCommitment(entries, saltOf);
const json = (opening: Opening) => JSON.parse(JSON.stringify(opening));

/** Every value in a JSON value changed, one at a time. */
function* mutations(value: unknown): Generator<unknown> {
  if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) {
      for (const other of mutations(item)) yield value.with(i, other);
      yield value.toSpliced(i, 1);
      yield value.toSpliced(i, 0, item);
    }
  } else if (typeof value === "object" && value !== null) {
    for (const [name, item] of Object.entries(value)) {
      for (const other of mutations(item)) yield { ...value, [name]: other };
      yield Object.fromEntries(Object.entries(value).filter(([other]) => other !== name));
      yield { ...value, [`${name}_`]: item };
    }
  } else if (typeof value === "number") {
    yield* [value + 1, value - 1, -value - 1, `${value}`, null, value + 0.5];
  } else if (typeof value === "string") {
    yield* [
      value + "0",
      value.slice(1),
      value.replace(/^./, (c) => c === "0" ? "1" : "0"),
      value.toUpperCase() + " ",
      0,
    ];
  } else yield 1;
}

Deno.test("commitment: every entry opens to the root, and nothing changed does", () => {
  let count = 0;
  for (let index = 0; index < entries.length; index++) {
    const opening = json(set.open(index));
    const found = verifyEntry(set.root, opening, { drawKey: secret.drawKey });
    assert.deepEqual([found.index, found.count, found.key_ids], [index, 11, [index, 7, 9]]);
    for (const wrong of mutations(opening)) {
      assert.throws(() => verifyEntry(set.root, wrong), CommitmentError, JSON.stringify(wrong));
      count++;
    }
  }
  assert.ok(count > 2000, `${count}`);
  const shuffled = json(set.open(3));
  shuffled.entry = Object.fromEntries(Object.entries(shuffled.entry).reverse());
  verifyEntry(set.root, shuffled);
  for (const wrong of [null, [], "x", {}, { entry: {}, salt: "", path: [] }]) {
    assert.throws(() => verifyEntry(set.root, wrong), /^CommitmentError: opening: /);
  }
  assert.throws(
    () => verifyEntry(set.root.slice(1), json(set.open(0))),
    /^CommitmentError: root: expected 64/,
  );
  assert.throws(() => set.open(11), /RangeError: expected the number of an entry from 0 to 10, found 11/);
});

Deno.test("commitment: claims made after the fact don't open: other keys, nuclei, responses, models", () => {
  // As in a forgery: another nucleus moves the candidates until the committed draw gives an innocent model's answer.
  for (let i = 0; i < 40; i++) {
    const forged = [
      entry(i, { nucleus_size: 60 + i }),
      entry(i, { nucleus_t: 0.014 }),
      entry(i, { nucleus_k: 4 }),
      entry(i, { model_hash: "3c".repeat(32) }),
      entry(i, { asked_ids: [1, i, 7, 9] }),
      { ...entry(i), responseIds: [[5000 + i]] },
      { ...entry(i), keyIds: [900 + i] },
    ];
    for (const one of forged) {
      const at = i % entries.length;
      const own = new SetCommitment(entries.with(at, one), saltOf).open(at);
      for (const path of [own.path, set.open(at).path]) {
        const opening = { ...own, path };
        if (i < entries.length) {
          assert.throws(() => verifyEntry(set.root, opening), /was not in the set of root/);
        }
      }
    }
  }
  // A set that was made for the occasion has another root, whatever its size.
  for (const size of [1, 5, 10]) {
    const smaller = new SetCommitment(entries.slice(0, size), saltOf);
    assert.throws(() => verifyEntry(set.root, smaller.open(0)), /was not in the set/);
  }
});

Deno.test("commitment: the draw key draws the place, and must be the entry's", () => {
  const { draw_index: drawn } = entries[2].extra;
  const other = ((drawn as number) + 1) % 3;
  const chosen = new SetCommitment([entry(2, { draw_index: other })], saltOf);
  const opening = chosen.open(0);
  verifyEntry(chosen.root, opening);
  assert.throws(
    () => verifyEntry(chosen.root, opening, { drawKey: secret.drawKey }),
    new RegExp(`draw_index: the draw key draws ${drawn}, found ${other}`),
  );
  assert.throws(
    () => verifyEntry(chosen.root, opening, { drawKey: Secret.ofSeed(12).drawKey }),
    /its SHA-256 is not the entry's draw_commitment/,
  );
  const words = new SetCommitment([{
    keyIds: [1],
    responseIds: [[2], [3, 4]],
    extra: { ...HASHES, asked_ids: [1], strategy: "english" },
  }], saltOf);
  assert.equal(verifyEntry(words.root, json(words.open(0))).nucleus_t, null);
  assert.throws(
    () => verifyEntry(words.root, words.open(0), { drawKey: secret.drawKey }),
    /this entry's response was not drawn/,
  );
});

Deno.test("commitment: what an entry must have is named", () => {
  const refused = (extra: Record<string, unknown>, expected: RegExp) =>
    assert.throws(() => new SetCommitment([entry(0), entry(1, extra)], saltOf), (error) => {
      assert.ok(error instanceof CommitmentError);
      assert.match(error.message, expected);
      return true;
    });
  refused({ asked_ids: undefined }, /^entry 1 \(counted from 0\): field asked_ids is missing/);
  refused({ model_hash: "x" }, /field model_hash is missing or not what generate writes/);
  refused(
    { nucleus_t: undefined },
    /nucleus_t: expected a value beside the other fields of a draw, found none/,
  );
  refused({ draw_index: 3 }, /draw_index: expected places below k_effective 3/);
  refused({ draw_index: [0, 1] }, /draw_index: expected one for each of 1 responses, found 2/);
  refused({ k_effective: 4 }, /k_effective: expected at most nucleus_k 3, found 4/);
});

Deno.test("commitment: salts hide: another one for every content and secret, none is another's", () => {
  const salts = [...entries.keys()].map((index) => set.open(index).salt);
  assert.equal(new Set(salts).size, entries.length);
  const other = new SetCommitment(entries, (content) => Secret.ofSeed(12).salt(content));
  assert.notEqual(other.root, set.root);
  assert.ok([...entries.keys()].every((index) => !salts.includes(other.open(index).salt)));
  // The same secret, another set: no salt of one is shown by opening the other.
  const changed = new SetCommitment(entries.map((_, i) => entry(i, { nucleus_t: 0.7 })), saltOf);
  assert.ok([...entries.keys()].every((index) => !salts.includes(changed.open(index).salt)));
  assert.equal(new SetCommitment(entries, saltOf).root, set.root);
});

Deno.test("commitment: of a generated file, entries are opened by its secret; a changed file is refused", async () => {
  const gpu = await sharedGpu();
  const dir = await Deno.makeTempDir({ prefix: "whorl_commitment_" });
  try {
    const path = join(dir, "f.json");
    const config = {
      num_fingerprints: 6,
      key_length: 8,
      num_responses_per_fingerprint: 2,
      output_file_path: path,
    };
    const { fingerprints, summary, commitmentPath } = await generateFingerprints(config, { gpu });
    const read = (file: string) => JSON.parse(Deno.readTextFileSync(file));
    const published = read(commitmentPath);
    const stored = read(`${path}.secret`);
    assert.equal(published.set_commitment, summary.commitment);
    assert.equal(stored.set_commitment, summary.commitment);
    assert.deepEqual([published.count, published.model_hash], [6, fingerprints[0].model_hash]);
    assert.equal(
      commitmentOf(fingerprints, new Secret(Uint8Array.fromHex(stored.secret), null)).root,
      summary.commitment,
    );
    const drawKey = Uint8Array.fromHex(stored.draw_key);
    for (const [index, one] of fingerprints.entries()) {
      assert.equal(one.set_commitment, summary.commitment);
      const { root, opening } = await openEntry(path, index);
      const found = verifyEntry(root, json(opening), { drawKey });
      assert.equal(root, published.set_commitment);
      assert.deepEqual([found.key_ids, found.response_ids], [one.key_ids, one.response_ids]);
      assert.deepEqual([found.nucleus_t, found.nucleus_k, found.draw_index], [0.8, 3, one.draw_index]);
    }
    // Nothing secret is in what is published.
    const text = Deno.readTextFileSync(commitmentPath);
    for (const hidden of [stored.secret, stored.draw_key, fingerprints[0].key]) {
      assert.ok(!text.includes(hidden));
    }

    const write = (entries: unknown) => Deno.writeTextFileSync(path, JSON.stringify(entries));
    const wrong: unknown[][] = [
      fingerprints.slice(1),
      fingerprints.toReversed(),
      [...fingerprints, fingerprints[0]],
      fingerprints.with(2, { ...fingerprints[2], nucleus_t: 0.5 }),
      fingerprints.with(2, { ...fingerprints[2], set_commitment: "00".repeat(32) }),
      fingerprints.with(2, { ...fingerprints[2], key_ids: [1, 2] }),
    ];
    for (const list of wrong) {
      write(list);
      await assert.rejects(openEntry(path, 0), /f\.json: its entries are not the set that was committed to/);
    }
    write(fingerprints.map(({ asked_ids: _, ...rest }) => rest));
    await assert.rejects(
      openEntry(path, 0),
      /f\.json: entry 0 \(counted from 0\): field asked_ids is missing/,
    );
    write(fingerprints);
    await assert.rejects(openEntry(path, 6), RangeError);
    await assert.rejects(
      openEntry(path, 0, join(dir, "none")),
      /none: cannot open an entry without the secret/,
    );
    if (Deno.build.os !== "windows") {
      Deno.chmodSync(path, 0o644);
      await assert.rejects(openEntry(path, 0), (error) => {
        assert.ok(error instanceof FingerprintFileError);
        assert.match(error.message, /only its owner can read, found mode 0644: .*chmod 600 \S+f\.json$/);
        return true;
      });
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
