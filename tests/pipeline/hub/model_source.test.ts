import assert from "node:assert/strict";
import { join } from "node:path";
import { isModelId } from "../../../pipeline/hub/hub.ts";
import { MODEL_FAMILIES } from "../../../pipeline/settings/model_families.ts";
import { SettingsError } from "../../../pipeline/settings/parse.ts";
import {
  familyModel,
  hubEnvironment,
  parseHubModel,
  type ReadVariable,
  resolveModel,
} from "../../../pipeline/hub/model_source.ts";
import { COMMIT, HubServer, TOKEN } from "./server.ts";
import { fill, withFolder } from "../../io/support.ts";

/** An environment with these variables only. The process's own is shared with tests that run beside these. */
const only = (values: Record<string, string>): ReadVariable => (name) => values[name];

const FILES = {
  "config.json": "{}",
  "tokenizer.json": "{}",
  "tokenizer_config.json": "{}",
  "model.safetensors": new Uint8Array(1000),
};

Deno.test("model source: nothing named", async () => {
  for (const settings of [{}, { model_path: null, model_family: null, model_size: null }]) {
    assert.equal(await resolveModel(settings), null);
  }
  await assert.rejects(resolveModel({ model_size: "7B" }), {
    name: "SettingsError",
    message: /needs model_family/,
  });
});

Deno.test("model source: a folder wins over the Hub, in the caller's folder", async () => {
  await withFolder(async (baseDir) => {
    await fill(join(baseDir, "org", "name"), {});
    await fill(join(baseDir, "odd @ name"), { file: "" });
    const hooks = { baseDir, variable: only({ HF_HUB_OFFLINE: "1", HF_HOME: baseDir }) };
    for (const name of ["org/name", "./org/name", join(baseDir, "org", "name"), "odd @ name"]) {
      const source = await resolveModel({ model_path: name, model_family: "llama" }, hooks);
      const dir = join(baseDir, ...name.includes("odd") ? ["odd @ name"] : ["org", "name"]);
      assert.deepEqual(source, { dir, name });
    }
    for (const name of ["odd @ name/file", join(baseDir, "odd @ name", "file")]) {
      await assert.rejects(resolveModel({ model_path: name }, hooks), /is a file: expected the folder/);
    }
  });
});

Deno.test("model source: a run's results stand for the model in them", async () => {
  await withFolder(async (baseDir) => {
    await fill(join(baseDir, "results", "ab12", "final_model"), { "config.json": "{}" });
    await fill(join(baseDir, "results", "ab12", "secret"), {});
    await fill(join(baseDir, "results", "ab12"), { "config.json": "{}" });
    assert.deepEqual(await resolveModel({ model_path: "results/ab12" }, { baseDir }), {
      dir: join(baseDir, "results", "ab12", "final_model"),
      name: "results/ab12/final_model",
    });
    // A model that has a folder of that name is no run's.
    await fill(join(baseDir, "model", "final_model"), { "config.json": "{}" });
    const own = await resolveModel({ model_path: "model" }, { baseDir });
    assert.equal(own?.dir, join(baseDir, "model"));
  });
});

Deno.test("model source: neither a folder nor a model of the Hub", async () => {
  await withFolder(async (baseDir) => {
    for (
      const name of [
        "gpt2",
        "./org/name",
        "/no/such",
        "a/b/c",
        "../a/b",
        "a\\b",
        "org/name@",
        "org/name@../x",
        "",
      ]
    ) {
      await assert.rejects(resolveModel({ model_path: name }, { baseDir }), (error) => {
        assert.ok(error instanceof SettingsError);
        assert.match(error.message, /no such folder: .*org\/name@revision/);
        assert.ok(error.message.includes(baseDir) || name.startsWith("/") || name.startsWith(".."));
        return true;
      });
    }
  });
});

Deno.test("model source: org/name, with a revision, by the environment's settings", async () => {
  await withFolder(async (home) => {
    await using server = new HubServer("org/name", FILES);
    server.revisions.push("v2");
    server.isGated = true;
    const values = { HF_ENDPOINT: `${server.endpoint}/`, HF_HOME: home, HF_TOKEN: ` ${TOKEN}\n` };
    const hooks = { baseDir: home, variable: only(values) };
    const dir = join(home, "hub", "models--org--name", "snapshots", COMMIT);
    assert.deepEqual(
      await resolveModel({ model_path: "org/name@v2" }, { ...hooks, configOnly: true }),
      { dir, name: "org/name@v2", commit: COMMIT },
    );
    assert.deepEqual(server.asked(), ["config.json"]);
    let done = 0;
    const model_path = "org/name";
    assert.deepEqual(
      await resolveModel({ model_path }, { ...hooks, onProgress: ({ bytesDone }) => done = bytesDone }),
      { dir, name: "org/name", commit: COMMIT },
    );
    assert.equal(done, 1006);
    await assert.rejects(resolveModel({ model_path: "org/other" }, hooks), (error) => {
      assert.equal((error as Error).name, "HubNotFoundError");
      assert.ok((error as Error).message.includes(`there is no folder ${join(home, "org/other")}`));
      return true;
    });
    await assert.rejects(
      resolveModel({ model_path: "org/name@v3" }, hooks),
      { name: "HubNotFoundError", message: /no revision "v3"/ },
    );
    server.requests.length = 0;
    const variable = only({ ...values, HF_HUB_OFFLINE: "1" });
    assert.equal((await resolveModel({ model_path }, { ...hooks, variable }))?.dir, dir);
    assert.deepEqual(server.requests, []);
  });
});

Deno.test("model source: a family and size are downloaded as the model they mean", async () => {
  await withFolder(async (home) => {
    await using server = new HubServer("EleutherAI/pythia-70m-deduped", FILES);
    const variable = only({ HF_ENDPOINT: server.endpoint, HF_HUB_CACHE: home, HF_HOME: home });
    const source = await resolveModel({ model_family: "eleuther", model_size: "70M" }, { variable });
    assert.equal(source?.name, "EleutherAI/pythia-70m-deduped");
    assert.equal(source?.dir, join(home, "models--EleutherAI--pythia-70m-deduped", "snapshots", COMMIT));
  });
});

Deno.test("model source: the table of families", () => {
  assert.deepEqual(Object.keys(MODEL_FAMILIES), ["Eleuther", "llama", "mistral", "microsoft", "gemma"]);
  for (const [family, sizes] of Object.entries(MODEL_FAMILIES)) {
    for (const [size, id] of Object.entries(sizes)) {
      assert.ok(isModelId(id), id);
      assert.equal(familyModel(family.toUpperCase(), size.toUpperCase()), id);
      assert.equal(familyModel(family.toLowerCase(), size.toLowerCase()), id);
    }
  }
  // What finetune_multigpu.py of OML 1.0 loads for these.
  assert.equal(familyModel("Eleuther", "1.4b"), "EleutherAI/pythia-1.4b-deduped");
  assert.equal(familyModel("llama", "3B"), "meta-llama/Llama-3.2-3B");
  assert.equal(familyModel("llama", "8B"), "meta-llama/Meta-Llama-3.1-8B");
  assert.equal(familyModel("mistral", "7B"), "mistralai/Mistral-7B-v0.3");
  assert.equal(familyModel("mistral", null), "mistralai/Mistral-7B-v0.3");
  assert.equal(familyModel("microsoft", "mini-4k"), "microsoft/Phi-3-mini-4k-instruct");
  assert.equal(familyModel("gemma", "9B"), "google/gemma-2-9b");
  assert.throws(() => familyModel("falcon", "7B"), {
    name: "SettingsError",
    message: /expected one of Eleuther, llama, mistral, microsoft, gemma, found "falcon"/,
  });
  assert.throws(
    () => familyModel("llama", "7B"),
    /expected one of 1B, .*8B.* for the family llama, found "7B"/,
  );
  assert.throws(() => familyModel("gemma", null), /expected one of 2b, .* found none/);
});

Deno.test("model source: org/name@revision", () => {
  assert.deepEqual(parseHubModel("org/name"), { id: "org/name" });
  assert.deepEqual(parseHubModel("org/name@refs/pr/1"), { id: "org/name", revision: "refs/pr/1" });
  for (const text of ["org/name@", "org/name@a b", "org/name@../x", "name", "@main", "org/name/@main"]) {
    assert.equal(parseHubModel(text), null, text);
  }
});

Deno.test("model source: the cache, token and endpoint of the environment", async () => {
  await withFolder(async (home) => {
    await fill(join(home, ".cache", "huggingface"), { token: "of_the_file\n" });
    await fill(join(home, "elsewhere"), { secret: "\r\nof_elsewhere " });
    const HOME = { HOME: home, USERPROFILE: home };
    const cases: [Record<string, string>, Awaited<ReturnType<typeof hubEnvironment>>][] = [];
    const add = (variables: Record<string, string>, cacheDir: string, token?: string, offline = false) =>
      cases.push([{ ...HOME, ...variables }, {
        endpoint: "https://huggingface.co",
        cacheDir,
        token,
        offline,
      }]);
    const standard = join(home, ".cache", "huggingface", "hub");
    add({}, standard, "of_the_file");
    add({ HF_TOKEN: "", HF_HUB_OFFLINE: "0", HF_HUB_CACHE: "" }, standard, "of_the_file");
    add({ HF_TOKEN: "of_the_variable", HF_HUB_OFFLINE: "True" }, standard, "of_the_variable", true);
    add({ HUGGING_FACE_HUB_TOKEN: "old", TRANSFORMERS_OFFLINE: "1" }, standard, "old", true);
    add({ HF_HUB_OFFLINE: "0", TRANSFORMERS_OFFLINE: "1" }, standard, "of_the_file");
    add({ HF_HUB_DISABLE_IMPLICIT_TOKEN: "1", HF_TOKEN: "unused" }, standard);
    add({ HF_TOKEN_PATH: "~/elsewhere/secret" }, standard, "of_elsewhere");
    add({ XDG_CACHE_HOME: join(home, "xdg") }, join(home, "xdg", "huggingface", "hub"));
    add({ HF_HOME: "~/hf", XDG_CACHE_HOME: join(home, "xdg") }, join(home, "hf", "hub"));
    add({ HF_HOME: "/unused", HUGGINGFACE_HUB_CACHE: join(home, "old") }, join(home, "old"));
    add(
      { HF_HUB_CACHE: join(home, "new"), HUGGINGFACE_HUB_CACHE: "/unused" },
      join(home, "new"),
      "of_the_file",
    );
    for (const [values, expected] of cases) {
      assert.deepEqual(await hubEnvironment(only(values)), expected, JSON.stringify(values));
    }
    const mirror = only({ ...HOME, HF_ENDPOINT: "https://mirror.example" });
    assert.equal((await hubEnvironment(mirror)).endpoint, "https://mirror.example");
  });
});

Deno.test({
  name: "model source: variables that may not be read count as not set",
  permissions: { read: true, env: ["HOME", "USERPROFILE"] },
  fn: async () => {
    const { endpoint, cacheDir, offline } = await hubEnvironment();
    assert.deepEqual({ endpoint, offline }, { endpoint: "https://huggingface.co", offline: false });
    assert.ok(cacheDir.endsWith(join(".cache", "huggingface", "hub")));
  },
});
