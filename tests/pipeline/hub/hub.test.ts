import assert from "node:assert/strict";
import { join } from "node:path";
import {
  HubAccessError,
  HubError,
  HubNotFoundError,
  type HubProgress,
  isModelId,
  isRevision,
} from "../../../pipeline/hub/hub.ts";
import { COMMIT, TOKEN } from "./server.ts";
import { assertHolds, ID, noise, SMALL, WEIGHTS, withHub } from "./support.ts";
import { names } from "../../io/support.ts";

const MODEL = { ...SMALL, "model.safetensors": WEIGHTS };
const SHARDS = {
  "model-00001-of-00002.safetensors": noise(5000, 2),
  "model-00002-of-00002.safetensors": noise(7000, 3),
};
const index = (...files: string[]) =>
  JSON.stringify({ weight_map: Object.fromEntries(files.map((file, i) => [`t${i}`, file])) });

Deno.test("hub: a model comes whole, in the layout of the Python tools", async () => {
  await withHub(MODEL, async ({ server, download, inCache }) => {
    const progress: HubProgress[] = [];
    const model = await download({ onProgress: (event) => progress.push(event) });
    assert.deepEqual(model, { dir: inCache("snapshots", COMMIT), commit: COMMIT });
    assert.deepEqual(await names(model.dir), Object.keys(MODEL).sort());
    await assertHolds(join(model.dir, "model.safetensors"), WEIGHTS);
    assert.equal(await Deno.readTextFile(inCache("refs", "main")), COMMIT);
    const blobs = Object.keys(MODEL).map((name) => server.etag(name));
    assert.deepEqual(await names(inCache("blobs")), blobs.sort());
    assert.match(server.etag("model.safetensors"), /^[0-9a-f]{64}$/);
    // git hash-object of the same content.
    assert.equal(server.etag("tokenizer_config.json"), "9e26dfeeb6e641a33dae4961196235bdb965b21b");
    if (Deno.build.os !== "windows") {
      const link = await Deno.readLink(join(model.dir, "config.json"));
      assert.equal(link, `../../blobs/${server.etag("config.json")}`);
    }
    const total = Object.keys(MODEL).reduce(
      (sum, name) => sum + server.files.get(name)!.content.byteLength,
      0,
    );
    assert.deepEqual(progress.at(-1), { file: "model.safetensors", bytesDone: total, bytesTotal: total });
    assert.ok(progress.every((event, i) => i === 0 || event.bytesDone >= progress[i - 1].bytesDone));
  });
});

Deno.test("hub: only the files that are needed are asked for", async () => {
  const extra = {
    "generation_config.json": '{"top_k": 1}',
    "chat_template.jinja": "{{ messages }}",
    "LICENSE": "terms",
    "USE_POLICY.md": "policy",
    "big.md": " ".repeat(2 ** 20 + 1),
    "pytorch_model.bin": noise(100, 4),
    "consolidated.safetensors": noise(100, 5),
    "model.fp16.safetensors": noise(100, 6),
    "model.gguf": noise(100, 7),
    "model.safetensors.index.json": index("model.safetensors"),
    "modeling_custom.py": "code",
    ".gitattributes": "",
  };
  await withHub({ ...MODEL, ...extra }, async ({ server, download }) => {
    const { dir } = await download();
    const wanted = [...Object.keys(MODEL), "generation_config.json", "chat_template.jinja", "LICENSE"];
    assert.deepEqual(server.asked(), [...wanted, "USE_POLICY.md"].sort());
    assert.deepEqual(await names(dir), [...wanted, "USE_POLICY.md"].sort());
  });
});

Deno.test("hub: a sharded model, listed in pages; each shard once", async () => {
  const files = { ...SMALL, ...SHARDS, "model.safetensors.index.json": index(...Object.keys(SHARDS)) };
  await withHub(
    { ...files, "model-00003-of-00003.safetensors": noise(10, 8) },
    async ({ server, download }) => {
      server.pageSize = 2;
      const totals = new Set<number>();
      const { dir } = await download({ onProgress: ({ bytesTotal }) => totals.add(bytesTotal) });
      assert.deepEqual(await names(dir), Object.keys(files).sort());
      assert.deepEqual(server.asked("storage"), Object.keys(SHARDS));
      assert.equal(totals.size, 1);
      assert.ok(server.requests.some(({ query }) => query.includes("cursor=6")));
    },
  );
});

for (
  const name of [
    "../../../evil.safetensors",
    "/etc/evil.safetensors",
    "a\\b.safetensors",
    ".hidden.safetensors",
  ]
) {
  Deno.test(`hub: an index that names ${name} is refused`, async () => {
    const files = { ...SMALL, ...SHARDS, "model.safetensors.index.json": index(name) };
    await withHub(files, async ({ download, cacheDir }) => {
      await assert.rejects(
        download(),
        (error) => error instanceof HubError && error.message.includes(JSON.stringify(name)),
      );
      assert.deepEqual(await names(cacheDir), [".locks", "models--some-org--some-model"]);
    });
  });
}

Deno.test("hub: an index with a shard that the repository lacks", async () => {
  const files = { ...SMALL, ...SHARDS, "model.safetensors.index.json": index("other.safetensors") };
  await withHub(files, async ({ download }) => {
    await assert.rejects(download(), { name: "HubNotFoundError", message: /has no other\.safetensors/ });
  });
});

const entry = { type: "file", path: "config.json", size: 2, oid: "a".repeat(40) };
for (
  const [what, answer] of Object.entries({
    "a path that leaves the folder": [{ ...entry, path: "../config.json" }],
    "a hash that is a path": [{ ...entry, oid: "../../../evil" }],
    "a size below zero": [{ ...entry, size: -1 }],
    "no list": { error: "odd" },
    "null": [null],
  })
) {
  Deno.test(`hub: a list of files with ${what} is refused`, async () => {
    await withHub(MODEL, async ({ server, download, cacheDir }) => {
      server.intercept = ({ path }) => path.includes("/tree/") ? Response.json(answer) : undefined;
      await assert.rejects(download(), { name: "HubError" });
      assert.deepEqual(await names(cacheDir), []);
    });
  });
}

Deno.test("hub: a commit that is none is refused", async () => {
  await withHub(MODEL, async ({ server, download, cacheDir }) => {
    server.commit = "../../../../evil";
    await assert.rejects(download(), /expected http.* to name the commit of main, found "\.\./);
    server.intercept = () => new Response("<html>a login page</html>");
    await assert.rejects(download(), { name: "HubError", message: /is not the Hub's/ });
    assert.deepEqual(await names(cacheDir), []);
  });
});

Deno.test("hub: no safetensors, no config.json", async () => {
  await withHub({ ...SMALL, "pytorch_model.bin": WEIGHTS }, async ({ server, download }) => {
    await assert.rejects(download(), {
      name: "HubNotFoundError",
      message: /has no safetensors weights.*it has pytorch_model\.bin: convert/,
    });
    assert.deepEqual(server.asked(), []);
    server.files.delete("config.json");
    await assert.rejects(download(), { name: "HubNotFoundError", message: /has no config\.json/ });
    server.files.clear();
    await assert.rejects(download(), { name: "HubNotFoundError", message: /has no config\.json/ });
  });
});

Deno.test("hub: a gated model says how to get in, and comes with a token", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    server.isGated = true;
    const page = `${server.endpoint}/${ID}`;
    await assert.rejects(download(), (error) => {
      assert.ok(error instanceof HubAccessError);
      for (const part of ["gated", page, "HF_TOKEN", "/settings/tokens"]) {
        assert.ok(error.message.includes(part));
      }
      return true;
    });
    server.intercept = ({ path }) =>
      path.includes("/resolve/")
        ? new Response("", { status: 403, headers: { "x-error-code": "GatedRepo" } })
        : undefined;
    await assert.rejects(download({ token: TOKEN }), {
      name: "HubAccessError",
      message: /the account of the access token has no access/,
    });
    server.intercept = () => undefined;
    await download({ token: TOKEN });
  });
});

Deno.test("hub: the token goes to the Hub only, and into no message", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    await download({ token: TOKEN });
    const seen = new Set(server.requests.map(({ host, authorization }) => `${host} ${authorization}`));
    assert.deepEqual([...seen].sort(), [`hub Bearer ${TOKEN}`, "storage null"]);
  });
  await withHub(MODEL, async ({ download }) => {
    for (const token of ["hf_wrong", "hf_br\u00f6ken"]) {
      await assert.rejects(download({ token }), (error) => {
        assert.ok(error instanceof HubAccessError);
        assert.ok(!`${error.message} ${error.stack} ${error.cause}`.includes(token));
        return true;
      });
    }
  });
});

Deno.test("hub: no such repository, revision; a private one", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    await assert.rejects(download({}, "v9"), (error) => {
      assert.ok(error instanceof HubNotFoundError && error.what === "revision");
      assert.ok(error.message.includes(ID) && error.message.includes('"v9"'));
      return true;
    });
    server.isPrivate = true;
    await assert.rejects(download(), (error) => {
      assert.ok(error instanceof HubNotFoundError && error.what === "repository");
      assert.match(error.message, /some-org\/some-model \(revision "main"\), or it is private .* HF_TOKEN/);
      return true;
    });
    await download({ token: TOKEN });
    // Gone from sight, but still in the cache.
    await download();
  });
});

Deno.test("hub: names of models and revisions", async () => {
  for (const id of ["a/b", "meta-llama/Llama-3.2-1B", "org/_x", "EleutherAI/pythia-1.4b-deduped"]) {
    assert.ok(isModelId(id), id);
  }
  const none = [
    "",
    "a",
    "a/b/c",
    "/b",
    "a/",
    "../b",
    "a/..",
    "a/b..c",
    "a/-b",
    "a/b--c",
    "a/b.git",
    "a b/c",
    "a/b\\c",
  ];
  for (const id of [...none, `a/${"b".repeat(97)}`]) assert.ok(!isModelId(id), id);
  for (const revision of ["main", "v1.0", "refs/pr/1", COMMIT, "feature/a-b"]) {
    assert.ok(isRevision(revision));
  }
  for (
    const revision of [
      "",
      "..",
      "../x",
      "a/../b",
      "/a",
      "a/",
      "a//b",
      "a\\b",
      "a b",
      "-a",
      "a/.b",
      "a:b",
      "a\0",
    ]
  ) {
    assert.ok(!isRevision(revision), revision);
  }
  await withHub(MODEL, async ({ download, server }) => {
    await assert.rejects(download({}, "../main"), RangeError);
    await assert.rejects(download({ endpoint: "huggingface.co" }), { name: "HubError", message: /endpoint/ });
    assert.deepEqual(server.requests, []);
  });
});
