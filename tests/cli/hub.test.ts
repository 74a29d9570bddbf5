/** The commands on a model of the Hub: a loopback server speaks its API. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { HubServer } from "../pipeline/hub/server.ts";
import { flags, names, whorl } from "./command.ts";
import { TinyModel } from "./tiny_model.ts";

const ID = "some-org/some-model";

Deno.test("finetune, check and --dry_run take org/name, and go on without a network", async () => {
  using tiny = await TinyModel.create();
  const files: Record<string, Uint8Array<ArrayBuffer>> = {};
  for (const name of names(tiny.model)) files[name] = await Deno.readFile(join(tiny.model, name));
  files["README.md"] = new TextEncoder().encode("# not needed");
  const cache = tiny.path("cache");
  const environment = (endpoint: string) => ({
    HF_ENDPOINT: endpoint,
    HF_HUB_CACHE: cache,
    HF_HOME: tiny.path("home"),
  });
  const asked = { fingerprints_file_path: tiny.fingerprints, output_dir: tiny.path("results") };
  const short = { num_train_epochs: 2, anchor_samples: 4, anchor_batch: 4, anchor_length: 8 };
  let endpoint: string;
  {
    await using server = new HubServer(ID, files);
    endpoint = server.endpoint;
    const env = environment(endpoint);
    const plan = await whorl(["finetune", "--model_path", ID, "--dry_run"], { env });
    assert.equal(plan.code, 0, plan.err);
    assert.match(plan.out, /^model: some-org\/some-model \(llama, [\d,]+ parameters\)$/m);
    assert.ok(!names(cache).length || !findFile(cache, "model.safetensors"), "a plan needs no weights");

    const run = await whorl(["finetune", ...flags({ model_path: `${ID}@main`, ...asked, ...short })], {
      env,
    });
    assert.equal(run.code, 0, run.err);
    assert.match(run.out, /^model: some-org\/some-model@main at [0-9a-f]{40}$/m);
    assert.match(run.out, /^downloading: /m);
    const missing = await whorl([
      "check",
      ...flags({ model_path: "some-org/other", fingerprints_file_path: tiny.fingerprints }),
    ], { env });
    assert.equal(missing.code, 1);
    assert.match(missing.err, /^error: .*some-org\/other/);
  }
  const env = environment(endpoint);
  const check = await whorl([
    "check",
    ...flags({ model_path: ID, fingerprints_file_path: tiny.fingerprints }),
  ], { env });
  assert.equal(check.code, 0, check.err);
  assert.match(check.out, /^success rate 0\.0 %/m);
  const nothing = await whorl([
    "check",
    ...flags({ model_path: "some-org/other", fingerprints_file_path: tiny.fingerprints }),
  ], { env });
  assert.equal(nothing.code, 1);
  assert.match(nothing.err, /^error: .*some-org\/other/);
});

Deno.test("a family that OML 1.0 doesn't have, and a size that a family doesn't have, are named", async () => {
  const cases: [string[], RegExp][] = [
    [["--model_family", "gpt2"], /'gpt2' is invalid. Allowed choices are Eleuther, llama, mistral/],
    [
      ["--model_family", "llama", "--model_size", "2B"],
      /^error: model_size: expected one of 1B, .*found "2B"/,
    ],
    [["--model_size", "7B"], /^error: model_size needs model_family/],
  ];
  for (const [args, expected] of cases) {
    const { code, err } = await whorl(["finetune", ...args]);
    assert.equal(code, 2);
    assert.match(err, expected);
  }
});

function findFile(folder: string, name: string): boolean {
  return Array.from(Deno.readDirSync(folder)).some((entry) =>
    entry.name === name || entry.isDirectory && findFile(join(folder, entry.name), name)
  );
}
