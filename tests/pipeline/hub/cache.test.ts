import assert from "node:assert/strict";
import { join } from "node:path";
import { HubUnreachableError } from "../../../pipeline/hub/hub.ts";
import { FileWriteError } from "../../../engine/io/atomic.ts";
import { COMMIT } from "./server.ts";
import { assertHolds, ID, nobody, SMALL, WEIGHTS, withHub } from "./support.ts";
import { fill, names } from "../../io/support.ts";

const MODEL = { ...SMALL, "model.safetensors": WEIGHTS };

Deno.test("hub cache: a second call asks for the commit only, and for a commit nothing at all", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    const first = await download();
    server.requests.length = 0;
    assert.deepEqual(await download(), first);
    assert.deepEqual(server.requests.map(({ path }) => path), [`/api/models/${ID}/revision/main`]);
    server.requests.length = 0;
    assert.deepEqual(await download({}, COMMIT), first);
    assert.deepEqual(server.requests, []);
  });
});

Deno.test("hub cache: configOnly brings config.json, and a whole download goes on from there", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    const { dir } = await download({ configOnly: true });
    assert.deepEqual(server.asked(), ["config.json"]);
    assert.deepEqual(await names(dir), ["config.json"]);
    await assert.rejects(download({ offline: true }), {
      name: "HubUnreachableError",
      message: /it lacks .*model/,
    });
    assert.equal((await download({ offline: true, configOnly: true })).dir, dir);
    await download();
    assert.deepEqual(server.asked(), Object.keys(MODEL).sort());
  });
});

Deno.test("hub cache: configOnly of a new commit leaves the complete old one to offline runs", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    const old = await download();
    server.commit = "f".repeat(40);
    assert.equal((await download({ configOnly: true })).commit, server.commit);
    assert.deepEqual(await download({ offline: true }), old);
    // Same content: the new commit links to the blobs that are there.
    server.requests.length = 0;
    assert.equal((await download()).commit, server.commit);
    assert.deepEqual(server.asked(), []);
    assert.equal((await download({ offline: true })).commit, server.commit);
  });
});

Deno.test("hub cache: a snapshot of the Python tools is used as it is, offline and online", async () => {
  await withHub(MODEL, async ({ server, download, inCache }) => {
    await fill(inCache("refs"), { main: COMMIT });
    await fill(inCache("blobs"), { b0: "{}", b1: "{}", b2: "{}", b3: WEIGHTS });
    await Deno.mkdir(inCache("snapshots", COMMIT), { recursive: true });
    for (const [i, name] of Object.keys(MODEL).entries()) {
      await Deno.symlink(`../../blobs/b${i}`, inCache("snapshots", COMMIT, name), { type: "file" });
    }
    const expected = { dir: inCache("snapshots", COMMIT), commit: COMMIT };
    assert.deepEqual(await download(), expected);
    assert.deepEqual(server.asked(), []);
    server.requests.length = 0;
    assert.deepEqual(await download({ offline: true }), expected);
    assert.deepEqual(await download({ offline: true }, COMMIT), expected);
    assert.deepEqual(server.requests, []);
    assert.deepEqual(await download({ endpoint: nobody() }), expected);
    await Deno.remove(inCache("blobs", "b3"));
    await assert.rejects(download({ offline: true }), { name: "HubUnreachableError" });
    await download();
    assert.deepEqual(server.asked("storage"), ["model.safetensors"]);
  });
});

Deno.test("hub cache: nothing cached and no network, or offline", async () => {
  await withHub(MODEL, async ({ server, download, cacheDir }) => {
    const endpoint = nobody();
    await assert.rejects(download({ endpoint, retries: 2 }), (error) => {
      assert.ok(error instanceof HubUnreachableError);
      assert.match(error.message, /3 attempts/);
      for (const part of [endpoint, ID, cacheDir, "HF_ENDPOINT", "HTTPS_PROXY"]) {
        assert.ok(error.message.includes(part), `${part} in ${error.message}`);
      }
      return true;
    });
    await assert.rejects(download({ offline: true }), {
      name: "HubUnreachableError",
      message: /HF_HUB_OFFLINE/,
    });
    assert.deepEqual(server.requests, []);
  });
});

Deno.test("hub cache: a revision with a slash", async () => {
  await withHub(MODEL, async ({ server, download, inCache }) => {
    server.revisions.push("refs/pr/7");
    await download({}, "refs/pr/7");
    assert.equal(await Deno.readTextFile(inCache("refs", "refs", "pr", "7")), COMMIT);
    await download({ offline: true }, "refs/pr/7");
  });
});

Deno.test("hub cache: more bytes than the disk has free", async () => {
  await withHub(MODEL, async ({ server, download }) => {
    const size = 2 ** 52;
    server.intercept = ({ path }) =>
      path.includes("/tree/")
        ? Response.json([
          { type: "file", path: "config.json", size: 2, oid: "a".repeat(40) },
          { type: "file", path: "model.safetensors", size, lfs: { oid: "b".repeat(64), size } },
        ])
        : undefined;
    await assert.rejects(download(), (error) => {
      assert.ok(error instanceof FileWriteError && error.code === "ENOSPC");
      assert.match(error.message, /needs 4194304\.0 GiB, and .* are free/);
      return true;
    });
    assert.deepEqual(server.asked(), []);
  });
});

Deno.test("hub cache: without symbolic links the snapshot has the files themselves", async () => {
  await withHub(MODEL, async ({ server, download, inCache }) => {
    const symlink = Deno.symlink;
    Deno.symlink = () => Promise.reject(new Deno.errors.PermissionDenied("no links here"));
    try {
      const { dir } = await download();
      assert.ok((await Deno.lstat(join(dir, "model.safetensors"))).isFile);
      assert.deepEqual(await names(inCache("blobs")), []);
      await assertHolds(join(dir, "model.safetensors"), WEIGHTS);
    } finally {
      Deno.symlink = symlink;
    }
    server.requests.length = 0;
    await download();
    assert.deepEqual(server.asked(), []);
  });
});
