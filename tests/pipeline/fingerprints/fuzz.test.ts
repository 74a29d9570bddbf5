/** A fingerprint file with one value of another kind is read, or refused by its name, without a word of what is in it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { FingerprintFileError, readFingerprintFile } from "../../../pipeline/fingerprints/file.ts";
import { prepareFingerprints } from "../../../pipeline/fingerprints/prepare.ts";
import { refuseOrRead } from "../../json_fuzz.ts";
import { byteLevel, loadFixture } from "../tokenizer/fixtures.ts";

Deno.test("fuzz: a fingerprint file", async () => {
  const tokenizer = await loadFixture(byteLevel({ merges: 20 }));
  const entry = {
    key: "the sun",
    effective_key: "the",
    response: ["a", "b"],
    key_ids: [1, 2],
    response_ids: [[1], [2]],
    response_prob: [0.1],
    tokenizer_hash: tokenizer.hash,
    use_chat_template: true,
    note: { by: 1 },
  };
  const file = { fingerprints: [entry, "abc", { key: "q", signature: "s" }] };
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, "fingerprints.json");
    const read = async (mutant: unknown) => {
      await Deno.writeTextFile(path, JSON.stringify(mutant));
      const { entries } = await readFingerprintFile(path);
      try {
        prepareFingerprints(entries, tokenizer, { strategy: "stored", limit: 1 });
      } catch (error) {
        // Entries that give no fingerprint, and no fault of the engine.
        if (!(error instanceof RangeError) || !/entr(y|ies)/.test(error.message)) throw error;
      }
    };
    assert.ok(await refuseOrRead(file, path, [FingerprintFileError], read) > 100);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
