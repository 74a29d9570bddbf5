import assert from "node:assert/strict";
import { join } from "node:path";
import {
  denoFlags,
  type FolderFacts,
  neededPermissions,
  outsideText,
  type Permissions,
  type Surroundings,
} from "../../cli/permissions.ts";
import { ModelCache } from "../../pipeline/hub/cache.ts";

const OWN = ["assets", "engine", "pipeline", "shaders", "cli/watch_signals.ts"].map((name) =>
  `/whorl/${name}`
);

/** A machine with these folders (with their links) and these variables, seen from /home/me. */
function machine(
  folders: Record<string, Partial<FolderFacts>> = {},
  variables: Record<string, string> = {},
): Surroundings {
  return {
    folder: "/home/me",
    project: "/whorl",
    variable: (name) => ({ HOME: "/home/me", ...variables })[name],
    real: (path) => folders[path]?.real ?? path,
    look: (path) => folders[path] && { real: path, links: [], ...folders[path] },
    dawnFolders: () => Promise.resolve(["/npm/webgpu"]),
  };
}

/** What is needed beside Whorl's own folders, each once. */
async function needed(line: string | string[], around = machine()): Promise<Permissions> {
  const args = typeof line === "string" ? line.split(" ") : line;
  const found = await neededPermissions(args, around);
  const lists = Object.entries(found).map(([name, list]) => [name, [...new Set(list)]]);
  const result = Object.fromEntries(lists) as Permissions;
  for (const path of OWN) assert.ok(result.read.includes(path), path);
  result.read = result.read.filter((path) => !OWN.includes(path));
  return result;
}

const ignore = Deno.build.os === "windows";

Deno.test({
  name: "permissions: each command's own, without a model",
  ignore,
  async fn() {
    const finetune = await needed("finetune");
    assert.deepEqual(finetune.read, ["/home/me/results"]);
    assert.deepEqual(finetune.write, ["/home/me/results"]);
    assert.deepEqual(finetune.sys, ["systemMemoryInfo", "hostname", "statfs"]);
    const plan = await needed("finetune --dry_run");
    assert.deepEqual([plan.read, plan.write], [["/home/me/results"], []]);
    const generate = await needed("generate");
    assert.deepEqual(generate.write, ["/home/me/generated_data"]);
    assert.ok(!generate.sys.includes("systemMemoryInfo"));
    const check = await needed("check");
    assert.deepEqual([check.read, check.write, check.sys], [[], [], []]);
    for (const { net, ffi, deny, env } of [finetune, plan, generate, check]) {
      assert.deepEqual([net, ffi, deny], [[], [], []]);
      assert.ok(env.includes("INIT_CWD") && !env.includes("HOME") && !env.includes("HF_TOKEN"));
    }
  },
});

Deno.test({
  name: "permissions: flags in all their forms, paths from the caller's folder",
  ignore,
  async fn() {
    const around = machine({ "/home/me/m": {}, "/m": {} });
    const expected = ["/home/me/f.json", "/home/me/out", "/home/me/m"];
    const forms = [
      "finetune --model_path m --fingerprints_file_path f.json --output_dir out",
      "finetune --model-path=m --fingerprints-file-path=f.json --output-dir=out",
      "finetune --force --model_path ./m --strict true --fingerprints_file_path=../me/f.json --output_dir=out/",
      "finetune --model_path elsewhere --model_path m --fingerprints_file_path f.json --output_dir out",
    ];
    for (const form of forms) {
      const { read, write } = await needed(form, around);
      assert.deepEqual(new Set(read), new Set(expected), form);
      assert.deepEqual(write, ["/home/me/out"]);
    }
    // The argument of a path may look like a flag.
    assert.deepEqual((await needed(["finetune", "--output_dir", "--force"])).write, ["/home/me/--force"]);
    const alias = await needed("generate --model_path /m --output_file a/b.json --keys-file k", around);
    assert.deepEqual(alias.write, ["/home/me/a"]);
    assert.deepEqual(new Set(alias.read), new Set(["/home/me/a", "/home/me/k", "/m"]));
    const writers = await needed(
      "generate --model_used_for_key_generation m --inverse_nucleus_model /m",
      around,
    );
    assert.deepEqual(writers.read.slice(1), ["/home/me/m", "/m"]);
    const benign = await needed("finetune --benign_data_file_path /data/t.jsonl");
    assert.ok(benign.read.includes("/data/t.jsonl") && !benign.write.includes("/data/t.jsonl"));
  },
});

Deno.test({
  name: "permissions: what the command will refuse needs none",
  ignore,
  async fn() {
    for (
      const line of ["", "nonsense", "--help", "finetune --help", "check --no_such_flag", "check --seed x"]
    ) {
      const { read, write, net } = await needed(line);
      assert.deepEqual([read, write, net], [[], [], []], line);
    }
    // A name that is neither a folder nor the Hub's: to look whether it is there.
    const { read, net } = await needed("check --model_path no/such/folder");
    assert.deepEqual([read, net], [["/home/me/no/such/folder"], []]);
  },
});

Deno.test({
  name: "permissions: a model of the Hub takes its hosts, its part of the cache and the variables",
  ignore,
  async fn() {
    for (const line of ["check --model_path org/some.model@v1", "check --model-path=org/some.model"]) {
      const { read, write, net, env } = await needed(line);
      const hub = "/home/me/.cache/huggingface/hub";
      const cache = new ModelCache(hub, "org/some.model");
      assert.deepEqual(write, [cache.dir, join(hub, ".locks", "models--org--some.model")]);
      assert.deepEqual(read.slice(1), [...write, "/home/me/.cache/huggingface/token"]);
      assert.deepEqual(net, ["huggingface.co", "*.huggingface.co", "*.hf.co"]);
      for (const name of ["HF_TOKEN", "HF_HUB_CACHE", "HOME"]) assert.ok(env.includes(name), name);
    }
    const mirror = machine({}, {
      HF_ENDPOINT: "http://mirror.example:8080/hf",
      HF_HUB_CACHE: "/c",
      HF_TOKEN_PATH: "~/t",
      WHORL_ALLOW_NET: "store.example, other.example:81",
    });
    const family = await needed("finetune --model_family llama --model_size 1B --output_dir o", mirror);
    assert.deepEqual(family.net, [
      "mirror.example:8080",
      "huggingface.co",
      "*.huggingface.co",
      "*.hf.co",
      "store.example",
      "other.example:81",
    ]);
    assert.ok(family.read.includes("/home/me/t"));
    assert.deepEqual(family.write.slice(1), [
      "/c/models--meta-llama--Llama-3.2-1B",
      "/c/.locks/models--meta-llama--Llama-3.2-1B",
    ]);
    // A folder of that name comes first.
    const folder = await needed("check --model_path org/name", machine({ "/home/me/org/name": {} }));
    assert.deepEqual([folder.net, folder.write, folder.read], [[], [], ["/home/me/org/name"]]);
    const writer = await needed("generate --model_used_for_key_generation org/name");
    assert.equal(writer.net.length, 3);
  },
});

Deno.test({
  name: "permissions: what lies beside a model that finetune wrote, and Dawn",
  ignore,
  async fn() {
    const found = await needed(
      "check --model_path r/h/final_model",
      machine({ "/home/me/r/h/final_model": {} }),
    );
    assert.deepEqual(found.read.slice(1), ["/home/me/r/h/secret", "/home/me/r/h/config.json"]);
    const moved = await needed("check --fingerprints_file_path r/h/secret/fingerprints.json");
    assert.deepEqual(moved.read, ["/home/me/r/h/secret/fingerprints.json", "/home/me/r/h/config.json"]);
    const dawn = await needed("check --webgpu dawn");
    assert.deepEqual([dawn.ffi, dawn.read], [["/npm/webgpu"], ["/npm/webgpu"]]);
  },
});

Deno.test({
  name: "permissions: links in a model's folder lead to where the command may read anyway",
  ignore,
  async fn() {
    const links = [
      { path: "inside", real: "/m/config.json" },
      { path: "outside", real: "/home/me/.ssh/id_rsa" },
      { path: "sub/beside", real: "/model2/x" },
      { path: "nowhere", real: undefined },
      { path: "project", real: "/whorl/results/h/secret" },
      { path: "output", real: "/home/me/results/x" },
    ];
    const { deny, read } = await needed("finetune --model_path /m", machine({ "/m": { links } }));
    assert.deepEqual(deny, ["/m/outside", "/m/sub/beside", "/m/nowhere", "/m/project"]);
    assert.ok(!read.some((path) => path.includes(".ssh")));
    // Under both of its names where the folder itself is reached through a link.
    const linked = await needed("check --model_path a", machine({ "/home/me/a": { real: "/m", links } }));
    assert.ok(linked.deny.includes("/home/me/a/outside") && linked.deny.includes("/m/outside"));
    assert.ok(linked.read.includes("/m"));
    const allowed = machine({ "/m": { links } }, { WHORL_ALLOW_READ: "/model2,../me/.ssh" });
    assert.deepEqual((await needed("check --model_path /m", allowed)).deny, [
      "/m/nowhere",
      "/m/project",
      "/m/output",
    ]);
    await assert.rejects(
      needed("finetune --model_path /m --output_dir /m/output/x", machine({ "/m": { links } })),
      {
        name: "PermissionsError",
        message:
          /^\/m\/output\/x: expected a folder to write to, found a link .*\(to \/home\/me\/results\/x\)/,
      },
    );
    const snapshot = {
      "/c/models--o--n/snapshots/abc": {
        links: [
          { path: "config.json", real: "/c/models--o--n/blobs/1" },
          { path: "tokenizer.json", real: "/c/models--o--other/blobs/1" },
        ],
      },
    };
    const cached = await needed("check --model_path /c/models--o--n/snapshots/abc", machine(snapshot));
    assert.ok(cached.read.includes("/c/models--o--n/blobs"));
    assert.deepEqual(cached.deny, ["/c/models--o--n/snapshots/abc/tokenizer.json"]);
  },
});

Deno.test({
  name: "permissions: deno's flags; a comma in a path",
  ignore,
  fn() {
    const none: Permissions = { read: [], deny: [], write: [], env: [], sys: [], net: [], ffi: [] };
    assert.deepEqual(denoFlags(none, "/"), ["--no-prompt"]);
    const some = { ...none, read: ["/a b", "/c", "/c"], deny: ["/c/d"], net: ["h:1"], ffi: ["/x"] };
    assert.deepEqual(denoFlags(some, "/"), [
      "--no-prompt",
      "--allow-read=/a b,/c",
      "--deny-read=/c/d",
      "--deny-write=/c/d",
      "--allow-net=h:1",
      "--allow-ffi=/x",
    ]);
    // The project's own folder is where the command starts.
    const within = { ...none, read: ["/p,q/assets", "/p,q"] };
    assert.deepEqual(denoFlags(within, "/p,q"), ["--no-prompt", "--allow-read=assets,."]);
    for (const list of ["read", "deny", "write", "ffi"] as const) {
      for (const path of ["/m,/", "/p,q/a,b", "/p"]) {
        const permissions = { ...none, [list]: [path + ","] };
        assert.throws(() => denoFlags(permissions, "/p,q"), {
          name: "PermissionsError",
          message: /a path with a comma can't be named/,
        });
      }
    }
  },
});

Deno.test("permissions: what Deno refuses is said in our words", async () => {
  const program = `for (const work of [
    () => Deno.readTextFileSync("/a b"), () => Deno.writeTextFileSync("/w", ""), () => fetch("http://evil.example/"),
    () => new Deno.Command("ls").outputSync(), () => Deno.env.get("SECRET"),
  ]) try { await work() } catch (error) { console.log(error.message) }`;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, program);
    const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["run", "--no-prompt", file] })
      .output();
    const lines = outsideText(new TextDecoder().decode(stdout)).trim().split("\n");
    const where = "(docs/permissions.md)";
    const about = (what: string, verb: string) =>
      `${what} is outside of what this command may ${verb} ${where}`;
    assert.deepEqual(lines, [
      about("/a b", "read"),
      about("/w", "write"),
      about("evil.example:80", "reach"),
      about("ls", "run"),
      about("SECRET", "use (env)"),
    ]);
  } finally {
    await Deno.remove(file);
  }
});
