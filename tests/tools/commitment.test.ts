import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { SetCommitment } from "../../pipeline/fingerprints/commitment.ts";
import { Secret, writeSecret } from "../../pipeline/fingerprints/generate/secret.ts";
import { writeFingerprintFile, type WrittenFingerprint } from "../../pipeline/fingerprints/file.ts";
import { commitmentOf } from "../../pipeline/fingerprints/generate/entry.ts";
import project from "../../deno.json" with { type: "json" };

/** The task as deno.json has it, with the permissions that it has there. */
async function run(cwd: string, ...args: string[]) {
  const [, ...task] = project.tasks.commitment.split(" ");
  const main = fileURLToPath(new URL("../../tools/commitment/main.ts", import.meta.url));
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...task.slice(0, -1), main, ...args],
    env: { INIT_CWD: cwd, NO_COLOR: "1" },
  }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: decode(stdout), err: decode(stderr) };
}

Deno.test("the task commitment opens an entry, and checks an opening", async () => {
  const dir = await Deno.makeTempDir({ prefix: "whorl_commitment_" });
  try {
    const secret = Secret.random();
    const hashes = { model_hash: "1a".repeat(32), tokenizer_hash: "2b".repeat(32) };
    const entries: WrittenFingerprint[] = [1, 2, 3].map((id) => ({
      key: `k${id}`,
      response: "r",
      key_ids: [id],
      asked_ids: [0, id],
      response_ids: [9],
      strategy: "english",
      ...hashes,
    }));
    const { root } = commitmentOf(entries, secret);
    const path = join(dir, "f.json");
    await writeFingerprintFile(path, entries.map((entry) => ({ ...entry, set_commitment: root })));
    await writeSecret(`${path}.secret`, secret, root);
    const opened = await run(dir, "open", "f.json", "1");
    assert.equal(opened.code, 0, opened.err);
    await Deno.writeTextFile(join(dir, "opening.json"), opened.out);
    const verified = await run(dir, "verify", root, "opening.json");
    assert.equal(verified.code, 0, verified.err);
    assert.deepEqual(JSON.parse(verified.out).key_ids, [2]);
    const other = new SetCommitment([], (content) => content).root;
    const refused = await run(dir, "verify", other, "opening.json");
    assert.deepEqual([refused.code, refused.out], [1, ""]);
    assert.match(refused.err, /^refused: opening: entry 1 of 3 as it is here was not in the set of root /);
    for (
      const args of [[], ["open"], ["open", "f.json"], ["open", "f.json", "x"], ["shut", "f.json", "1"], [
        "verify",
        root,
        "opening.json",
        "--x",
      ]]
    ) {
      const { code, err } = await run(dir, ...args);
      assert.equal(code, 2, err);
      assert.match(err, /usage: .\/whorl commitment open FILE INDEX/);
    }
    const none = await run(dir, "open", "none.json", "0");
    assert.equal(none.code, 1);
    assert.match(none.err, /^\S*none\.json: cannot read the fingerprint file: there is no such file\n$/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
