import assert from "node:assert/strict";
import { join } from "node:path";
import { type FinetuneConfig, resolveSettings } from "../../../pipeline/settings/finetune.ts";
import { findResults } from "../../../pipeline/measure/found_results.ts";
import { identifyModel, runHash } from "../../../pipeline/run/identity.ts";
import {
  ResultsError,
  ResultsExistError,
  ResultsLockedError,
  ResultsWriter,
} from "../../../pipeline/run/results.ts";
import { TinyModel } from "../../cli/tiny_model.ts";
import { names, withFolder } from "../../io/support.ts";

Deno.test("a run's hash is of contents and settings, not of paths", async () => {
  using tiny = await TinyModel.create();
  const hash = async (config: FinetuneConfig = {}, dir = tiny.model, fingerprints = "f") => {
    return runHash(resolveSettings(config), await identifyModel(dir), fingerprints);
  };
  const base = await hash();
  assert.match(base, /^[0-9a-f]{16}$/);
  assert.equal(await hash(), base);
  const elsewhere = tiny.path("elsewhere");
  await tiny.writeModel(elsewhere);
  assert.equal(await hash({}, elsewhere), base);
  const neutral = {
    output_dir: "/o",
    max_memory: 3,
    force: true,
    model_path: "/m",
    fingerprints_file_path: "/f",
    recompute: "always" as const,
  };
  assert.equal(await hash(neutral), base);

  const others = [await hash({ seed: 43 }), await hash({ recipe: "oml" }), await hash({}, tiny.model, "g")];
  others.push(await hash({ learning_rate: 1e-3 }));
  const change = async (name: string, edit: (bytes: Uint8Array) => Uint8Array) => {
    const path = join(elsewhere, name);
    const before = await Deno.readFile(path);
    await Deno.writeFile(path, edit(before.slice()));
    others.push(await hash({}, elsewhere));
    await Deno.writeFile(path, before);
  };
  const spaced = (bytes: Uint8Array) => new Uint8Array([...bytes, 32]);
  for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json"]) await change(name, spaced);
  await change("model.safetensors", (bytes) => {
    bytes[bytes.length - 1] ^= 1;
    return bytes;
  });
  assert.equal(new Set([base, ...others]).size, others.length + 1);
  assert.equal(await hash({}, elsewhere), base);
});

Deno.test("results appear at once by commit, not at all by discard", async () => {
  await withFolder(async (dir) => {
    const out = join(dir, "a", "b");
    const writer = await ResultsWriter.open(out, "h", false);
    await Deno.mkdir(writer.modelFolder);
    await writer.writeConfig({ settings: { seed: 1 }, fingerprintsSha256: "s" });
    await writer.writeLog([{ epoch: 1 }, { epoch: 2 }]);
    await writer.writeSecrets([{ key: "k", response: "r", key_ids: [1], response_ids: [2] }]);
    assert.deepEqual(await names(out), [".h.lock", ".h.partial"]);
    await assert.rejects(ResultsWriter.open(out, "h", true), (error) => {
      assert.ok(error instanceof ResultsLockedError && error instanceof ResultsError);
      assert.equal(error.owner?.pid, Deno.pid);
      assert.match(error.message, /b\/h is being made by this very process \d+/);
      return true;
    });
    await writer.commit();
    writer[Symbol.dispose]();
    assert.deepEqual(await names(out), ["h"]);
    assert.equal(await Deno.readTextFile(join(out, "h", "log.jsonl")), '{"epoch":1}\n{"epoch":2}\n');
    if (Deno.build.os !== "windows") {
      assert.equal((await Deno.stat(join(out, "h", "secret"))).mode! & 0o777, 0o700);
      assert.equal((await Deno.stat(join(out, "h", "secret", "fingerprints.json"))).mode! & 0o777, 0o600);
    }

    const found = await findResults(join(out, "h", "final_model"));
    const fingerprintsPath = join(await Deno.realPath(out), "h", "secret", "fingerprints.json");
    assert.deepEqual(found, {
      fingerprintsPath,
      settings: { seed: 1 },
      fingerprintsSha256: "s",
    });
    assert.equal(await findResults(join(out, "h")), undefined);
    assert.equal(await findResults(join(dir, "gone", "final_model")), undefined);

    await assert.rejects(ResultsWriter.open(out, "h", false), (error) => {
      assert.ok(error instanceof ResultsExistError && error instanceof ResultsError);
      assert.equal(error.results, join(out, "h"));
      return true;
    });
    const repeated = await ResultsWriter.open(out, "h", true);
    await repeated.writeLog([]);
    await repeated.discard();
    repeated[Symbol.dispose]();
    assert.deepEqual(await names(join(out, "h")), ["config.json", "final_model", "log.jsonl", "secret"]);
    const again = await ResultsWriter.open(out, "h", true);
    await again.writeLog([]);
    await again.commit();
    again[Symbol.dispose]();
    assert.deepEqual(await names(out), ["h"]);
    assert.deepEqual(await names(join(out, "h")), ["log.jsonl"]);
  });
});

Deno.test("what a killed run left is cleared, and a folder that can't be made is an error", async () => {
  await withFolder(async (dir) => {
    await Deno.mkdir(join(dir, ".h.partial", "secret"), { recursive: true });
    using writer = await ResultsWriter.open(dir, "h", false);
    assert.deepEqual(await names(join(dir, ".h.partial")), []);
    await writer.discard();
    await Deno.writeTextFile(join(dir, "file"), "");
    await assert.rejects(
      ResultsWriter.open(join(dir, "file", "x"), "h", false),
      /ResultsError: the results folder .*x can't be written/,
    );
    await assert.rejects(
      ResultsWriter.open(join(dir, "file"), "h", false),
      /ResultsError: .*can't be written/,
    );
  });
});
